"""grpc.health.v1.Health, through grpcio's own health package."""

import signal

import grpc
import pytest
from client import PACKAGE
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def health(empty):
    return health_pb2_grpc.HealthStub(empty.channel)


@pytest.mark.parametrize("service", ["", f"{PACKAGE}.IPAM", f"{PACKAGE}.Pools"])
def test_the_server_and_its_services_are_serving(health, service):
    assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status == SERVING


def test_check_of_another_service_is_not_found(health):
    with pytest.raises(grpc.RpcError) as error:
        health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=20)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_watch_of_another_service_says_that_it_is_unknown(health):
    watch = health.Watch(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=20)
    assert next(watch).status == UNKNOWN
    watch.cancel()


def test_watch_says_serving_and_at_shutdown_not_serving(server, health):
    watch = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
    assert next(watch).status == SERVING
    server.process.send_signal(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    watch.cancel()
    assert server.stop() == 0
