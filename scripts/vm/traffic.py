"""Who talks to the guest all the while, from the router: pings, and one TCP session that the guest counts on."""

import re
import signal
import subprocess
import sys
import threading

from story.stage import _die_with_parent

_READ = """import socket, sys
session = socket.create_connection((sys.argv[1], 7000), 10)
session.settimeout(60)
print("open", flush=True)
for line in session.makefile("r"): print(line.strip(), flush=True)
"""


class Session:
    """A TCP session over which the guest says its counter; what came is kept."""

    def __init__(self, wire, address):
        self.process = subprocess.Popen(
            wire.inside("router", [sys.executable, "-c", _READ, address]), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, preexec_fn=_die_with_parent)
        self.opened = self.process.stdout.readline().strip() == "open"
        self.numbers = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.numbers.append(int(line))

    @property
    def lives(self):
        return self.opened and self.process.poll() is None

    def fault(self):
        """What is wrong with the session; None where it lives and the guest's counter only went up, a step at a time."""
        if not self.opened:
            return "it could not be opened"
        if self.process.poll() is not None:
            return "it broke off"
        numbers = list(self.numbers)
        # A slow machine may skip some between two looks, a guest that began anew would go back.
        if any(after <= before for before, after in zip(numbers, numbers[1:])):
            return "the counter went back"
        return None

    def close(self):
        self.process.kill()
        self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()
        self.process.stderr.close()


class Pings:
    """A ping every 20 ms, with the time of each answer."""

    INTERVAL = 0.02

    def __init__(self, wire, address, file):
        self.file = file
        self.process = subprocess.Popen(
            wire.inside("router", ["ping", "-n", "-D", "-i", str(self.INTERVAL), "-W", "1", address]),
            stdout=open(file, "w"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)

    def stop(self):
        """(sent, answered, longest time without an answer in seconds)"""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        output = self.file.read_text()
        times = [float(time) for time in re.findall(r"^\[([\d.]+)\] \d+ bytes from", output, re.MULTILINE)]
        gap = max((after - before for before, after in zip(times, times[1:])), default=float("inf"))
        match = re.search(r"(\d+) packets transmitted, (\d+) received", output)
        return (int(match[1]), int(match[2]), gap) if match else (0, 0, gap)
