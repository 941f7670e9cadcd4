"""The programs of the story: one server, an agent on each node, the operator's command."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE = 20.0


class StageError(Exception):
    """The story cannot go on; says why."""


def wait_until(what, condition, deadline=DEADLINE):
    """Polls until `condition()` is true; gives back its value. Fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise StageError(f"waited {deadline:.0f} s in vain until {what}")
        time.sleep(0.05)


def environment(**extra):
    """Ours, without HOLDFAST_… variables: they are the programs' flags, and the story sets all it needs itself."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return own | extra


def _die_with_parent():
    """A story that is killed leaves nothing behind."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Stage:
    def __init__(self, binaries, plugin, wire, pools=REPOSITORY / "examples/pools.yaml", agent_options=()):
        self.pools = pools
        self.agent_options = agent_options
        self.binaries = Path(binaries).resolve()
        self.wire = wire
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
        self.logs = self.folder / "logs"
        self.objects = self.folder / "objects"
        self.plugins = self.folder / "cni-bin"
        for folder in (self.logs, self.objects, self.plugins):
            folder.mkdir()
        # The pods' directories of Kubernetes are root's; this one belongs to whoever plays it.
        (self.plugins / "holdfast-cni").symlink_to(Path(plugin).resolve())
        self.server = f"unix:{self.folder}/server.sock"
        self.processes = []

    def start(self):
        self._launch(
            "server", "holdfast-server", "--listen", self.server, "--store", f"sqlite:{self.folder}/ledger.sqlite",
            "--pools", str(self.pools))
        wait_until("the server answers", lambda: "listening on" in self._log("server"))
        for node in ("node-a", "node-b"):
            self.launch_agent(node)
        for node in ("node-a", "node-b"):
            wait_until(f"the agent of {node} listens", lambda: self.socket(node).exists())

    def launch_agent(self, node):
        self._launch(
            f"agent-{node}", "holdfast-agent", "--node", node, "--server", self.server,
            "--socket", str(self.socket(node)), "--state-dir", str(self.folder / f"state-{node}"),
            "--pods", f"directory:{self.objects}", *self.agent_options, node=node)

    def end(self, name):
        """Ends one program, as a service manager does."""
        [(_, process)] = [entry for entry in self.processes if entry[0] == name]
        self.processes = [entry for entry in self.processes if entry[0] != name]
        process.terminate()
        process.wait(DEADLINE)

    def socket(self, node):
        return self.folder / f"{node}.sock"

    def _log(self, name):
        self._check()
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def _launch(self, name, program, *arguments, node=None):
        command = [str(self.binaries / program), *arguments]
        if node and self.wire:
            command = self.wire.inside(node, command)
        log = open(self.logs / f"{name}.log", "wb")
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment(),
            preexec_fn=_die_with_parent)
        self.processes.append((name, process))

    def _check(self):
        for name, process in self.processes:
            if process.poll() is not None:
                last = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise StageError(f"{name} ended with status {process.returncode}: " + " / ".join(last))

    def holdfast(self, *arguments):
        """Runs the operator's command; gives back its status and what it printed."""
        done = subprocess.run(
            [str(self.binaries / "holdfast"), *arguments, "--server", self.server], env=environment(),
            capture_output=True, text=True, timeout=DEADLINE)
        return done.returncode, done.stdout + done.stderr

    def bindings(self):
        """The ledger's bindings of VMs, by the VM's name."""
        self._check()
        status, output = self.holdfast("binding", "list", "-o", "json")
        if status != 0:
            raise StageError(f"holdfast binding list failed: {output.strip()}")
        return {binding["owner"]["name"]: binding for binding in json.loads(output)["bindings"]}

    def stop(self, keep_logs):
        """Ends the programs, newest first; says which did not end in time or in good order."""
        complaints = []
        for name, process in reversed(self.processes):
            if process.poll() is not None:
                continue  # which the story has noticed and told
            process.terminate()
            try:
                if (status := process.wait(DEADLINE)) != 0:
                    complaints.append(f"{name} ended with status {status} after SIGTERM")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                complaints.append(f"{name} did not end within {DEADLINE:.0f} s of SIGTERM")
        if not keep_logs and not complaints:
            shutil.rmtree(self.folder, ignore_errors=True)
        return complaints
