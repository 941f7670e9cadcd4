"""Starts the project's programs as a user would, and ends them by their process ID."""

import os
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 30.0


def binaries():
    """HOLDFAST_BIN, else a build of this repository."""
    if given := os.environ.get("HOLDFAST_BIN"):
        return (REPOSITORY / given).resolve()
    builds = [REPOSITORY / ".build/debug", REPOSITORY / ".build/release"]
    return next((build for build in builds if (build / "holdfast-server").exists()), builds[0])


def environment():
    """Ours without HOLDFAST_… variables, which are the programs' flags."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


def wait_until(what, condition, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline} s in vain until {what}"
        time.sleep(0.02)
    return value


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def get(address, path, timeout=10):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
    return int(answer.split(b" ", 2)[1]), answer


def sample(address, name, **labels):
    """The sum of a metric's samples that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in get(address, "/metrics")[1].decode().splitlines()
             if line.split("{")[0].split(" ")[0] == name and all(label in line for label in wanted)]
    return sum(int(float(line.split()[-1])) for line in lines)


class Server:
    """A holdfast-server on its own store. `addresses`: what it says it listens on."""

    def __init__(self, folder: Path, *arguments, listen=("127.0.0.1:0",), store="ledger.sqlite"):
        self.folder = folder
        self.log = folder / "server.log"
        self.command = [str(binaries() / "holdfast-server"), "--store", f"sqlite:{folder / store}", *arguments]
        for address in listen:
            self.command += ["--listen", address]
        self.process = None
        self.output = folder / "server.out"

    def start(self):
        with open(self.output, "wb") as output, open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=log, stdin=subprocess.DEVNULL, env=environment())
        wait_until("the server says where it listens", lambda: self.addresses or self.process.poll() is not None)
        assert self.process.poll() is None, f"the server ended at once:\n{self.log.read_text()}"
        return self

    @property
    def addresses(self):
        lines = self.output.read_text().splitlines()
        return [line.removeprefix("listening on ") for line in lines if line.startswith("listening on ")]

    @property
    def target(self):
        return self.addresses[0]

    def stop(self, how=signal.SIGTERM):
        """Ends it; gives back its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end within {DEADLINE} s:\n{self.log.read_text()[-4000:]}")

    def restart(self):
        self.stop()
        return self.start()


@contextmanager
def commits_held(server):
    """What the server would commit waits until the end of this, for five seconds at most: then its store is refused. For one that
    has answered no change since its start: it keeps the store for the next then."""
    with closing(sqlite3.connect(server.folder / "ledger.sqlite", isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            store.execute("ROLLBACK")


class Agent:
    """A holdfast-agent with a directory of manifests, on its own socket."""

    def __init__(self, folder: Path, server, *arguments, node="node-a"):
        self.folder = folder
        self.log = folder / "agent.log"
        self.output = folder / "agent.out"
        self.socket = folder / "run/agent.sock"
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.command = [
            str(binaries() / "holdfast-agent"), "--node", node, "--server", server, "--socket", str(self.socket),
            "--state-dir", str(folder / "state"), "--pods", f"directory:{self.manifests}", *arguments]
        self.process = None

    def start(self):
        with open(self.output, "wb") as output, open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=log, stdin=subprocess.DEVNULL, env=environment())
        wait_until(
            "the agent says where it listens",
            lambda: "listening on" in self.output.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, f"the agent ended at once:\n{self.log.read_text()}"
        return self

    def stop(self, how=signal.SIGTERM):
        """Ends it; gives back its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
        return self.process.wait(DEADLINE)


def run(program, *arguments, **options):
    return subprocess.run(
        [str(binaries() / program), *arguments], env=environment(), capture_output=True, text=True, timeout=DEADLINE,
        **options)
