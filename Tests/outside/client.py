"""A client that knows no .proto file: it learns services and messages from the server's reflection."""

import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

PACKAGE = "holdfast.ipam.v1"
TIMEOUT = 20


class Refused(Exception):
    """A call's error, with what the ErrorInfo in its details says."""

    def __init__(self, error: grpc.RpcError):
        self.code = error.code().name
        self.message = error.details()
        # Also compares code and message of grpc-status-details-bin with the call's own.
        status = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        self.has_info = status is not None and any(detail.Unpack(info) for detail in status.details)
        self.reason, self.domain, self.metadata = info.reason, info.domain, dict(info.metadata)
        super().__init__(f"{self.code} {self.reason}: {self.message} {self.metadata}")


class WithToken(
        grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends a token with each call, also over a connection in the clear, where call credentials may not go."""

    def __init__(self, token):
        self.token = token

    def _call(self, proceed, details, request):
        metadata = [*(details.metadata or []), ("authorization", f"Bearer {self.token}")]
        return proceed(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _call


class Client:
    def __init__(self, target, token=None, tls=None):
        self.channel = grpc.secure_channel(target, tls) if tls else grpc.insecure_channel(target)
        if token:
            self.channel = grpc.intercept_channel(self.channel, WithToken(token))
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.descriptors = descriptor_pool.DescriptorPool(self.database)

    def close(self):
        self.channel.close()

    def method(self, name):
        """The descriptor of "IPAM.Allocate"."""
        service, method = name.split(".")
        return self.descriptors.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[method]

    def _stub(self, name):
        method = self.method(name)
        reply = message_factory.GetMessageClass(method.output_type)
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        path = f"/{method.containing_service.full_name}/{method.name}"
        return make(path, request_serializer=lambda data: data, response_deserializer=reply.FromString)

    def request(self, name, fields):
        return json_format.ParseDict(fields, message_factory.GetMessageClass(self.method(name).input_type)())

    def call(self, name, fields=None, timeout=TIMEOUT):
        """Calls with a request in the API's field names; answers likewise, or raises Refused."""
        return self.call_bytes(name, self.request(name, fields or {}).SerializeToString(), timeout)

    def call_bytes(self, name, data, timeout=TIMEOUT):
        try:
            return as_dict(self._stub(name)(data, timeout=timeout))
        except grpc.RpcError as error:
            raise Refused(error) from None

    def watch(self, fields=None, timeout=TIMEOUT):
        name = "IPAM.WatchBindings"
        return Watch(self._stub(name)(self.request(name, fields or {}).SerializeToString(), timeout=timeout))

    # The calls that most tests make.

    def allocate(self, owner, attachment=None, **more):
        request = {"owner": owner} | more
        if attachment:
            request["attachment"] = attachment
        return self.call("IPAM.Allocate", request)

    def detach(self, owner, attachment):
        return self.call(
            "IPAM.Release", {"owner": owner, "scope": "RELEASE_SCOPE_ATTACHMENT", "attachment": attachment})

    def free(self, owner):
        return self.call("IPAM.Release", {"owner": owner, "scope": "RELEASE_SCOPE_BINDING"})

    def transfer(self, owner, phase, migration, **more):
        return self.call("IPAM.Transfer", {
            "owner": owner, "phase": f"TRANSFER_PHASE_{phase}", "migration_uid": migration} | more)["binding"]

    def binding(self, owner):
        return self.call("IPAM.GetBinding", {"owner": owner})

    def bindings(self, **filters):
        return self.call("IPAM.ListBindings", filters)["bindings"]


class Watch:
    """The events of a WatchBindings call, as they come."""

    def __init__(self, call):
        self.call = call

    def next(self):
        try:
            return as_dict(next(self.call))
        except grpc.RpcError as error:
            raise Refused(error) from None

    def until_synced(self):
        """The present state: (bindings by the owner's name, the SYNCED event)."""
        state = {}
        while (event := self.next())["type"] != "SYNCED":
            assert event["type"] == "CREATED", event
            state[event["binding"]["owner"]["name"]] = event["binding"]
        return state, event

    def cancel(self):
        self.call.cancel()


def as_dict(message):
    """All fields, in the API's names; 64-bit numbers as numbers."""
    return _numbers(message.DESCRIPTOR, json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))


def _numbers(descriptor, fields):
    for name, value in fields.items():
        field = descriptor.fields_by_name[name]
        if field.message_type and field.message_type.full_name.startswith(PACKAGE):
            for item in value if isinstance(value, list) else [value]:
                _numbers(field.message_type, item)
        elif isinstance(value, str) and field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            fields[name] = int(value)
    return fields


def until_arrived(client):
    """Calls that were sent before on this client's channel are with the server: no read waits for them, nor overtakes them
    by much."""
    client.bindings()
    time.sleep(0.2)
    client.bindings()


# Objects as a test writes them.

NETWORK = "vm-net/eth0"


def vm(name="testvm", uid=None, namespace="default", network=NETWORK):
    return {
        "kind": "OWNER_KIND_VIRTUAL_MACHINE", "namespace": namespace, "name": name,
        "uid": f"uid-of-{name}" if uid is None else uid, "network": network}


def pod_owner(name="web", uid="uid-of-web", namespace="default", network=NETWORK):
    return {"kind": "OWNER_KIND_POD", "namespace": namespace, "name": name, "uid": uid, "network": network}


def launcher(number, node="node-a", sandbox=1, age=None):
    """The `number`th pod of a test; each is a minute younger than the one before."""
    minute = number if age is None else age
    return {
        "node": node, "pod": f"virt-launcher-{number}", "pod_uid": f"pod-{number}",
        "container_id": f"sandbox-{number}-{sandbox}",
        "created_at": f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00Z"}


def addresses(binding):
    return [assignment["address"] for assignment in binding["assignments"]]


def identity(binding):
    return addresses(binding), binding["mac"]
