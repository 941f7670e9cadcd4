"""Whoever reaches the port: garbage, floods and slow connections. After each the server answers those who keep the rules,
and holds no more than before. docs/limits.md says what is bounded."""

import os
import resource
import socket
import ssl
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from attacker import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    Connection, descriptors, frame, headers, integer, literal, message, remembered, resident)
from client import Client, Refused, launcher, until_arrived, vm
from conftest import POOL
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from processes import Agent, Server, commits_held, free_port, get, sample, wait_until

ALLOCATE = "/holdfast.ipam.v1.IPAM/Allocate"
MIB = 1 << 20
# What an attack may leave in the process: the allocator keeps some of what was freed. Without a bound each attack here
# takes hundreds of MiB, or the server's life.
SLACK = 96 * MIB


@pytest.fixture
def http(tmp_path):
    """HOST:PORT of a server's --http, beside a pool."""
    address = f"127.0.0.1:{free_port()}"
    server = Server(tmp_path, "--http", address).start()
    wait_until("it answers", lambda: answers(address))
    yield server, address
    server.stop()


def answers(address):
    try:
        return get(address, "/healthz")[0] == 200
    except OSError:
        return False


@pytest.fixture
def unharmed(request, server, client):
    """After the test the server serves, and has neither descriptors nor memory of the attack."""
    client.allocate(vm("before"), launcher(1))
    before = resident(server.process), descriptors(server.process)
    yield
    assert client.allocate(vm("after"), launcher(2))["created"]
    wait_until("its descriptors are closed", lambda: descriptors(server.process) <= before[1] + 2)
    kept = request.node.get_closest_marker("keeps")
    most = kept.args[0] if kept else SLACK
    # A connection's calls end one by one, some time after its descriptor.
    wait_until(f"it keeps less than {most // MIB} MiB", lambda: resident(server.process) - before[0] < most)


@pytest.mark.usefixtures("unharmed")
class TestBytes:
    @pytest.mark.parametrize("begin", [b"", PREFACE, PREFACE + frame(SETTINGS), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
    def test_garbage(self, server, begin):
        for _ in range(60):
            with Connection(server.target, greet=False) as peer:
                peer.send(begin + os.urandom(4000))

    def test_frames_that_no_rule_allows(self, server):
        for bad in [frame(HEADERS, END_HEADERS, 0, headers(ALLOCATE)), frame(DATA, 0, 5, b"x"), frame(99, 255, 7, b"x"),
                    frame(CONTINUATION, 0, 1, b"x"), frame(SETTINGS, 0, 0, b"x"), frame(PING, 0, 0, b"short"),
                    frame(HEADERS, END_HEADERS, 2, headers(ALLOCATE)), struct.pack(">I", 0xffffff) + b"\0" * 5,
                    frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f")]:
            with Connection(server.target) as peer:
                peer.send(bad * 3)

    def test_messages_that_are_none(self, server):
        bodies = [message(b"\xff" * 100), struct.pack(">BI", 0, 0xffffffff), struct.pack(">BI", 7, 3) + b"abc",
                  message(b"\x0a\x80\x80\x80\x80\x08"), message(b"\x12" * 3000)]
        with Connection(server.target) as peer:
            for number, body in enumerate(bodies * 20):
                stream = 2 * number + 1
                peer.send(frame(HEADERS, END_HEADERS, stream, headers(ALLOCATE)) + frame(DATA, 1, stream, body))
            peer.send(frame(PING, 0, 0, b"are here"))

    def test_a_message_too_large_is_refused(self, client):
        with pytest.raises(Exception) as error:
            client.call_bytes("IPAM.Allocate", b"\x1a\xff\xff\x3f" + b"x" * MIB)
        assert error.value.code == "RESOURCE_EXHAUSTED" and "larger than max" in error.value.message

    @pytest.mark.parametrize("fields", [literal(":method", "POST"), headers("")], ids=["no path", "empty path"])
    def test_headers_that_are_no_call_end_their_stream(self, server, fields):
        with Connection(server.target) as peer:
            peer.send(frame(HEADERS, END_HEADERS, 1, fields))
            assert any(stream == 1 and (kind == RST_STREAM or kind == HEADERS and flags & END_STREAM)
                       for kind, flags, stream, _ in peer.frames(until=RST_STREAM))

    @pytest.mark.parametrize("acknowledges", [True, False])
    @pytest.mark.parametrize(("first", "more"), [
        # Each of these bytes stands for 4 KB.
        (literal("a", "x" * 4000, indexed=True), b"\xbe" * 16000),
        (literal("a", "x" * 4000, indexed=True), b"\xbe"),
        (b"", b"".join(literal(f"k{n}", "v" * 100) for n in range(100))),
        (b"", b"".join(literal(f"k{n}", "v" * 1000) for n in range(7))),
        (b"\0\1k" + integer(0xffffffff, 7), b"v" * 16000),
        (b"", b""),
    ], ids=["remembered", "remembered, few at a time", "small", "small, few at a time", "one string", "nothing"])
    def test_headers_without_end(self, server, first, more, acknowledges):
        """CVE-2024-27316, CVE-2023-33953 and their kin: each frame small, all together without end."""
        with Connection(server.target, acknowledges=acknowledges) as peer:
            peer.send(frame(HEADERS, 0, 1, headers(ALLOCATE)) + frame(CONTINUATION, 0, 1, first))
            part = frame(CONTINUATION, 0, 1, more)
            for _ in range(128):
                peer.send(part * (16384 // len(part)))
            assert peer.until_closed() is not None, "the server takes headers without end"

    def test_headers_without_end_of_a_stream_that_is_skipped(self, server):
        with Connection(server.target) as peer:
            peer.send(frame(HEADERS, END_HEADERS, 1, headers(ALLOCATE)) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
            peer.send(frame(HEADERS, 0, 1, headers(ALLOCATE)))
            for _ in range(1000):
                peer.send(frame(CONTINUATION, 0, 1, literal("k", "v" * 1000)))
            assert peer.until_closed() is not None, "the server takes headers without end"

    def test_a_field_without_end_in_headers_that_are_skipped(self, server):
        """Each frame is a block of its own, and the core keeps what is not whole of it."""
        with Connection(server.target) as peer:
            peer.send(frame(HEADERS, END_HEADERS, 1, headers(ALLOCATE)) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
            peer.send(frame(HEADERS, END_HEADERS, 1, b"\0\1k" + integer(0xffffffff, 7)))
            for _ in range(500):
                peer.send(frame(HEADERS, END_HEADERS, 1, b"v" * 16000))
            assert peer.until_closed() is not None, "the server takes headers without end"

    def test_headers_of_ended_streams_are_skipped_however_many_they_are(self, server):
        with Connection(server.target) as peer:
            peer.send(frame(HEADERS, END_HEADERS, 1, headers(ALLOCATE)) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)))
            for _ in range(100):
                peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, literal("k", "v" * 1000)))
            assert peer.answers_pings()

    @pytest.mark.parametrize("acknowledges", [True, False])
    def test_headers_beyond_8_KiB_end_the_connection(self, server, acknowledges):
        with Connection(server.target, acknowledges=acknowledges) as peer:
            peer.send(frame(HEADERS, END_HEADERS, 1, headers(ALLOCATE, ("k", "v" * 7000))))
            assert peer.answers_pings()
            peer.send(frame(HEADERS, END_HEADERS, 3, headers(ALLOCATE, ("k", "v" * 9000))))
            assert peer.until_closed() is not None

    def test_headers_in_several_frames_are_a_call(self, server):
        with Connection(server.target) as peer:
            for stream in range(1, 41, 2):
                fields = headers("/grpc.health.v1.Health/Check")
                for at in range(3):
                    part = fields[at * len(fields) // 3:(at + 1) * len(fields) // 3]
                    peer.send(frame(CONTINUATION if at else HEADERS, END_HEADERS if at == 2 else 0, stream, part))
                peer.send(frame(DATA, END_STREAM, stream, message(b"")))
                assert any(at == stream for kind, _, at, _ in peer.frames(until=DATA) if kind == DATA)


@pytest.mark.usefixtures("unharmed")
class TestFloods:
    @pytest.mark.keeps(250 * MIB)
    def test_pings(self, server):
        """The client is told why: ENHANCE_YOUR_CALM (11). The C core keeps an error for each ping that it has read until it can
        close, some 60 MiB for a connection, of as many connections at once as it has threads."""
        with Connection(server.target) as peer:
            peer.send(frame(PING, 0, 0, b"12345678") * 5)
            *_, (_, _, _, goaway) = peer.frames(until=GOAWAY)
            assert struct.unpack(">I", goaway[4:8]) == (11,) and goaway[8:] == b"too_many_pings"
        with Connection(server.target) as peer:
            pings = (frame(PING, 0, 0, b"12345678") for _ in range(100_000))
            assert peer.is_closed_for(pings), "the server takes pings without end"

    def test_settings_and_their_answers(self, server):
        with Connection(server.target) as peer:
            for _ in range(2000):
                if not peer.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 70000)) * 50):
                    break

    @pytest.mark.keeps(400 * MIB)
    def test_streams_that_are_reset_at_once(self, server, client):
        """CVE-2023-44487, on more connections than the server has threads: others are served, late or not at all, and what is
        dead takes no memory without end."""
        begin, again = remembered(ALLOCATE)
        cancel = struct.pack(">I", 8)
        streams = [frame(HEADERS, END_HEADERS, stream, again) + frame(RST_STREAM, 0, stream, cancel)
                   for stream in range(3, 400_000, 2)]
        flood = [b"".join(streams[at:at + 500]) for at in range(0, len(streams), 500)]

        def attack():
            with Connection(server.target) as peer:
                threading.Thread(target=peer.until_closed, daemon=True).start()
                peer.send(frame(HEADERS, END_HEADERS, 1, begin) + frame(RST_STREAM, 0, 1, cancel))
                all(peer.send(part) for part in flood)

        attackers = [threading.Thread(target=attack) for _ in range(4)]
        for attacker in attackers:
            attacker.start()
        most = 0
        while any(attacker.is_alive() for attacker in attackers):
            try:
                client.call("IPAM.Allocate", {"owner": vm("beside")}, timeout=2)
            except Refused as error:
                # Holdfast's own clients come again.
                assert error.code in ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"), error
            most = max(most, resident(server.process))
        assert most < 500 * MIB, most // MIB
        wait_until("it serves", lambda: serves(client))

    def test_streams_without_end_of_a_client_that_acknowledges_nothing(self, server):
        """libgrpc's 1.51 compares streams with the limit that the client has acknowledged: see Sources/CInterpose."""
        with Connection(server.target, greet=False) as peer:
            peer.send(PREFACE + frame(SETTINGS))
            begin, again = remembered(ALLOCATE)
            peer.send(frame(HEADERS, END_HEADERS, 1, begin))
            calls = (frame(HEADERS, END_HEADERS, stream, again) for stream in range(3, 200_000, 2))
            assert peer.is_closed_for(calls), "the server takes streams without end"

    def test_a_client_may_have_1024_streams(self, server):
        with Connection(server.target) as peer:
            peer.send(b"".join(
                frame(HEADERS, END_HEADERS, stream, headers(ALLOCATE)) for stream in range(1, 2048, 2)))
            assert peer.answers_pings()
            peer.send(frame(HEADERS, END_HEADERS, 2049, headers(ALLOCATE)))
            assert b"Failed parsing HTTP/2" in peer.until_closed()

    @pytest.mark.keeps(250 * MIB)
    @pytest.mark.parametrize("method", ["Watch", "Check"])
    def test_calls_of_health_that_never_end(self, server, client, method):
        """Health asks nobody who they are. Where the client has no window, the answer of a Check never leaves either."""
        begin, again = remembered(f"/grpc.health.v1.Health/{method}")
        with ExitStack() as peers:
            for _ in range(6):
                peer = peers.enter_context(Connection(server.target, greet=False))
                peer.send(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
                peer.send(b"".join(
                    frame(HEADERS, END_HEADERS, stream, again if stream > 1 else begin)
                    + frame(DATA, END_STREAM, stream, message(b"")) for stream in range(1, 2000, 2)))
                assert peer.answers_pings()
            wait_until("health is full", lambda: is_refused(client.channel.unary_unary("/grpc.health.v1.Health/Check")))
            for number in range(20):
                client.allocate(vm(f"beside-{number}"), launcher(number + 3))

        wait_until("health has room", lambda: not is_refused(client.channel.unary_unary("/grpc.health.v1.Health/Check")))

    def test_conversations_with_reflection_that_say_nothing(self, server, client):
        versions = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]
        talk = [client.channel.stream_stream(path) for path in versions]

        def refuses(method):
            return is_refused(lambda _, timeout: list(method(iter([]), timeout=timeout)))

        with ExitStack() as peers:
            for path in versions:
                begin, again = remembered(path)
                peer = peers.enter_context(Connection(server.target))
                peer.send(b"".join(
                    frame(HEADERS, END_HEADERS, stream, again if stream > 1 else begin) for stream in range(1, 101, 2)))
                assert peer.answers_pings()
            wait_until("reflection is full", lambda: all(map(refuses, talk)))
        wait_until("reflection has room", lambda: not any(map(refuses, talk)))

    @pytest.mark.keeps(500 * MIB)
    def test_large_messages_that_never_end(self, server, client):
        """Each connection as much as its windows allow, in calls that are never whole; together more than all of them may
        have. What malloc does not give back of it is most on a slow machine, some 370 MiB: what counts is that it does not
        grow from round to round."""
        body = struct.pack(">BI", 0, MIB) + b"x" * 60000

        def fill(_):
            peer = Connection(server.target)
            peer.socket.settimeout(0.5)
            for stream in range(1, 200, 2):
                if not peer.send(frame(HEADERS, END_HEADERS, stream, headers(ALLOCATE))):
                    break
                if not all(peer.send(frame(DATA, 0, stream, body[at:at + 16384])) for at in range(0, len(body), 16384)):
                    break
            return peer

        after = []
        for _ in range(4):
            with ThreadPoolExecutor(8) as pool:
                peers = list(pool.map(fill, range(120)))
            # Whose connection may have been among those that were ended for want of memory.
            wait_until("it serves", lambda: serves(client))
            after.append(resident(server.process))
            for peer in peers:
                peer.close()
        assert max(after) < 700 * MIB and after[-1] < max(after[:-1]) + 100 * MIB, [size // MIB for size in after]

    def test_watches_beyond_what_the_server_keeps(self, client):
        watches = [client.watch(timeout=30) for _ in range(300)]
        refused = 0
        for watch in watches:
            try:
                watch.until_synced()
            except Exception as error:
                assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED"), error
                refused += 1
        assert refused == 300 - 256
        for watch in watches:
            watch.cancel()
        wait_until("others can watch", lambda: can_watch(client))


def serves(client):
    try:
        return client.call("IPAM.Allocate", {"owner": vm("again")}, timeout=5)
    except Refused:
        return False


def is_refused(method):
    try:
        method(b"", timeout=5)
        return False
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
        return True


def can_watch(client):
    watch = client.watch()
    try:
        watch.until_synced()
        return True
    except Exception:
        return False
    finally:
        watch.cancel()


def limited(descriptors_at_most):
    """For Popen: as many descriptors as the process may have."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_at_most, descriptors_at_most))


class TestConnections:
    def test_more_connections_than_descriptors(self, tmp_path, monkeypatch):
        """A listener of libgrpc's 1.51 that cannot accept for lack of descriptors never accepts again: see
        Sources/CInterpose."""
        popen = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: popen(*a, **k, preexec_fn=limited(256)))
        server = Server(tmp_path).start()
        try:
            peers = [Connection(server.target, greet=False) for _ in range(400)]
            assert descriptors(server.process) < 200, "some are left for the store"
            for peer in peers:
                peer.close()
            wait_until("they are gone", lambda: descriptors(server.process) < 60)
            client = Client(server.target)
            client.call("Pools.CreatePool", {"pool": POOL}, timeout=30)
            client.close()
        finally:
            assert server.stop() == 0

    def test_a_connection_beyond_the_limit_is_closed_at_once(self, tmp_path):
        metrics = f"127.0.0.1:{free_port()}"
        server = Server(tmp_path, "--max-connections", "100", "--http", metrics).start()
        try:
            wait_until("it answers", lambda: answers(metrics))
            assert sample(metrics, "grpc_server_connections_refused_total") == 0
            peers = [Connection(server.target, greet=False) for _ in range(700)]
            # 256 are set aside for all that is no such connection.
            wait_until("the rest is closed", lambda: descriptors(server.process) <= 356)
            assert peers[-1].until_closed() == b""
            for peer in peers:
                peer.close()
            wait_until("all are closed", lambda: descriptors(server.process) < 60)
            refused = sample(metrics, "grpc_server_connections_refused_total")
            assert 700 - 356 <= refused <= 600, refused
            client = Client(server.target)
            assert client.call("Pools.ListPools")["pools"] == []
            client.close()
        finally:
            assert server.stop() == 0

    def test_half_open_connections_end_by_themselves(self, tmp_path):
        """Of those who connect and say nothing, or half of what TLS or HTTP/2 begin with."""
        key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
             "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True)
        server = Server(
            tmp_path, "--tls-cert", str(certificate), "--tls-key", str(key), "--http", "off",
            listen=("127.0.0.1:0", f"unix:{tmp_path}/plain.sock")).start()
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        try:
            before = descriptors(server.process)
            hello = ssl_hello()
            peers = [Connection(server.target, greet=False) for _ in range(300)]
            for number, peer in enumerate(peers):
                peer.send(hello[:number * len(hello) // 300])
            with grpc.secure_channel(
                    server.target, credentials, [("grpc.ssl_target_name_override", "localhost")]) as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
            # The handshake's time-out is 10 s.
            wait_until("they are closed", lambda: descriptors(server.process) <= before + 2, deadline=60)
            for peer in peers:
                peer.close()
        finally:
            assert server.stop() == 0


def ssl_hello():
    """A ClientHello, as Python's TLS sends it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


class TestLoad:
    def test_a_flood_of_one_namespace_is_refused_and_another_does_not_wait_for_it(self, http):
        """Thousands of Allocates during one commit. What is too much is refused, counted, and told when to come again; the
        other namespace's calls, which come last, are all served, and before most of the flood."""
        server, metrics = http
        client = Client(server.target)
        client.call("Pools.CreatePool", {"pool": POOL | {
            "prefixes": [{"prefix": "10.16.0.0/16", "gateway": "10.16.0.1"}]}})
        client.close()
        client = Client(server.restart().target)
        reply = message_factory.GetMessageClass(client.method("IPAM.Allocate").output_type)
        requests = {
            namespace: [
                client.request("IPAM.Allocate", {"owner": vm(f"vm-{n}", namespace=namespace)}).SerializeToString()
                for n in range(count)]
            for namespace, count in [("loud", 2500), ("quiet", 30)]}
        # Of one channel 1024 streams are open at most.
        channels = [grpc.insecure_channel(server.target, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(5)]
        methods = [channel.unary_unary(ALLOCATE, response_deserializer=reply.FromString) for channel in channels]

        assert sample(metrics, "holdfast_overloaded_total") == 0
        for channel in channels:
            grpc.channel_ready_future(channel).result(timeout=30)
        own = client.channel.unary_unary(ALLOCATE, response_deserializer=reply.FromString)
        with commits_held(server):
            loud = [methods[n % 5].future(data, timeout=60) for n, data in enumerate(requests["loud"])]
            # The line of the namespace is full then.
            wait_until("some are refused", lambda: any(future.done() for future in loud))
            quiet = [own.future(data, timeout=60) for data in requests["quiet"]]
            until_arrived(client)
        assert {future.code() for future in quiet} == {grpc.StatusCode.OK}
        refusals = [future for future in loud if future.code() != grpc.StatusCode.OK]
        assert {future.code() for future in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert sample(metrics, "holdfast_overloaded_total") == len(refusals)
        last = max(future.result().binding.revision for future in quiet)
        later = [future for future in loud if future not in refusals and future.result().binding.revision > last]
        # Of 1024 that were waiting beyond the next batch when the others came.
        assert len(later) > 512
        for refusal in refusals:
            status = rpc_status.from_call(refusal)
            details = [error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()]
            assert all(any(item.Unpack(detail) for item in status.details) for detail in details)
            assert details[0].reason == "OVERLOADED" and details[1].retry_delay.ToMilliseconds() > 0
        for channel in channels:
            channel.close()
        client.close()

    def test_h2load(self, server, client, tmp_path):
        """nghttp2's load generator as one more client that is not ours: every call is answered, none is lost."""
        request = tmp_path / "request"
        request.write_bytes(message(client.request("IPAM.Allocate", {"owner": vm("h2load")}).SerializeToString()))
        before = resident(server.process)
        done = subprocess.run(
            ["h2load", "-n", "20000", "-c", "20", "-m", "100", "-d", str(request), "-H", "content-type: application/grpc",
             "-H", "te: trailers", f"http://{server.target}{ALLOCATE}"], capture_output=True, text=True, timeout=300)
        assert "20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed" in done.stdout, done.stdout
        assert resident(server.process) - before < SLACK
        assert client.binding(vm("h2load"))["assignments"]


class TestHTTP:
    def test_slow_and_silent_connections_do_not_keep_probes_out(self, http):
        server, address = http
        before = descriptors(server.process), resident(server.process)
        peers = [Connection(address, greet=False) for _ in range(1500)]
        for number, peer in enumerate(peers):
            peer.send(b"GET /healthz HTTP/1.1\r\nX: " if number % 2 else b"")
        assert get(address, "/healthz")[0] == 200
        assert descriptors(server.process) - before[0] < 300
        # Those who say a byte now and then are no better off than the silent ones.
        for peer in peers[1::2]:
            peer.send(b"y")
        assert get(address, "/readyz")[0] == 200
        for peer in peers:
            peer.close()
        wait_until("all are closed", lambda: descriptors(server.process) <= before[0] + 2)
        assert resident(server.process) - before[1] < SLACK

    @pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nothing"])
    def test_a_connection_has_one_request(self, http, path):
        _, address = http
        with Connection(address, greet=False) as peer:
            peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 3)
            answer = peer.until_closed()
        assert answer.count(b"HTTP/1.1 ") == 1 and b"\r\nconnection: close\r\n" in answer.lower()

    def test_probes_come_through_while_others_ask_without_end(self, http):
        """At 0.1 MB/s, on ten connections."""
        _, address = http
        requests, isOver = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100, threading.Event()

        def ask(_):
            while not isOver.is_set():
                with Connection(address, greet=False) as peer:
                    peer.socket.settimeout(0.5)
                    while peer.send(requests) and not isOver.wait(0.4):
                        pass
            return True

        with ThreadPoolExecutor(10) as pool:
            attackers = pool.map(ask, range(10))
            try:
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    # The kubelet's patience with readiness in the chart.
                    assert get(address, "/readyz", timeout=3)[0] == 200
                    assert get(address, "/healthz", timeout=3)[0] == 200
                    time.sleep(0.1)
            finally:
                isOver.set()
            assert all(attackers)

    def test_garbage_and_large_requests(self, http):
        server, address = http
        for data in [os.urandom(5000), b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
                     b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, b"GET / HTTP/1.1\r\nX: " + b"z" * MIB,
                     b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * MIB,
                     b"POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * MIB]:
            with Connection(address, greet=False) as peer:
                peer.send(data)
        assert get(address, "/metrics")[0] == 200


def test_the_agents_socket_and_probes_outlive_garbage(tmp_path, http):
    server, metrics = http
    probes = f"127.0.0.1:{free_port()}"
    agent = Agent(tmp_path, server.target, "--http", probes).start()
    try:
        wait_until("it answers", lambda: answers(probes))
        wait_until("it is ready", lambda: get(probes, "/readyz")[0] == 200)
        before = descriptors(agent.process)
        post = b"POST /cni/add HTTP/1.1\r\nHost: x\r\n"
        for target in (f"unix:{agent.socket}", probes):
            for data in [os.urandom(5000), post + b"Content-Length: 5\r\n\r\n{{{{{",
                         post + b"Content-Length: 3000000\r\n\r\n" + b"[" * 3_000_000, post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET /" + b"a" * 200_000]:
                with Connection(target, greet=False) as peer:
                    peer.send(data)
        peers = [Connection(probes, greet=False) for _ in range(600)]
        peers += [Connection(f"unix:{agent.socket}", greet=False) for _ in range(100)]
        asked = sample(metrics, "grpc_server_handled_total", grpc_method="ListPools")
        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(lambda _: get(probes, "/readyz")[0], range(200)))
        # 503 where the server is slow to say that it is there.
        assert 200 in statuses and statuses <= {200, 503}
        for peer in peers:
            peer.close()
        wait_until("all are closed", lambda: descriptors(agent.process) <= before + 4)
        assert sample(metrics, "grpc_server_handled_total", grpc_method="ListPools") - asked < 50, "a flood of probes is a flood of the server"
    finally:
        assert agent.stop() == 0

