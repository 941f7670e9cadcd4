"""What the documents say, against the code and the programs."""

import json
import os
import re
import shlex
import subprocess

import pytest
from client import Client
from processes import REPOSITORY, Server, binaries, run

README = (REPOSITORY / "README.md").read_text()
# (language, text)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_every_reason_is_explained():
    source = (REPOSITORY / "Sources/IPAMModel/IPAMError.swift").read_text()
    reasons = re.findall(r'Reason\(rawValue: "([A-Z_]+)"\)', source)
    explained = re.findall(r"^\| ([A-Z_]+) \|", (REPOSITORY / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(reasons) > 20 and sorted(set(reasons) - set(explained)) == []
    assert len(explained) == len(set(explained))


def test_every_cni_code_is_explained():
    source = (REPOSITORY / "Sources/CNI/CNIError.swift").read_text()
    codes = re.findall(r"Code\(rawValue: (1\d\d)\)", source)
    explained = re.findall(r"^\| (1\d\d) \|", (REPOSITORY / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(codes) > 5 and sorted(codes) == sorted(explained)


def test_every_target_has_its_place():
    names = re.findall(r'^ +(?:name: |\.\w+\(name: )"([\w-]+)"', (REPOSITORY / "Package.swift").read_text(), re.MULTILINE)
    targets = {name for name in names if (REPOSITORY / "Sources" / name).is_dir()}
    explained = set(re.findall(r"`([\w-]+)`", (REPOSITORY / "docs/architecture.md").read_text()))
    assert targets >= {"RPC", "Ledger", "CGRPC", "holdfast-cni"} and sorted(targets - explained) == []


def test_the_reference_is_what_the_programs_say():
    result = subprocess.run(
        [REPOSITORY / "scripts/reference", "--check"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "HOLDFAST_BIN": str(binaries())})
    assert result.returncode == 0, result.stderr


def test_the_options_that_documents_show_are_there():
    chapters = dict(re.findall(
        r"^## (holdfast-\w+)$(.*?)(?=^## |\Z)", (REPOSITORY / "docs/reference.md").read_text(), re.M | re.S))
    shown = 0
    for document in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        if document.name == "reference.md":
            continue
        for block in re.findall(r"^```\w*\n(.*?)^```$", document.read_text(), re.M | re.S):
            for program, line in re.findall(r"^(?:sudo )?(holdfast-\w+)((?: .*)?)$", block.replace("\\\n", " "), re.M):
                for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", line.split("#")[0]):
                    assert f"  {option}" in chapters[program] or f", {option}" in chapters[program], f"{document.name}: {option}"
                    shown += 1
    assert shown > 10


def test_links_lead_somewhere():
    for document in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_readme_shows_the_networks_as_they_are():
    shown = [json.loads(text) for language, text in BLOCKS if language == "json"]
    files = [REPOSITORY / "examples" / name for name in ("10-vm-net.conflist", "10-vm-net-ipam.conflist")]
    assert shown == [json.loads(file.read_text()) for file in files]


def commands(program):
    """The README's commands of a program, in order, without their comments."""
    shell = "\n".join(text for language, text in BLOCKS if not language).replace("\\\n", " ")
    found = re.findall(rf"^{program} (?:'[^']*'|[^'\n])*", shell, re.MULTILINE)
    return [shlex.split(command, comments=True)[1:] for command in found]


@pytest.fixture
def example(tmp_path):
    """A server as the README starts it, on a port of its own."""
    server = Server(tmp_path, "--pools", str(REPOSITORY / "examples/pools.yaml")).start()
    yield server
    server.stop()


def test_the_readmes_commands_work_in_order(example):
    lines = commands("holdfast")
    assert len(lines) >= 5
    for line in lines:
        done = run("holdfast", *line, "--server", example.target)
        assert done.returncode == 0, f"holdfast {shlex.join(line)}: {done.stderr}"


def test_the_readmes_requests_are_answered_in_order(example):
    client = Client(example.target)
    asked = []
    for arguments in commands("grpcurl"):
        body = json.loads(arguments[arguments.index("-d") + 1]) if "-d" in arguments else {}
        method = arguments[-1].removeprefix("holdfast.ipam.v1.").replace("/", ".")
        if method == "IPAM.WatchBindings":
            state, _ = client.watch(body).until_synced()
            assert list(state) == ["webvm"]
        elif method != "list":
            client.call(method, body)
        asked.append(method)
    client.close()
    assert asked == ["list", "IPAM.Allocate", "IPAM.GetBinding", "IPAM.WatchBindings"]
