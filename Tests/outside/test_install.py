"""`holdfast-agent install` and `uninstall`, and the plugin as one static file."""

import os
import re
import struct
import subprocess
import threading

import pytest
from processes import REPOSITORY, binaries, environment, run

EXAMPLE = REPOSITORY / "examples/10-vm-net.conflist"
STATIC = REPOSITORY / ".build-static/release/holdfast-cni"


@pytest.fixture
def directories(tmp_path):
    return tmp_path / "opt/cni/bin", tmp_path / "etc/cni/net.d"


def install(directories, *arguments, verb="install"):
    binaries, networks = directories
    return run("holdfast-agent", verb, "--cni-bin-dir", str(binaries), "--cni-conf-dir", str(networks), *arguments)


def version(plugin):
    return subprocess.run(
        [plugin], env={"CNI_COMMAND": "VERSION"}, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_install_puts_the_plugin_and_the_network_there_and_uninstall_takes_just_them_away(directories):
    plugins, networks = directories
    networks.mkdir(parents=True)
    (networks / "99-loopback.conf").write_text("{}")
    done = install(directories, "--conf", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{plugins}/holdfast-cni: written", f"{networks}/10-vm-net.conflist: written"]
    assert (plugins / "holdfast-cni").stat().st_mode & 0o777 == 0o755
    assert (networks / "10-vm-net.conflist").read_text() == EXAMPLE.read_text()
    assert "supportedVersions" in version(plugins / "holdfast-cni").stdout
    assert install(directories, "--conf", str(EXAMPLE)).stdout.count(": unchanged") == 2
    done = install(directories, verb="uninstall")
    assert done.returncode == 0 and done.stdout.count(": removed") == 2
    assert os.listdir(plugins) == [] and os.listdir(networks) == ["99-loopback.conf"]
    assert install(directories, verb="uninstall").stdout == ""


def test_what_has_no_effect_in_a_network_is_a_warning(directories, tmp_path):
    network = tmp_path / "10-other.conflist"
    network.write_text(EXAMPLE.read_text().replace('"pool"', '"pol"'))
    assert "has no effect" not in install(directories, "--conf", str(EXAMPLE)).stderr
    done = install(directories, "--conf", str(network))
    assert done.returncode == 0 and f'warning: {network}: "pol" has no effect' in done.stderr
    assert f"warning: {directories[1]}/10-vm-net.conflist names holdfast-cni, too" in done.stderr


def test_the_agents_own_variables_are_in_nobodys_way(directories):
    variables = environment() | {"HOLDFAST_NODE": "node-a", "HOLDFAST_SERVER": "x:1", "HOLDFAST_CNI_BIN_DIR": str(directories[0])}
    done = subprocess.run(
        [binaries() / "holdfast-agent", "install", "--cni-conf-dir", str(directories[1])], env=variables,
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (directories[0] / "holdfast-cni").exists() and not directories[1].exists()


def test_a_runtime_never_sees_half_a_plugin(directories, tmp_path):
    """A plugin of many sizes is installed over and over while a runtime executes it all the time."""
    plugins, _ = directories
    sources = []
    for number in range(3):
        # An executable that says 'whole' only when its last line is there.
        source = tmp_path / f"plugin-{number}"
        source.write_text(
            "#!/bin/sh\n" + "# padding\n" * (number + 1) * 40000
            + f"[ \"$CNI_COMMAND\" = VERSION ] && exec {binaries()}/holdfast-cni\necho whole\n")
        source.chmod(0o755)
        sources.append(str(source))
    assert install(directories, "--plugin", sources[0]).returncode == 0
    ended, seen = threading.Event(), []

    def execute():
        while not ended.is_set():
            seen.append(subprocess.run([plugins / "holdfast-cni"], capture_output=True, text=True).stdout)

    thread = threading.Thread(target=execute)
    thread.start()
    try:
        for number in range(20):
            assert install(directories, "--plugin", sources[number % 3]).returncode == 0
    finally:
        ended.set()
        thread.join()
    assert seen and set(seen) == {"whole\n"}


@pytest.mark.parametrize("arguments, word", [
    (["--plugin", "/nonexistent/holdfast-cni"], "/nonexistent/holdfast-cni"),
    (["--conf", "/nonexistent/10-x.conflist"], "/nonexistent/10-x.conflist"),
    (["--conf", str(REPOSITORY / "examples/pools.yaml")], "pools.yaml"),
    (["--plugin", str(EXAMPLE)], "cannot be run"),
    (["--plugin", "/bin/true"], "/bin/true does not say that it is holdfast-cni"),
])
def test_what_cannot_be_installed_is_said_and_nothing_is_written(directories, arguments, word):
    done = install(directories, *arguments)
    assert done.returncode == 1 and word in done.stderr and "hint:" in done.stderr
    assert not any(directory.exists() for directory in directories)


def test_wrong_usage_ends_with_2(directories):
    assert install(directories, "--nonsense").returncode == 2
    assert run("holdfast-agent", "install", "--help").returncode == 0
    assert "holdfast-agent install" in run("holdfast-agent", "--help").stdout


def segments(program):
    """The types of an ELF file's segments (elf(5))."""
    assert program[:6] == b"\x7fELF\x02\x01"
    start, = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    return [struct.unpack_from("<I", program, start + number * size)[0] for number in range(count)]


@pytest.mark.skipif(not STATIC.exists() and not os.environ.get("HOLDFAST_CI"), reason=f"needs {STATIC}: make plugin")
def test_the_released_plugin_is_one_static_file_of_at_most_16_mb_without_foundation(tmp_path):
    program = STATIC.read_bytes()
    assert len(program) <= 16_000_000
    # Neither PT_DYNAMIC nor PT_INTERP: it needs no library and no linker.
    assert {2, 3}.isdisjoint(segments(program))
    assert not re.search(rb"10Foundation|20FoundationEssentials|libFoundation", program)
    # Alone in an empty root: it needs nothing of its host.
    root = tmp_path / "root"
    root.mkdir()
    (root / "holdfast-cni").write_bytes(program)
    (root / "holdfast-cni").chmod(0o755)
    if os.geteuid() == 0:
        done = subprocess.run(
            ["chroot", str(root), "/holdfast-cni"], env={"CNI_COMMAND": "VERSION", "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0 and '"supportedVersions"' in done.stdout, done.stderr
