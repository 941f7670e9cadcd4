"""What a field must not hold: INVALID_ARGUMENT, and the error names the field."""

import grpc
import pytest
from client import Refused, launcher, vm

LONG = "x" * 254


def owner(**changes):
    return vm() | changes


def attachment(**changes):
    return launcher(1) | changes


def pool(prefix=None, **changes):
    return {"pool": {"name": "other", "prefixes": [{"prefix": "10.17.0.0/24"} | (prefix or {})]} | changes}


INVALID = [
    # (call, request, the field that the error names)
    ("IPAM.Allocate", {}, "owner"),
    ("IPAM.Allocate", {"owner": owner(kind="OWNER_KIND_UNSPECIFIED")}, "owner.kind"),
    ("IPAM.Allocate", {"owner": owner(kind=99)}, "owner.kind"),
    ("IPAM.Allocate", {"owner": owner(namespace="")}, "owner.namespace"),
    ("IPAM.Allocate", {"owner": owner(namespace="x" * 64)}, "owner.namespace"),
    ("IPAM.Allocate", {"owner": owner(name="")}, "owner.name"),
    ("IPAM.Allocate", {"owner": owner(name=LONG)}, "owner.name"),
    ("IPAM.Allocate", {"owner": owner(name="two words")}, "owner.name"),
    ("IPAM.Allocate", {"owner": owner(name="slash/slash")}, "owner.name"),
    ("IPAM.Allocate", {"owner": owner(uid="x" * 129)}, "owner.uid"),
    ("IPAM.Allocate", {"owner": owner(uid="line\nbreak")}, "owner.uid"),
    ("IPAM.Allocate", {"owner": owner(network=LONG)}, "owner.network"),
    ("IPAM.Allocate", {"owner": owner(), "attachment": {"node": "node-a"}}, "attachment.pod_uid"),
    ("IPAM.Allocate", {"owner": owner(), "attachment": attachment(node="")}, "attachment.node"),
    ("IPAM.Allocate", {"owner": owner(), "attachment": attachment(container_id=LONG)}, "attachment.container_id"),
    ("IPAM.Allocate", {"owner": owner(), "pool": "no pool"}, "pool"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["10.16.0"]}, "addresses[0]"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["10.16.0.15/24"]}, "addresses[0]"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["010.16.0.15"]}, "addresses[0]"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["224.0.0.1"]}, "addresses[0]"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["127.0.0.1"]}, "addresses[0]"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["0.0.0.0"]}, "addresses[0]"),
    ("IPAM.Allocate", {"owner": owner(), "addresses": ["10.16.0.15", "10.16.0.16"]}, "addresses[1]"),
    ("IPAM.Allocate", {"owner": owner(), "pool_revision": 7}, "pool_revision"),
    ("IPAM.Allocate", {"owner": owner(), "mac": "01:00:5e:00:00:01"}, "mac"),
    ("IPAM.Allocate", {"owner": owner(), "mac": "00:00:00:00:00:00"}, "mac"),
    ("IPAM.Allocate", {"owner": owner(), "mac": "ff:ff:ff:ff:ff:ff"}, "mac"),
    ("IPAM.Allocate", {"owner": owner(), "mac": "02:00:00:00:00"}, "mac"),
    ("IPAM.Release", {"owner": owner()}, "scope"),
    ("IPAM.Release", {"owner": owner(), "scope": 99}, "scope"),
    ("IPAM.Release", {"owner": owner(), "scope": "RELEASE_SCOPE_ATTACHMENT"}, "attachment"),
    ("IPAM.Release", {"scope": "RELEASE_SCOPE_BINDING"}, "owner"),
    ("IPAM.Transfer", {"owner": owner(), "migration_uid": "m"}, "phase"),
    ("IPAM.Transfer", {"owner": owner(), "phase": "TRANSFER_PHASE_COMMIT"}, "migration_uid"),
    ("IPAM.Transfer", {"owner": owner(), "phase": "TRANSFER_PHASE_PREPARE", "migration_uid": "m"}, "target"),
    ("IPAM.Transfer", {"owner": owner(), "phase": "TRANSFER_PHASE_ABORT", "migration_uid": "m",
                       "target_owner": owner(name="")}, "target_owner.name"),
    ("IPAM.Transfer", {"owner": owner(), "phase": "TRANSFER_PHASE_COMMIT", "migration_uid": "m",
                       "target": attachment(node="")}, "target.node"),
    ("IPAM.GetBinding", {}, "owner"),
    ("IPAM.GetBinding", {"address": "nonsense"}, "address"),
    ("IPAM.ListBindings", {"page_token": "no token of ours"}, "page_token"),
    ("IPAM.ListBindings", {"state": 99}, "state"),
    ("IPAM.ListBindings", {"namespace": "no namespace"}, "namespace"),
    ("Pools.CreatePool", {}, "pool"),
    ("Pools.CreatePool", pool(name=""), "pool.name"),
    ("Pools.CreatePool", pool(name="x" * 64), "pool.name"),
    ("Pools.CreatePool", pool(prefixes=[]), "pool.prefixes"),
    ("Pools.CreatePool", pool({"prefix": "10.17.0.1/24"}), "pool.prefixes[0].prefix"),
    ("Pools.CreatePool", pool({"prefix": "10.17.0.0/33"}), "pool.prefixes[0].prefix"),
    ("Pools.CreatePool", pool({"prefix": "fd00::1/64"}), "pool.prefixes[0].prefix"),
    ("Pools.CreatePool", pool({"gateway": "10.18.0.1"}), "pool.prefixes[0].gateway"),
    ("Pools.CreatePool", pool({"gateway": "fd00::1"}), "pool.prefixes[0].gateway"),
    ("Pools.CreatePool", pool({"excluded": ["10.18.0.5"]}), "pool.prefixes[0].excluded[0]"),
    ("Pools.CreatePool", pool({"excluded": ["10.17.0.9..10.17.0.5"]}), "pool.prefixes[0].excluded[0]"),
    ("Pools.CreatePool", pool({"excluded": ["10.17.0.5/28"]}), "pool.prefixes[0].excluded[0]"),
    ("Pools.CreatePool", pool({"prefix": "127.0.0.0/16"}), "pool.prefixes[0].prefix"),
    ("Pools.CreatePool", pool({"prefix": "::/64"}), "pool.prefixes[0].prefix"),
    ("Pools.CreatePool", pool({"excluded": ["10.17.0.5"] * 1025}), "pool.prefixes[0].excluded"),
    ("Pools.CreatePool", pool(name="-other"), "pool.name"),
    ("Pools.CreatePool", pool(namespaces=["no namespace"]), "pool.namespaces[0]"),
    ("Pools.CreatePool", pool(namespaces=["a.b"]), "pool.namespaces[0]"),
    ("Pools.CreatePool", pool(routes=[{"destination": "10.99.0.1/16"}]), "pool.routes[0].destination"),
    ("Pools.CreatePool", pool(routes=[{"destination": "10.99.0.0/16", "gateway": "fd00::1"}]),
     "pool.routes[0].gateway"),
    ("Pools.CreatePool", pool(dns={"nameservers": ["dns.example"]}), "pool.dns.nameservers[0]"),
    ("Pools.CreatePool", pool(reuse_delay="-1s"), "pool.reuse_delay"),
    ("Pools.GetPool", {}, "name"),
]


@pytest.mark.parametrize("call, request_, field", INVALID, ids=[f"{call}-{field}" for call, _, field in INVALID])
def test_an_invalid_field_is_named(client, refused, call, request_, field):
    with refused("INVALID_ARGUMENT", "INVALID_FIELD") as error:
        client.call(call, request_)
    assert error.value.metadata["field"] == field
    assert field.split(".")[-1].split("[")[0] in error.value.message


def field(number, value):
    """A length-delimited field of a message, as bytes."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


@pytest.mark.parametrize("name", [b"test\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"test\x00vm"],
                         ids=["no UTF-8", "overlong NUL", "surrogate", "NUL"])
def test_text_that_is_none_is_refused(client, refused, name):
    """protoc-c's parser checks neither UTF-8 nor NUL: a name would be cut short, and be another owner's."""
    owner = bytes([1 << 3, 1]) + field(2, b"default") + field(3, name) + field(5, b"vm-net/eth0")
    with refused("INVALID_ARGUMENT", "INVALID_FIELD") as error:
        client.call_bytes("IPAM.Allocate", field(1, owner))
    assert error.value.metadata["field"].endswith("name")
    assert client.bindings() == []


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x7f", bytes(1000), b"\x0b\x0b\x0b"])
def test_bytes_that_are_no_message_are_refused(client, data):
    with pytest.raises(Refused) as error:
        client.call_bytes("IPAM.Allocate", data)
    assert error.value.code in ("INVALID_ARGUMENT", "INTERNAL")
    assert client.bindings() == []


def test_a_field_of_a_newer_client_is_passed_over(client):
    request = client.request("IPAM.Allocate", {"owner": vm()}).SerializeToString() + bytes([0xfa, 0x3f, 1, 1])
    assert client.call_bytes("IPAM.Allocate", request)["created"] is True


def test_a_message_that_is_too_large_is_refused_and_the_server_lives(client):
    with pytest.raises(Refused) as error:
        client.call_bytes("IPAM.Allocate", bytes([0xfa, 0x3f]) + b"\x80\x80\x80\x04" + bytes(8 << 20))
    assert error.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED.name
    assert client.bindings() == []


@pytest.mark.parametrize("address, reason", [
    ("10.99.0.5", "ADDRESS_OUTSIDE_POOL"), ("fd00::5", "ADDRESS_OUTSIDE_POOL"),
    ("10.16.0.0", "ADDRESS_EXCLUDED"), ("10.16.0.255", "ADDRESS_EXCLUDED"), ("10.16.0.1", "ADDRESS_EXCLUDED"),
    ("10.16.0.200", "ADDRESS_EXCLUDED"), ("10.16.0.250", "ADDRESS_EXCLUDED")])
def test_an_address_that_the_pool_does_not_give_is_refused(client, refused, address, reason):
    with refused("INVALID_ARGUMENT", reason) as error:
        client.allocate(vm(), addresses=[address])
    assert address in error.value.message


def test_a_piece_of_a_backup_from_beyond_all_numbers_is_refused_and_the_server_lives(client, refused):
    client.call("Maintenance.Restore", {"upload_id": "one", "offset": "0", "data": ""})
    with refused("FAILED_PRECONDITION", "RESTORE_BROKEN"):
        client.call("Maintenance.Restore", {"upload_id": "one", "offset": str(2**64 - 1), "data": "YQ=="})
    assert client.allocate(vm())["created"]


def test_every_refusal_carries_error_info(client):
    calls = [
        ("IPAM.GetBinding", {"owner": vm()}), ("Pools.GetPool", {"name": "none"}),
        ("IPAM.Allocate", {"owner": vm(), "pool": "none"})]
    for name, request in calls:
        with pytest.raises(Refused) as error:
            client.call(name, request)
        assert error.value.has_info and error.value.domain == "holdfast" and error.value.reason, name
