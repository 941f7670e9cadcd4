"""What the documents say of the code."""

import re

from processes import REPOSITORY


def test_every_reason_is_explained():
    source = (REPOSITORY / "Sources/IPAMModel/IPAMError.swift").read_text()
    reasons = re.findall(r'Reason\(rawValue: "([A-Z_]+)"\)', source)
    explained = re.findall(r"^\| ([A-Z_]+) \|", (REPOSITORY / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(reasons) > 20 and sorted(set(reasons) - set(explained)) == []
    assert len(explained) == len(set(explained))


def test_links_lead_somewhere():
    for document in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
