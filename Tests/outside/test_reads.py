"""GetBinding, ListBindings and WatchBindings."""

import threading

import pytest
from client import addresses, launcher, vm


@pytest.fixture
def three(client):
    """Three VMs, of which one runs, one migrates and one is stopped."""
    client.allocate(vm("running"), launcher(1, "node-a"))
    client.allocate(vm("migrating"), launcher(2, "node-b"))
    client.transfer(vm("migrating"), "PREPARE", "m", target=launcher(3, "node-a"))
    client.allocate(vm("stopped", namespace="other"))
    return client


def names(bindings):
    return sorted(binding["owner"]["name"] for binding in bindings)


def test_get_by_owner_and_by_address_say_the_same(three):
    binding = three.binding(vm("running"))
    assert three.call("IPAM.GetBinding", {"address": addresses(binding)[0]}) == binding


def test_get_of_what_is_not_there(three, refused):
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        three.binding(vm("never"))
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        three.call("IPAM.GetBinding", {"address": "10.16.0.123"})
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        three.binding(vm("running", uid="another-uid"))


@pytest.mark.parametrize("filters, expected", [
    ({}, ["migrating", "running", "stopped"]),
    ({"pool": "vm-net"}, ["migrating", "running", "stopped"]),
    ({"pool": "another"}, []),
    ({"namespace": "other"}, ["stopped"]),
    ({"name": "running"}, ["running"]),
    ({"node": "node-a"}, ["migrating", "running"]),
    ({"node": "node-b"}, ["migrating"]),
    ({"state": "BINDING_STATE_RESERVED"}, ["stopped"]),
    ({"state": "BINDING_STATE_BOUND"}, ["running"]),
    ({"state": "BINDING_STATE_MIGRATING"}, ["migrating"]),
    ({"namespace": "default", "node": "node-a", "state": "BINDING_STATE_BOUND"}, ["running"]),
], ids=str)
def test_list_and_watch_filter_alike(three, filters, expected):
    assert names(three.bindings(**filters)) == expected
    watch = three.watch(filters)
    state, _ = watch.until_synced()
    watch.cancel()
    assert names(state.values()) == expected


def test_pages_hold_every_binding_once(client):
    for number in range(25):
        client.allocate(vm(f"vm-{number:02}"))
    seen, token, sizes = [], "", []
    while True:
        page = client.call("IPAM.ListBindings", {"page_size": 10, "page_token": token})
        seen += names(page["bindings"])
        sizes.append(len(page["bindings"]))
        if not (token := page["next_page_token"]):
            break
    assert sorted(seen) == [f"vm-{number:02}" for number in range(25)]
    assert sizes == [10, 10, 5]


def test_bindings_that_come_and_go_between_pages_disturb_no_others(client):
    for number in range(20):
        client.allocate(vm(f"vm-{number:02}"))
    first = client.call("IPAM.ListBindings", {"page_size": 5})
    client.free(first["bindings"][-1]["owner"])  # the page's own last
    others = set(names(client.bindings()))
    client.allocate(vm("newcomer"))
    rest, token = [], first["next_page_token"]
    while token:
        page = client.call("IPAM.ListBindings", {"page_size": 5, "page_token": token})
        rest += names(page["bindings"])
        token = page["next_page_token"]
    assert others <= set(names(first["bindings"])) | set(rest)
    assert len(rest) == len(set(rest)) and not set(rest) & set(names(first["bindings"]))


def test_a_watch_sends_the_present_state_and_then_each_change_in_order(three):
    watch = three.watch()
    state, synced = watch.until_synced()
    assert set(state) == {"migrating", "running", "stopped"}
    assert state["running"] == three.binding(vm("running"))

    steps = [
        ("CREATED", lambda: three.allocate(vm("new"), launcher(9))["binding"]),
        ("UPDATED", lambda: three.transfer(vm("migrating"), "COMMIT", "m")),
        ("UPDATED", lambda: three.detach(vm("new"), launcher(9))["binding"]),
    ]
    revision = synced["revision"]
    for kind, step in steps:
        binding = step()
        event = watch.next()
        assert (event["type"], event["binding"]) == (kind, binding)
        assert event["revision"] > revision
        revision = event["revision"]
    three.free(vm("new"))
    event = watch.next()
    assert event["type"] == "FREED" and event["binding"]["owner"]["name"] == "new"
    assert event["revision"] > revision
    watch.cancel()


def test_a_repeated_call_that_changes_nothing_is_no_event(client):
    client.allocate(vm(), launcher(1))
    watch = client.watch()
    watch.until_synced()
    client.allocate(vm(), launcher(1))
    client.allocate(vm("marker"))
    assert watch.next()["binding"]["owner"]["name"] == "marker"
    watch.cancel()


def test_a_binding_that_leaves_the_filter_is_freed_for_that_watch(client):
    client.allocate(vm(), launcher(1, "node-a"))
    watch = client.watch({"node": "node-a"})
    watch.until_synced()
    client.allocate(vm(), launcher(2, "node-b"))
    assert watch.next()["type"] == "FREED"
    client.allocate(vm(), launcher(3, "node-a"))
    assert watch.next()["type"] == "CREATED"
    watch.cancel()


def test_watches_and_lists_agree_while_many_write(client):
    """What a watch adds up to is what a list says afterwards; no revision comes twice or late."""
    watch = client.watch(timeout=60)
    state, synced = watch.until_synced()

    def write(worker):
        for number in range(20):
            client.allocate(vm(f"vm-{worker}-{number}"), launcher(1))
            if number % 3 == 0:
                client.free(vm(f"vm-{worker}-{number}"))

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    client.allocate(vm("last"))
    revision = synced["revision"]
    while "last" not in state:
        event = watch.next()
        assert event["revision"] >= revision
        revision = event["revision"]
        name = event["binding"]["owner"]["name"]
        if event["type"] == "FREED":
            del state[name]
        else:
            assert (event["type"] == "CREATED") == (name not in state)
            state[name] = event["binding"]
    watch.cancel()
    assert state == {b["owner"]["name"]: b for b in client.bindings(page_size=1000)}
