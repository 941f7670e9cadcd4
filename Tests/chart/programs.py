"""What options the programs have, by their sources: `--help` needs a build, and what it prints says no more."""

import functools
import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "Sources"
# Program (with its verb) to the files where its own options are; groups of options are found from there.
FILES = {
    "holdfast-server": "holdfast-server/*.swift",
    "holdfast-agent": "holdfast-agent/AgentCommand.swift",
    "holdfast-agent install": "holdfast-agent/InstallCommand.swift",
    "holdfast": "holdfast/*.swift",
}
DECLARATION = re.compile(r"@(Option|Flag)\b(?P<head>.*?)\bvar\s+(?P<name>\w+)", re.S)


@functools.cache
def text(program):
    """The program's own files, and those of the groups of options that it has."""
    files = sorted(SOURCES.glob(FILES[program]))
    for file in files:
        for group in re.findall(r"@OptionGroup.*?\bvar\s+\w+:\s*(\w+)", file.read_text(), re.S):
            files += [it for it in SOURCES.glob("*/*.swift")
                      if it not in files and re.search(rf"\bstruct {group}\b", it.read_text())]
    return "\n".join(file.read_text() for file in files)


def options(program):
    """Name to whether it takes a value."""
    found = {}
    for match in DECLARATION.finditer(text(program)):
        names = re.findall(r'\.customLong\("([^"]+)"\)', match["head"])
        kebab = re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", match["name"]).lower()
        for name in names or [kebab]:
            found[f"--{name}"] = match[1] == "Option"
    return found


def variables(program):
    """HOLDFAST_… that it reads: those in lists of options' names, and those that are written out."""
    source = text(program)
    found = set(re.findall(r"HOLDFAST_[A-Z_]+", source))
    for names in re.findall(r'\b(?:variables|repeatable|flags)\b[\w\s.:=+]*\[([^\]]*)\]', source):
        found |= {"HOLDFAST_" + name.upper().replace("-", "_") for name in re.findall(r'"([^"]+)"', names)}
    return found
