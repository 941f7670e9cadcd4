"""Every row of the state table, each call sent twice: the second must say the same (promise 4)."""

import pytest
from client import Client, addresses, identity, launcher, pod_owner, vm

MIGRATION = "migration-1"


def twice(call):
    """Sends a call twice; gives back the first answer."""
    first = call()
    second = call()
    if "created" in first:
        assert second["created"] is False
        first, second = first | {"created": False}, second | {"created": False}
    assert second == first
    return first


@pytest.fixture
def bound(client):
    """testvm on node-a, carried by its first pod."""
    return client.allocate(vm(), launcher(1))["binding"]


@pytest.fixture
def migrating(client, bound):
    """testvm on its way from the first pod on node-a to the second on node-b."""
    return client.transfer(vm(), "PREPARE", MIGRATION, target=launcher(2, "node-b"))


# Allocate


def test_a_new_owner_gets_an_address_and_a_mac(client):
    answer = client.allocate(vm(), launcher(1))
    binding = answer["binding"]
    assert answer["created"] is True
    assert binding["state"] == "BINDING_STATE_BOUND" and binding["active"] == launcher(1)
    assert binding["owner"] == vm() and binding["pool"] == "vm-net"
    [assignment] = binding["assignments"]
    assert assignment["address"].startswith("10.16.0.")
    assert (assignment["prefix_length"], assignment["gateway"]) == (24, "10.16.0.1")
    first_byte = int(binding["mac"].split(":")[0], 16)
    assert first_byte & 0b11 == 0b10, "a chosen MAC is locally administered and unicast"
    assert client.binding(vm()) == binding


def test_without_attachment_an_address_is_reserved_ahead_of_any_pod(client):
    answer = twice(lambda: client.allocate(vm()))
    assert answer["binding"]["state"] == "BINDING_STATE_RESERVED"
    assert "active" not in answer["binding"]
    started = client.allocate(vm(), launcher(1))["binding"]
    assert identity(started) == identity(answer["binding"])


def test_network_broadcast_gateway_and_excluded_addresses_are_never_given(empty):
    empty.call("Pools.CreatePool", {"pool": {"name": "small", "is_default": True, "prefixes": [
        {"prefix": "10.9.0.0/29", "gateway": "10.9.0.1", "excluded": ["10.9.0.3..10.9.0.4"]}]}})
    given = [addresses(empty.allocate(vm(f"vm-{n}"))["binding"])[0] for n in range(3)]
    assert sorted(given) == ["10.9.0.2", "10.9.0.5", "10.9.0.6"]


def test_a_full_pool_says_so(client, empty, refused):
    empty.call("Pools.CreatePool", {"pool": {"name": "tiny", "prefixes": [{"prefix": "10.9.0.0/31"}]}})
    for number in range(2):
        client.allocate(vm(f"vm-{number}"), pool="tiny")
    with refused("RESOURCE_EXHAUSTED", "POOL_EXHAUSTED") as error:
        client.allocate(vm("one-too-many"), pool="tiny")
    assert "tiny" in error.value.message


def test_a_requested_address_and_mac_are_given(client):
    binding = client.allocate(vm(), launcher(1), addresses=["10.16.0.15"], mac="02:00:00:00:00:15")["binding"]
    assert identity(binding) == (["10.16.0.15"], "02:00:00:00:00:15")


def test_a_taken_address_is_refused_with_its_holders_name(client, refused):
    client.allocate(vm("holder"), addresses=["10.16.0.15"])
    for _ in range(2):
        with refused("ALREADY_EXISTS", "ADDRESS_TAKEN") as error:
            client.allocate(vm("copycat"), launcher(1), addresses=["10.16.0.15"])
        assert "holder" in error.value.message and "10.16.0.15" in error.value.message
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        client.binding(vm("copycat"))


def test_a_taken_mac_is_refused_with_its_holders_name(client, refused):
    client.allocate(vm("holder"), mac="02:00:00:00:00:15")
    with refused("ALREADY_EXISTS", "MAC_TAKEN") as error:
        client.allocate(vm("copycat"), mac="02:00:00:00:00:15")
    assert "holder" in error.value.message


def test_the_same_pod_again_changes_nothing(client, bound):
    again = client.allocate(vm(), launcher(1))
    assert again["binding"] == bound and again["created"] is False


def test_a_restart_on_another_node_keeps_address_and_mac(client, bound):
    answer = twice(lambda: client.allocate(vm(), launcher(2, "node-b")))
    assert identity(answer["binding"]) == identity(bound)
    assert answer["binding"]["active"] == launcher(2, "node-b")


def test_a_restart_during_a_migration_ends_the_migration(client, migrating, refused):
    binding = client.allocate(vm(), launcher(3, "node-c"))["binding"]
    assert binding["state"] == "BINDING_STATE_BOUND" and binding["active"] == launcher(3, "node-c")
    assert "target" not in binding and binding["migration_uid"] == ""
    with refused("FAILED_PRECONDITION", "MIGRATION_ENDED"):
        client.transfer(vm(), "COMMIT", MIGRATION)


def test_a_pod_that_was_made_before_the_migrations_target_ends_no_migration(client, bound):
    client.transfer(vm(), "PREPARE", MIGRATION, target=launcher(3, "node-b"))
    binding = twice(lambda: client.allocate(vm(), launcher(2)))["binding"]
    assert binding["state"] == "BINDING_STATE_MIGRATING" and binding["migration_uid"] == MIGRATION
    assert (binding["active"], binding["target"]) == (launcher(2), launcher(3, "node-b"))
    committed = client.transfer(vm(), "COMMIT", MIGRATION)
    assert committed["active"] == launcher(3, "node-b")
    assert client.detach(vm(), launcher(2))["binding"] == committed


def test_the_active_pods_own_call_during_a_migration_changes_nothing(client, migrating):
    assert client.allocate(vm(), launcher(1))["binding"] == migrating


def test_an_older_pod_is_superseded(client, bound, refused):
    newer = client.allocate(vm(), launcher(2, "node-b"))["binding"]
    with refused("FAILED_PRECONDITION", "ATTACHMENT_SUPERSEDED"):
        client.allocate(vm(), launcher(1))
    assert client.binding(vm()) == newer


def test_an_older_pod_is_superseded_while_the_vm_is_stopped_too(client, bound, refused):
    client.allocate(vm(), launcher(2, "node-b"))
    client.detach(vm(), launcher(2, "node-b"))
    with refused("FAILED_PRECONDITION", "ATTACHMENT_SUPERSEDED"):
        client.allocate(vm(), launcher(1))


def test_a_vm_made_anew_under_its_name_gets_the_old_ones_address(client, bound):
    answer = twice(lambda: client.allocate(vm(uid="another-uid"), launcher(2)))
    assert identity(answer["binding"]) == identity(bound)
    assert answer["binding"]["owner"]["uid"] == "another-uid" and answer["created"] is False


def test_a_pod_of_the_vm_before_is_superseded(client, bound, refused):
    client.allocate(vm(uid="another-uid"), launcher(2))
    with refused("FAILED_PRECONDITION", "ATTACHMENT_SUPERSEDED"):
        client.allocate(vm(), launcher(1))
    assert client.binding(vm(uid="another-uid"))["active"] == launcher(2)


def test_another_address_is_refused_while_a_pod_carries_the_binding(client, bound, refused):
    with refused("FAILED_PRECONDITION", "ADDRESS_CHANGE"):
        client.allocate(vm(), launcher(2), addresses=["10.16.0.99"])
    assert client.binding(vm()) == bound


def test_a_stopped_vm_moves_to_another_address_in_one_step(client, bound, refused):
    client.detach(vm(), launcher(1))
    moved = client.allocate(vm(), launcher(2), addresses=["10.16.0.99"])
    assert addresses(moved["binding"]) == ["10.16.0.99"] and moved["created"] is False
    # The address before is free, and in quarantine.
    with refused("NOT_FOUND", "ADDRESS_QUARANTINED"):
        client.call("IPAM.GetBinding", {"address": addresses(bound)[0]})


def test_the_nics_of_one_vm_are_bindings_of_their_own(client):
    first = client.allocate(vm(), launcher(1))["binding"]
    second = client.allocate(vm(network="vm-net/net1"), launcher(1))["binding"]
    assert addresses(first) != addresses(second) and first["mac"] != second["mac"]


# Release of an attachment


def test_a_stopped_vm_keeps_its_address(client, bound):
    answer = twice(lambda: client.detach(vm(), launcher(1)))
    assert answer["binding"]["state"] == "BINDING_STATE_RESERVED" and "active" not in answer["binding"]
    assert identity(client.allocate(vm(), launcher(2, "node-b"))["binding"]) == identity(bound)


def test_a_pods_address_is_freed_when_its_sandbox_goes(client, refused):
    client.allocate(pod_owner(), launcher(1))
    assert "binding" not in client.detach(pod_owner(), launcher(1))
    assert "binding" not in client.detach(pod_owner(), launcher(1))
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        client.binding(pod_owner())


def test_an_older_sandbox_of_the_same_pod_frees_nothing(client):
    client.allocate(pod_owner(), launcher(1, sandbox=1))
    binding = client.allocate(pod_owner(), launcher(1, sandbox=2))["binding"]
    assert client.detach(pod_owner(), launcher(1, sandbox=1))["binding"] == binding
    assert client.binding(pod_owner()) == binding


def test_another_pods_release_changes_nothing(client, bound):
    newer = client.allocate(vm(), launcher(2, "node-b"))["binding"]
    assert twice(lambda: client.detach(vm(), launcher(1)))["binding"] == newer


def test_the_binding_is_found_by_container_and_network_alone(client, bound):
    answer = client.call("IPAM.Release", {
        "owner": {"network": "vm-net/eth0"}, "scope": "RELEASE_SCOPE_ATTACHMENT",
        "attachment": {"node": "node-a", "container_id": launcher(1)["container_id"]}})
    assert answer["binding"]["state"] == "BINDING_STATE_RESERVED"


def test_release_of_an_unknown_container_is_done_already(client):
    assert "binding" not in client.call("IPAM.Release", {
        "owner": {"network": "vm-net/eth0"}, "scope": "RELEASE_SCOPE_ATTACHMENT",
        "attachment": {"node": "node-a", "container_id": "never-seen"}})


def test_when_the_source_goes_during_a_migration_the_target_carries_on(client, migrating):
    binding = twice(lambda: client.detach(vm(), launcher(1)))["binding"]
    assert binding["state"] == "BINDING_STATE_BOUND" and binding["active"] == launcher(2, "node-b")
    assert identity(binding) == identity(migrating)


def test_when_the_target_goes_the_source_stays(client, migrating, bound):
    binding = twice(lambda: client.detach(vm(), launcher(2, "node-b")))["binding"]
    assert binding["state"] == "BINDING_STATE_BOUND" and binding["active"] == bound["active"]


# Release of a binding


def test_a_freed_address_waits_in_quarantine(client, bound, refused):
    assert "binding" not in client.free(vm())
    assert "binding" not in client.free(vm())
    address = addresses(bound)[0]
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        client.binding(vm())
    with refused("FAILED_PRECONDITION", "ADDRESS_QUARANTINED") as error:
        client.allocate(vm("other"), addresses=[address])
    assert address in error.value.message
    [usage] = client.call("Pools.GetPool", {"name": "vm-net"})["usage"]
    assert (usage["bound"], usage["reserved"], usage["quarantined"]) == (0, 0, 1)


def test_the_last_owner_may_have_its_address_back_at_once(client, bound):
    client.free(vm())
    assert addresses(client.allocate(vm(), launcher(2), addresses=addresses(bound))["binding"]) == addresses(bound)


def test_a_release_for_the_vm_before_does_not_free_the_new_ones_address(client, bound):
    renewed = client.allocate(vm(uid="another-uid"), launcher(2))["binding"]
    client.free(vm())
    assert client.binding(vm(uid="another-uid")) == renewed


# Transfer


def test_prepare_sets_the_target(client, bound):
    binding = client.transfer(vm(), "PREPARE", MIGRATION, target=launcher(2, "node-b"))
    assert binding["state"] == "BINDING_STATE_MIGRATING" and binding["migration_uid"] == MIGRATION
    assert binding["active"] == launcher(1) and binding["target"] == launcher(2, "node-b")
    assert identity(binding) == identity(bound)
    assert client.transfer(vm(), "PREPARE", MIGRATION, target=launcher(2, "node-b")) == binding


def test_prepare_never_makes_a_binding(client, refused):
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        client.transfer(vm(), "PREPARE", MIGRATION, target=launcher(2, "node-b"))


def test_prepare_without_a_source_pod(client, bound):
    client.detach(vm(), launcher(1))
    binding = client.transfer(vm(), "PREPARE", MIGRATION, target=launcher(2, "node-b"))
    assert binding["state"] == "BINDING_STATE_MIGRATING" and "active" not in binding


def test_a_second_migration_takes_the_place_of_the_first(client, migrating, refused):
    binding = client.transfer(vm(), "PREPARE", "migration-2", target=launcher(3, "node-c"))
    assert binding["migration_uid"] == "migration-2" and binding["target"] == launcher(3, "node-c")
    with refused("FAILED_PRECONDITION", "MIGRATION_ENDED"):
        client.transfer(vm(), "COMMIT", MIGRATION)
    assert client.binding(vm()) == binding


def test_commit_makes_the_target_the_pod(client, migrating, bound):
    binding = client.transfer(vm(), "COMMIT", MIGRATION)
    assert binding["state"] == "BINDING_STATE_BOUND" and binding["active"] == launcher(2, "node-b")
    assert "target" not in binding and binding["migration_uid"] == ""
    assert identity(binding) == identity(bound)
    assert client.transfer(vm(), "COMMIT", MIGRATION) == binding


def test_the_sources_late_messages_after_a_commit_change_nothing(client, migrating, refused):
    committed = client.transfer(vm(), "COMMIT", MIGRATION)
    assert client.detach(vm(), launcher(1))["binding"] == committed
    with refused("FAILED_PRECONDITION", "ATTACHMENT_SUPERSEDED"):
        client.allocate(vm(), launcher(1))
    assert client.binding(vm()) == committed


def test_abort_drops_the_target(client, migrating, bound):
    binding = client.transfer(vm(), "ABORT", MIGRATION)
    assert binding["state"] == "BINDING_STATE_BOUND" and binding["active"] == launcher(1)
    assert "target" not in binding
    assert client.transfer(vm(), "ABORT", MIGRATION) == binding


def test_a_migration_ends_one_way_only(client, migrating, refused):
    aborted = client.transfer(vm(), "ABORT", MIGRATION)
    with refused("FAILED_PRECONDITION", "MIGRATION_ENDED"):
        client.transfer(vm(), "COMMIT", MIGRATION)
    assert client.binding(vm()) == aborted
    client.transfer(vm(), "PREPARE", "migration-2", target=launcher(3, "node-b"))
    committed = client.transfer(vm(), "COMMIT", "migration-2")
    with refused("FAILED_PRECONDITION", "MIGRATION_ENDED"):
        client.transfer(vm(), "ABORT", "migration-2")
    assert client.binding(vm()) == committed


@pytest.mark.parametrize("phase", ["COMMIT", "ABORT"])
def test_an_unknown_migration_changes_nothing(client, migrating, refused, phase):
    with refused("FAILED_PRECONDITION", "MIGRATION_UNKNOWN"):
        client.transfer(vm(), phase, "never-heard-of")
    assert client.binding(vm()) == migrating


def test_commit_with_a_target_owner_gives_the_binding_to_another_vm(client, migrating, refused):
    other = vm("restored", namespace="elsewhere")
    binding = client.transfer(vm(), "COMMIT", MIGRATION, target_owner=other)
    assert binding["owner"] == other and identity(binding) == identity(migrating)
    assert client.binding(other) == binding
    with refused("NOT_FOUND", "BINDING_NOT_FOUND"):
        client.binding(vm())


def test_a_target_owner_that_has_a_binding_is_refused(client, migrating, refused):
    client.allocate(vm("other"))
    with refused("ALREADY_EXISTS", "OWNER_HAS_BINDING"):
        client.transfer(vm(), "COMMIT", MIGRATION, target_owner=vm("other"))
    assert client.binding(vm()) == migrating


def test_every_change_is_there_after_a_restart(server, client, migrating):
    pools = client.call("Pools.ListPools")
    reserved = client.allocate(vm("reserved"))["binding"]
    server.restart()
    after = Client(server.target)  # on another port
    assert after.binding(vm()) == migrating and after.binding(vm("reserved")) == reserved
    usage = pools["pools"][0]["usage"][0]
    usage["reserved"], usage["free"] = usage["reserved"] + 1, usage["free"] - 1
    assert after.call("Pools.ListPools") == pools
    after.close()
