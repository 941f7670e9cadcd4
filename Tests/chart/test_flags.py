"""Every option and variable that a container is given is one of its program's, and those that values ask for are there."""

import functools

import programs
import pytest
from chart import VALUES, VARIANTS, containers, merged, render


def command(container):
    """(program with its verb, the rest)"""
    words = container["command"] + container["args"]
    program = words[0].removeprefix("/usr/local/bin/")
    verb = f"{program} {words[1]}" if len(words) > 1 else program
    return (verb, words[2:]) if verb in programs.FILES else (program, words[1:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_option_is_the_program_s(variant):
    seen = 0
    for _, _, container in containers(render(VARIANTS[variant])):
        program, arguments = command(container)
        known = programs.options(program)
        for argument in arguments:
            if argument.startswith("-"):
                name, has_value, _ = argument.partition("=")
                assert name in known, f"{program} has no {name}"
                assert known[name] == bool(has_value), f"{program} {argument}"
                seen += 1
    assert seen >= 12


# (container, value, what it is for the container to have the argument, the argument)
ASKED = [
    ("server", "server.maxConnections", 20000, "--max-connections=20000"),
    ("server", "server.awaitRestore", True, "--await-restore"),
    ("server", "server.kubernetes.enabled", True, "--kubernetes"),
    ("server", "server.kubernetes.grace", "2m", "--grace=2m"),
    ("server", "auth.reflection", False, "--reflection=off"),
    ("agent", "agent.annotatePods", True, "--annotate-pods"),
    ("agent", "agent.dhcp.byDefault", True, "--dhcp"),
    ("agent", "agent.dhcp.announce", True, "--announce"),
    *((container, "log.level", "debug", "--log-level=debug") for container in ("server", "agent")),
    *((container, "log.format", "text", "--log-format=text") for container in ("server", "agent")),
]


@pytest.mark.parametrize("container, value, asks, argument", ASKED)
def test_what_a_value_asks_for_is_said_there_and_nowhere_else(container, value, asks, argument):
    said = {}
    for name, values in VARIANTS.items():
        (arguments,) = [it["args"] for _, _, it in containers(render(values)) if it["name"] == container]
        is_asked = functools.reduce(dict.__getitem__, value.split("."), merged(VALUES, values)) == asks
        said[name] = argument in arguments
        assert said[name] == is_asked, name
    assert said["everything"] and not all(said.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variable_is_read_by_its_program(variant):
    for _, _, container in containers(render(VARIANTS[variant])):
        program, _ = command(container)
        # In the server's container people run `holdfast`, too.
        readers = [program, "holdfast"] if program == "holdfast-server" else [program]
        known = set().union(*(programs.variables(it) for it in readers))
        for variable in container.get("env", []):
            if variable["name"].startswith("HOLDFAST_"):
                assert variable["name"] in known, f"{program} reads no {variable['name']}"


def test_the_options_are_found_in_the_sources():
    server, agent = programs.options("holdfast-server"), programs.options("holdfast-agent")
    assert {"--listen", "--tls-client-ca", "--pools"} <= server.keys() and server["--insecure"] is False
    assert {"--node", "--state-dir", "--pods", "--http", "--log-format"} <= agent.keys()
    assert "--force" in programs.options("holdfast") and "--no-such" not in agent
    assert "HOLDFAST_TLS_CA" in programs.variables("holdfast-agent") and "HOLDFAST_SERVER" in programs.variables("holdfast-agent")
    assert "HOLDFAST_LISTEN" in programs.variables("holdfast-server")
