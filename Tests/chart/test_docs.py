"""The documents' values and names are the chart's."""

import re

import pytest
import yaml
from chart import CHART, REPOSITORY, SCHEMA, VALUES, one, pods, render

DOCUMENTS = [REPOSITORY / "docs/install.md", REPOSITORY / "docs/security.md", CHART / "README.md"]


def blocks(language):
    found = [block for document in DOCUMENTS
             for block in re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.M | re.S)]
    return [text for its_language, text in found if its_language == language]


def test_the_documents_values_are_taken():
    values = [text for text in blocks("yaml") if yaml.safe_load(text).keys() <= VALUES.keys()]
    assert len(values) == 2
    for text in values:
        assert {"ConfigMap", "NetworkAttachmentDefinition"} <= {it["kind"] for it in render(yaml.safe_load(text))}


def test_every_value_that_is_named_is_one():
    for document in DOCUMENTS:
        for name in re.findall(r"`((?:[a-z]\w+\.)+\w+)(?::[^`]*)?`", document.read_text()):
            top, *rest = name.split(".")
            if top in VALUES and rest[-1] not in ("crt", "key"):
                place = SCHEMA["properties"][top]
                for part in rest:
                    assert part in place["properties"], f"{document.name}: {name}"
                    place = place["properties"][part]
                    if "$ref" in place:
                        place = SCHEMA["$defs"][place["$ref"].rsplit("/", 1)[-1]]


def test_the_ledger_is_copied_to_where_the_chart_s_servers_look_for_it():
    text = (REPOSITORY / "docs/high-availability.md").read_text()
    (copy,) = re.findall(r"^```yaml\n(# copy\.yaml.*?)^```$", text, re.M | re.S)
    pod, server = yaml.safe_load(copy)["spec"], one(render(), "StatefulSet")["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[command.index("--etcd-prefix") + 1] == VALUES["server"]["etcd"]["prefix"]
    assert f"--store={command[command.index('--from') + 1]}" in server["containers"][0]["args"]
    assert pod["serviceAccountName"] == server["serviceAccountName"]
    assert pod["securityContext"].items() <= server["securityContext"].items()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_the_objects_that_commands_name_are_the_chart_s():
    objects = {(it["kind"].lower(), it["metadata"]["name"]) for it in render()}
    objects |= {("pod", f"{owner['metadata']['name']}-0") for owner, _, _ in pods(render()) if owner["kind"] == "StatefulSet"}
    commands = "\n".join(blocks(""))
    named = {tuple(it) for it in re.findall(r"\b(statefulset|daemonset|service|secret)[/ ](holdfast[\w-]+)", commands)}
    named |= {("pod", name) for name in re.findall(r" exec (holdfast[\w-]+)", commands)}
    assert len(named) >= 4 and named <= objects
