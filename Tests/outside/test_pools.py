"""The Pools service."""

import pytest
from client import Client, addresses, launcher, vm
from processes import REPOSITORY, Server

DUAL = {"name": "dual", "prefixes": [
    {"prefix": "10.20.0.0/24", "gateway": "10.20.0.1"}, {"prefix": "fd00:20::/64", "gateway": "fd00:20::1"}]}


def settings(pool):
    """What a user set, without what the server adds."""
    return {name: value for name, value in pool.items() if name not in ("revision", "usage")}


def test_a_pool_is_as_it_was_made(empty):
    pool = DUAL | {
        "namespaces": ["default", "prod"], "routes": [{"destination": "10.99.0.0/16", "gateway": "10.20.0.9"}],
        "dns": {"nameservers": ["10.20.0.2"], "domain": "vm.example", "search": ["vm.example"], "options": ["ndots:2"]},
        "is_default": True, "reuse_delay": "300s", "namespace_quota": 7, "history_retention": "172800s"}
    made = empty.call("Pools.CreatePool", {"pool": pool})
    assert empty.call("Pools.GetPool", {"name": "dual"}) == made
    assert empty.call("Pools.ListPools")["pools"] == [made]
    for name, value in pool.items():
        if name != "prefixes":
            assert made[name] == value, name
    assert made["usage"][0] == {
        "prefix": "10.20.0.0/24", "total": 253, "bound": 0, "reserved": 0, "quarantined": 0, "free": 253}


def test_without_reuse_delay_it_is_a_minute_and_history_is_kept_for_90_days(empty):
    pool = empty.call("Pools.CreatePool", {"pool": DUAL})
    assert (pool["reuse_delay"], pool["history_retention"]) == ("60s", f"{90 * 24 * 3600}s")


def test_an_owner_gets_an_address_of_each_family_ipv4_first(empty):
    empty.call("Pools.CreatePool", {"pool": DUAL | {"is_default": True}})
    v4, v6 = empty.allocate(vm(), launcher(1))["binding"]["assignments"]
    assert v4["address"].startswith("10.20.0.") and v4["prefix_length"] == 24 and v4["gateway"] == "10.20.0.1"
    assert v6["address"].startswith("fd00:20::") and v6["prefix_length"] == 64 and v6["gateway"] == "fd00:20::1"
    # One family named: the other is chosen.
    given = addresses(empty.allocate(vm("other"), addresses=["fd00:20::abcd"])["binding"])
    assert given[0].startswith("10.20.0.") and given[1] == "fd00:20::abcd"


@pytest.mark.parametrize("prefix, count", [
    ("10.9.0.0/32", 1), ("10.9.0.0/31", 2), ("10.9.0.0/30", 2), ("fd00:9::/128", 1), ("fd00:9::/127", 2)])
def test_the_smallest_prefixes_work(empty, refused, prefix, count):
    empty.call("Pools.CreatePool", {"pool": {"name": "small", "prefixes": [{"prefix": prefix}]}})
    given = {addresses(empty.allocate(vm(f"vm-{n}"), pool="small")["binding"])[0] for n in range(count)}
    assert len(given) == count
    with refused("RESOURCE_EXHAUSTED", "POOL_EXHAUSTED"):
        empty.allocate(vm("one-too-many"), pool="small")


def test_edge_addresses_are_given_where_the_pool_says_so(empty):
    empty.call("Pools.CreatePool", {"pool": {
        "name": "small", "prefixes": [{"prefix": "10.9.0.0/30", "use_edge_addresses": True}]}})
    given = {addresses(empty.allocate(vm(f"vm-{n}"), pool="small")["binding"])[0] for n in range(4)}
    assert given == {"10.9.0.0", "10.9.0.1", "10.9.0.2", "10.9.0.3"}


def test_the_next_prefix_is_used_when_the_first_is_full(empty):
    empty.call("Pools.CreatePool", {"pool": {"name": "two", "is_default": True, "prefixes": [
        {"prefix": "10.9.0.0/32"}, {"prefix": "10.9.1.0/32"}]}})
    assert [addresses(empty.allocate(vm(f"vm-{n}"))["binding"]) for n in range(2)] == [["10.9.0.0"], ["10.9.1.0"]]


def test_without_a_default_pool_a_request_must_name_one(empty, refused):
    empty.call("Pools.CreatePool", {"pool": DUAL})
    with refused("FAILED_PRECONDITION", "NO_DEFAULT_POOL"):
        empty.allocate(vm())


def test_the_pool_of_the_namespace_comes_before_the_default(client):
    client.call("Pools.CreatePool", {"pool": DUAL | {"namespaces": ["prod"]}})
    assert client.allocate(vm(namespace="prod"))["binding"]["pool"] == "dual"
    assert client.allocate(vm())["binding"]["pool"] == "vm-net"


def test_a_pool_of_other_namespaces_is_refused(client, refused):
    client.call("Pools.CreatePool", {"pool": DUAL | {"namespaces": ["prod"]}})
    with refused("PERMISSION_DENIED", "NAMESPACE_NOT_ALLOWED"):
        client.allocate(vm(), pool="dual")


def test_a_namespace_has_no_more_bindings_than_its_quota(client, refused):
    client.call("Pools.CreatePool", {"pool": DUAL | {"namespace_quota": 2}})
    for number in range(2):
        client.allocate(vm(f"vm-{number}"), pool="dual")
    with refused("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"):
        client.allocate(vm("one-too-many"), pool="dual")
    client.allocate(vm("elsewhere", namespace="prod"), pool="dual")


def test_create_again_is_the_same_pool_and_another_of_its_name_is_refused(empty, refused):
    made = empty.call("Pools.CreatePool", {"pool": DUAL})
    assert empty.call("Pools.CreatePool", {"pool": DUAL}) == made
    with refused("ALREADY_EXISTS", "POOL_EXISTS"):
        empty.call("Pools.CreatePool", {"pool": DUAL | {"namespace_quota": 1}})


def test_pools_do_not_overlap(client, refused):
    with refused("ALREADY_EXISTS", "POOL_OVERLAP") as error:
        client.call("Pools.CreatePool", {"pool": {"name": "wide", "prefixes": [{"prefix": "10.0.0.0/8"}]}})
    assert "vm-net" in error.value.message


def test_an_update_is_seen_and_a_stale_one_refused(empty, refused):
    made = empty.call("Pools.CreatePool", {"pool": DUAL})
    changed = empty.call("Pools.UpdatePool", {"pool": settings(made) | {
        "namespace_quota": 3, "revision": made["revision"]}})
    assert changed["namespace_quota"] == 3 and changed["revision"] > made["revision"]
    with refused("ABORTED", "POOL_CHANGED"):
        empty.call("Pools.UpdatePool", {"pool": settings(made) | {
            "namespace_quota": 4, "revision": made["revision"]}})
    assert empty.call("Pools.GetPool", {"name": "dual"})["namespace_quota"] == 3


def test_who_watches_and_who_has_a_copy_hear_of_other_routes_and_dns(client):
    made = client.allocate(vm(), launcher(1, "node-a"), keeps_copy=True)["binding"]
    watch = client.watch()
    watch.until_synced()
    pool = settings(client.call("Pools.GetPool", {"name": "vm-net"}))
    changed = {"routes": [{"destination": "10.96.0.0/12", "gateway": "10.16.0.9"}], "dns": {"nameservers": ["10.16.0.53"]}}
    client.call("Pools.UpdatePool", {"pool": pool | changed})
    event = watch.next()
    watch.cancel()
    assert event["type"] == "UPDATED" and event["binding"]["routes"] == changed["routes"]
    assert event["binding"]["dns"]["nameservers"] == ["10.16.0.53"]
    renewed = client.call("Nodes.RenewCopies", {
        "node": "node-a", "copies": [{"owner": vm(), "revision": made["revision"]}]})["copies"][0]
    assert renewed["binding"] == event["binding"] == client.binding(vm())


def test_an_update_that_would_drop_addresses_in_use_is_refused(client, refused):
    binding = client.allocate(vm(), launcher(1))["binding"]
    pool = settings(client.call("Pools.GetPool", {"name": "vm-net"}))
    with refused("FAILED_PRECONDITION", "POOL_IN_USE"):
        client.call("Pools.UpdatePool", {"pool": pool | {"prefixes": [{"prefix": "10.30.0.0/24"}]}})
    assert client.binding(vm()) == binding


def test_an_update_of_a_pool_that_is_not_there(empty, refused):
    with refused("NOT_FOUND", "POOL_NOT_FOUND"):
        empty.call("Pools.UpdatePool", {"pool": DUAL})


def test_a_pool_in_use_is_not_deleted_and_one_that_is_not_there_is_deleted_already(client, refused):
    client.allocate(vm())
    with refused("FAILED_PRECONDITION", "POOL_IN_USE"):
        client.call("Pools.DeletePool", {"name": "vm-net"})
    client.free(vm())
    with refused("FAILED_PRECONDITION", "POOL_IN_USE") as error:
        client.call("Pools.DeletePool", {"name": "vm-net"})
    assert "quarantine until" in error.value.message
    pool = settings(client.call("Pools.GetPool", {"name": "vm-net"}))
    client.call("Pools.UpdatePool", {"pool": pool | {"reuse_delay": "0s"}})
    for _ in range(2):
        client.call("Pools.DeletePool", {"name": "vm-net"})
    with refused("NOT_FOUND", "POOL_NOT_FOUND"):
        client.call("Pools.GetPool", {"name": "vm-net"})


def test_usage_counts_every_state(client):
    client.allocate(vm("bound"), launcher(1))
    client.allocate(vm("reserved"))
    client.allocate(vm("freed"))
    client.free(vm("freed"))
    [usage] = client.call("Pools.GetPool", {"name": "vm-net"})["usage"]
    total = 256 - 2 - 1 - 51  # network and broadcast, the gateway, the excluded
    assert usage == {"prefix": "10.16.0.0/24", "total": total, "bound": 1, "reserved": 1, "quarantined": 1,
                     "free": total - 3}


def test_a_freed_address_comes_back_after_its_delay_oldest_first(empty):
    empty.call("Pools.CreatePool", {"pool": {
        "name": "quick", "is_default": True, "reuse_delay": "0s", "prefixes": [{"prefix": "10.9.0.0/31"}]}})
    first, second = (addresses(empty.allocate(vm(name))["binding"])[0] for name in ("a", "b"))
    empty.free(vm("b"))
    empty.free(vm("a"))
    assert [addresses(empty.allocate(vm(name))["binding"])[0] for name in ("c", "d")] == [second, first]


def test_pools_from_a_file(tmp_path):
    server = Server(tmp_path, "--pools", str(REPOSITORY / "examples/pools.yaml")).start()
    client = Client(server.target)
    try:
        [pool] = client.call("Pools.ListPools")["pools"]
        assert pool["name"] == "vm-net" and pool["is_default"] and pool["reuse_delay"] == "60s"
        assert pool["prefixes"][0]["gateway"] == "10.16.0.1"
        assert addresses(client.allocate(vm())["binding"]) == ["10.16.0.10"]
    finally:
        client.close()
        assert server.stop() == 0
