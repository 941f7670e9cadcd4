import os
import signal

import pytest
from client import Client, Refused
from processes import Server, binaries

POOL = {
    "name": "vm-net", "is_default": True, "reuse_delay": "60s",
    "prefixes": [{"prefix": "10.16.0.0/24", "gateway": "10.16.0.1", "excluded": ["10.16.0.200..10.16.0.250"]}],
}


def pytest_configure(config):
    # A shell's background job ignores it, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server = binaries() / "holdfast-server"
    if not server.exists():
        pytest.exit(f"{server} is missing: `make build`, or set HOLDFAST_BIN", returncode=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    # CI has all that scripts/setup installs, and may make namespaces; only its kernel is what it is.
    is_left_out = report.skipped and not hasattr(report, "wasxfail")
    if is_left_out and "HOLDFAST_CI" in os.environ and "kernel" not in str(report.longrepr):
        report.outcome = "failed"
    server = item.funcargs.get("server")
    if report.failed and server is not None and server.log.exists():
        report.sections.append(("the server's log", server.log.read_text(errors="replace")[-6000:]))


@pytest.fixture
def server(tmp_path):
    """A server with an empty store."""
    server = Server(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def empty(server):
    """A client of a server without pools."""
    client = Client(server.target)
    yield client
    client.close()


@pytest.fixture
def client(empty):
    """A client of a server with the pool vm-net."""
    empty.call("Pools.CreatePool", {"pool": POOL})
    return empty


@pytest.fixture
def refused():
    """`with refused("NOT_FOUND", "BINDING_NOT_FOUND") as error:`; error.value is the Refused."""
    class Expect:
        def __init__(self, code, reason):
            self.code, self.reason, self.value = code, reason, None

        def __enter__(self):
            return self

        def __exit__(self, kind, error, _):
            assert kind is not None, f"not refused with {self.code} {self.reason}"
            if not issubclass(kind, Refused):
                return False
            assert (error.code, error.reason, error.domain) == (self.code, self.reason, "holdfast"), str(error)
            self.value = error
            return True

    return Expect
