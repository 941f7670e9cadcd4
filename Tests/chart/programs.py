"""What options the programs have, by their sources: `--help` needs a build, and what it prints says no more."""

import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "Sources"
# Program (with its verb) to the files in which its options are.
FILES = {
    "holdfast-server": ["holdfast-server/*.swift", "Program/LogOptions.swift"],
    "holdfast-agent": ["holdfast-agent/AgentCommand.swift", "Program/LogOptions.swift", "Program/ClientTLSOptions.swift"],
    "holdfast-agent install": ["holdfast-agent/InstallCommand.swift"],
    "holdfast": ["holdfast/*.swift", "Program/ClientTLSOptions.swift"],
}
DECLARATION = re.compile(r"@(Option|Flag)\b(?P<head>.*?)\bvar\s+(?P<name>\w+)\s*(?P<rest>[^\n]*)", re.S)


def text(program):
    files = [file for pattern in FILES[program] for file in sorted(SOURCES.glob(pattern))]
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
    for names in re.findall(r"(?:variables|repeatable|flags)(?:: | =\s+)\[([^\]]*)\]", source):
        found |= {"HOLDFAST_" + name.upper().replace("-", "_") for name in re.findall(r'"([^"]+)"', names)}
    return found
