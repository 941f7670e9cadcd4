"""The services, as a client finds them that has no .proto file."""

import grpc
import pytest
from client import PACKAGE, vm
from grpc_reflection.v1alpha import reflection_pb2

METHODS = {
    "IPAM": {"Allocate", "Release", "Transfer", "GetBinding", "ListBindings", "ListHistory", "WatchBindings"},
    "Maintenance": {"Backup", "Restore"},
    "Nodes": {"RenewCopies"},
    "Pools": {"CreatePool", "UpdatePool", "GetPool", "ListPools", "DeletePool"},
}
STREAMS = {"WatchBindings", "Backup"}
VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


def ask(client, version, **question):
    # v1 and v1alpha differ in nothing but the package's name.
    stream = client.channel.stream_stream(
        f"/{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
    return list(stream(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=20))[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_list_every_service(empty, version):
    names = {service.name for service in ask(empty, version, list_services="").list_services_response.service}
    assert {f"{PACKAGE}.IPAM", f"{PACKAGE}.Pools", "grpc.health.v1.Health", *(
        f"{v}.ServerReflection" for v in VERSIONS)} <= names


@pytest.mark.parametrize("version", VERSIONS)
def test_what_does_not_exist_is_not_found(empty, version):
    for question in ({"file_containing_symbol": "no.such.Thing"}, {"file_by_filename": "no/such.proto"}):
        reply = ask(empty, version, **question)
        assert reply.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_is_found_by_its_name_and_by_what_it_holds(empty, version):
    by_symbol = ask(empty, version, file_containing_symbol=f"{PACKAGE}.IPAM.Allocate")
    by_name = ask(empty, version, file_by_filename="holdfast/ipam/v1/ipam.proto")
    assert by_symbol.file_descriptor_response.file_descriptor_proto[0] in \
        by_name.file_descriptor_response.file_descriptor_proto


def test_the_services_have_the_methods_of_the_api_and_no_others(empty):
    for service, methods in METHODS.items():
        found = empty.descriptors.FindServiceByName(f"{PACKAGE}.{service}")
        assert set(found.methods_by_name) == methods


def test_only_the_watch_and_the_backup_stream(empty):
    for service, methods in METHODS.items():
        for method in methods:
            descriptor = empty.method(f"{service}.{method}")
            assert not descriptor.client_streaming
            assert descriptor.server_streaming == (method in STREAMS), method


def test_every_method_is_served(client):
    """UNIMPLEMENTED is what a method without a handler would answer."""
    for service, methods in METHODS.items():
        for method in methods - STREAMS:
            try:
                client.call(f"{service}.{method}")
            except Exception as error:  # noqa: BLE001: an empty request may be refused, in words
                assert getattr(error, "code", None) in ("INVALID_ARGUMENT", "NOT_FOUND"), f"{method}: {error}"
    assert client.watch().next()["type"] == "SYNCED"


def test_a_method_that_is_none_is_unimplemented(client):
    call = client.channel.unary_unary(f"/{PACKAGE}.IPAM/NoSuchCall")
    with pytest.raises(grpc.RpcError) as error:
        call(client.request("IPAM.GetBinding", {"owner": vm()}).SerializeToString(), timeout=20)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
