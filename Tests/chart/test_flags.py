"""Every option and variable that a container is given is one of its program's."""

import programs
import pytest
from chart import VARIANTS, containers, render


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
