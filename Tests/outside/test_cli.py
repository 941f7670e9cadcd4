"""holdfast, the operator's command."""

import json

import pytest
import yaml
from client import launcher, vm
from processes import run


@pytest.fixture
def holdfast(server, client):
    def call(*arguments):
        return run("holdfast", *arguments, "--server", server.target)

    return call


@pytest.fixture
def one(client):
    client.allocate(vm("testvm"), launcher(1), addresses=["10.16.0.15"])
    return client


def test_lists_are_tables_that_a_person_can_read(holdfast, one):
    bindings = holdfast("binding", "list")
    assert bindings.returncode == 0
    head, row = bindings.stdout.strip().splitlines()
    assert head.isupper() and all(word in row for word in ("testvm", "10.16.0.15", "node-a"))
    pools = holdfast("pool", "list")
    assert pools.returncode == 0 and "vm-net" in pools.stdout and "10.16.0.0/24" in pools.stdout


@pytest.mark.parametrize("read", [json.loads, yaml.safe_load])
def test_json_and_yaml_are_the_apis_own_fields(holdfast, one, read):
    form = "json" if read is json.loads else "yaml"
    done = holdfast("binding", "show", "10.16.0.15", "-o", form)
    assert done.returncode == 0, done.stderr
    binding = read(done.stdout)
    assert binding["owner"]["name"] == "testvm" and binding["assignments"][0]["address"] == "10.16.0.15"
    assert binding["active"]["node"] == "node-a" and binding["mac"] == one.binding(vm())["mac"]


def test_what_is_not_there_is_status_1_and_says_so(holdfast):
    done = holdfast("binding", "show", "10.16.0.99")
    assert done.returncode == 1 and "10.16.0.99" in done.stderr and done.stdout == ""


def test_a_server_that_is_not_there_is_status_1_with_a_hint():
    done = run("holdfast", "pool", "list", "--server", "127.0.0.1:1")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr and "hint" in done.stderr


@pytest.mark.parametrize("arguments", [["no-such-command"], ["binding", "list", "--no-such-flag"], ["-o", "xml"]])
def test_wrong_usage_is_status_2(arguments):
    done = run("holdfast", *arguments)
    assert done.returncode == 2 and done.stderr.strip()


def test_version():
    done = run("holdfast", "version")
    assert done.returncode == 0 and done.stdout.strip()
