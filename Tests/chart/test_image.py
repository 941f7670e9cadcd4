"""The Dockerfile, as far as that goes without a container engine."""

import re
import subprocess
from pathlib import Path

import pytest
from chart import REPOSITORY, containers, pods, render
from processes import binaries

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
FINAL = DOCKERFILE.rsplit("\nFROM ", 1)[1]
PROGRAMS = ["holdfast", "holdfast-agent", "holdfast-server"]


def loaded():
    """What the programs load, by where it is here."""
    found = set()
    for program in PROGRAMS:
        path = binaries() / program
        if not path.exists():
            pytest.fail(f"{path} is missing: `make build`, or set HOLDFAST_BIN")
        text = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        assert "not found" not in text
        found |= set(re.findall(r"=> (/\S+)", text))
    return found


def from_swift(library):
    return "/lib/swift/linux/" in library


def depends(package):
    """The package and all that it cannot be without."""
    found, waiting = set(), [package]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            fields = subprocess.run(
                ["dpkg-query", "--show", "--showformat=${Depends},${Pre-Depends}", name], capture_output=True, text=True).stdout
            waiting += [re.split(r"[ :(]", choice.split("|")[0].strip())[0] for choice in fields.split(",") if choice.strip()]
    return found


def owners(libraries):
    """Debian's packages that the libraries are of. The same file may be known below /lib and /usr/lib."""
    known = {}
    for name in libraries:
        for path in (name, f"/usr{name}", str(Path(name).resolve())):
            known[path] = name
    answer = subprocess.run(["dpkg-query", "--search", *known], capture_output=True, text=True).stdout
    found = {known[path]: package for package, path in re.findall(r"^([^:]+)(?::\S+)?: (\S+)$", answer, re.M)}
    assert found.keys() == set(libraries), f"of no package: {set(libraries) - found.keys()}"
    return set(found.values())


def packages():
    return re.search(r"^ +/image-packages (.*)", FINAL, re.M)[1].split()


def test_the_packages_of_the_image_are_those_whose_libraries_the_programs_load():
    needed = owners({library for library in loaded() if not from_swift(library)})
    brought = {name: depends(name) for name in packages()}
    assert needed <= set().union(*brought.values())
    for name in brought:
        assert name in needed, f"nothing loads {name}"


def test_the_libraries_of_the_toolchain_are_found_for_the_image():
    printed = subprocess.run(
        [REPOSITORY / "scripts/swift-libraries", *(binaries() / program for program in PROGRAMS)], capture_output=True,
        text=True, check=True).stdout.split()
    assert set(printed) == {library for library in loaded() if from_swift(library)}
    assert any(library.endswith("/libswiftCore.so") for library in printed)


def test_the_plugin_in_the_image_is_the_static_one():
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "swift build -c release --product holdfast-cni --scratch-path .build-static $(plugin)" in makefile
    assert re.search(r"^plugin = (.*\\\n)*.*-Xclang-linker -Xswiftc -static", makefile, re.M)
    assert "install .build-static/release/holdfast-cni $(DESTDIR)$(CNI_BIN)" in makefile
    assert "make release" in DOCKERFILE and "make install DESTDIR=/image CNI_BIN=/usr/local/bin" in DOCKERFILE


def test_the_chart_s_containers_run_what_the_image_has_as_whom_it_says():
    user = re.search(r"^USER (\d+):(\d+)$", FINAL, re.M)
    for owner_object, pod, _ in pods(render()):
        context = pod["securityContext"]
        if owner_object["kind"] != "DaemonSet":
            assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user.groups()
    for _, _, container in containers(render()):
        assert container["command"][0].removeprefix("/usr/local/bin/") in PROGRAMS
    assert 'ENTRYPOINT ["/usr/local/bin/holdfast-server"]' in FINAL


def test_the_build_gets_what_the_package_is_made_of_and_neither_builds_nor_history():
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    manifest = (REPOSITORY / "Package.swift").read_text()
    folders = {path.split("/")[0] for path in re.findall(r'path: "([^"]+)"', manifest)} | {"Sources", "Tests"}
    assert folders | {"Package.swift", "Makefile", "scripts"} <= allowed
    assert not {".git", ".build", ".venv", "charts"} & allowed
