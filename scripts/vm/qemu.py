"""One guest: a QEMU process in the pod's network namespace, as virt-launcher runs it, and its monitor."""

import json
import re
import signal
import socket
import subprocess

from story.stage import DEADLINE, StageError, _die_with_parent, wait_until

from .tap import TAP


class Qemu:
    def __init__(self, stage, pod, mac, image, incoming=None):
        self.pod = pod
        self.console = stage.logs / f"{pod.name}.console"
        self.monitor_path = stage.folder / f"{pod.container_id[:8]}.qmp"
        kernel, initramfs = image
        log = open(stage.logs / f"{pod.name}.qemu", "wb")
        command = [
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc", "-accel", "tcg", "-cpu", "qemu64",
            "-m", "128", "-display", "none", "-kernel", str(kernel), "-initrd", str(initramfs),
            "-append", "console=ttyS0 quiet panic=-1 no_timer_check", "-serial", f"file:{self.console}",
            "-netdev", f"tap,id=net0,ifname={TAP},script=no,downscript=no", "-device",
            f"virtio-net-pci,netdev=net0,mac={mac},romfile=", "-qmp", f"unix:{self.monitor_path},server=on,wait=off",
            *(["-incoming", f"unix:{incoming}"] if incoming else []),
        ]
        self.process = subprocess.Popen(
            stage.wire.inside(pod.name, command), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent)
        self.log = stage.logs / f"{pod.name}.qemu"
        wait_until("QEMU's monitor is there", lambda: self._runs() and self.monitor_path.exists())
        self.monitor = socket.socket(socket.AF_UNIX)
        self.monitor.settimeout(DEADLINE)
        wait_until("QEMU's monitor answers", self._connect)
        self.replies = self.monitor.makefile("r")
        self.replies.readline()
        self.ask("qmp_capabilities")

    def _connect(self):
        try:
            self.monitor.connect(str(self.monitor_path))
            return True
        except OSError:
            return not self._runs()

    def _runs(self):
        if self.process.poll() is not None:
            raise StageError(f"QEMU of {self.pod.name} ended: {self.log.read_text(errors='replace').strip()[-400:]}")
        return True

    def ask(self, command, **arguments):
        self.monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self.replies.readline():
            reply = json.loads(line)
            if "error" in reply:
                raise StageError(f"QEMU refuses {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]
        raise StageError(f"QEMU of {self.pod.name} closed its monitor")

    # The guest's own words on its console.

    def said(self, pattern):
        """All matches, in order."""
        return re.findall(pattern, self.console.read_text(errors="replace")) if self.console.exists() else []

    def wait_for(self, what, pattern, deadline=120.0, count=1):
        return wait_until(what, lambda: self._runs() and len(m := self.said(pattern)) >= count and m, deadline)[-1]

    # Live migration.

    def migrate(self, to, bytes_per_second=0):
        self.ask("migrate-set-parameters", **{"max-bandwidth": bytes_per_second or 1 << 30})
        self.ask("migrate", uri=f"unix:{to}")

    def migration(self):
        return self.ask("query-migrate").get("status", "none")

    def state(self):
        return self.ask("query-status")["status"]

    def power_off(self):
        """At once, as when the plug is pulled."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.monitor.close()
