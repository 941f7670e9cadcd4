"""The table of values in the chart's README, from values.yaml: each value with its default and the comment above it.

`values_table.py` writes it, `values_table.py --check` says whether it is what it would write.
"""

import json
import sys

import yaml
from pathlib import Path

CHART = Path(__file__).resolve().parents[2] / "charts/holdfast"
BEGIN, END = "<!-- values: made by `make generate` from values.yaml -->\n", "<!-- end of values -->\n"


def rows(text):
    """(path, default, what it is) for each value, and (path, None, "") where a comment is missing."""
    lines = text.splitlines()

    def comment(line):
        said = []
        while line > 0 and lines[line - 1].strip().startswith("#"):
            line -= 1
            said.insert(0, lines[line].strip().lstrip("#").strip())
        return " ".join(said)

    def walk(node, path):
        for key, value in node.value:
            name = f"{path}{key.value}"
            said = comment(key.start_mark.line)
            if isinstance(value, yaml.MappingNode) and value.value and not said:
                yield from walk(value, f"{name}.")
            else:
                default = yaml.safe_load(yaml.serialize(value))
                yield name, json.dumps(default, ensure_ascii=False), said

    yield from walk(yaml.compose(text), "")


def table():
    lines = ["| value | default | what it is |", "| --- | --- | --- |"]
    for name, default, said in rows((CHART / "values.yaml").read_text()):
        said = said.replace("|", "\\|")
        lines.append(f"| `{name}` | `{default}` | {said} |")
    return "\n".join(lines) + "\n"


def readme():
    """(as it is, as it should be)"""
    text = (CHART / "README.md").read_text()
    head, rest = text.split(BEGIN)
    return text, head + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    found, wanted = readme()
    if "--check" in sys.argv:
        if found != wanted:
            sys.exit("charts/holdfast/README.md is not what `make generate` makes of values.yaml")
    else:
        (CHART / "README.md").write_text(wanted)
