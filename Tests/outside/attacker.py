"""A peer that keeps no rule: raw HTTP/2 frames (RFC 9113), and what a process has open."""

import os
import socket
import struct
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value, prefix, first=0):
    """RFC 7541, 5.1."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def literal(name, value, indexed=False):
    """One header field, which the peer's table remembers when it is `indexed`."""
    name, value = name.encode(), value if isinstance(value, bytes) else value.encode()
    return (b"\x40" if indexed else b"\x00") + integer(len(name), 7) + name + integer(len(value), 7) + value


def _fields(path):
    return [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "attacker"), ("te", "trailers"),
            ("content-type", "application/grpc")]


def headers(path, *more):
    return b"".join(literal(name, value) for name, value in [*_fields(path), *more])


def remembered(path):
    """The same for a connection's first call, and for those after it: a byte for each field."""
    fields = _fields(path)
    first = b"".join(literal(name, value, indexed=True) for name, value in fields)
    # The newest entry of the table has index 62.
    return first, bytes(0x80 | 62 + index for index in reversed(range(len(fields))))


def message(data):
    """A gRPC message as DATA carries it."""
    return struct.pack(">BI", 0, len(data)) + data


class Connection:
    """One connection of an attacker's. `greet`: with the preface and SETTINGS, as HTTP/2 begins; `acknowledges`: the server's
    SETTINGS, once they have come."""

    def __init__(self, target, greet=True, acknowledges=True):
        if target.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(10)
            self.socket.connect(target.removeprefix("unix:"))
        else:
            host, port = target.rsplit(":", 1)
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        if greet:
            self.send(PREFACE + frame(SETTINGS))
            if acknowledges:
                all(self.frames(until=SETTINGS))
                self.send(frame(SETTINGS, ACK))

    def send(self, data):
        """False once the peer has closed."""
        try:
            self.socket.sendall(data)
            return True
        except (ConnectionError, TimeoutError):
            return False

    def is_closed_for(self, parts):
        """Whether the peer closes for `parts`, at the latest once it has read what the kernel keeps of them."""
        return not all(self.send(part) for part in parts) or self.until_closed() is not None

    def frames(self, until):
        """(kind, flags, stream, payload) of the peer's frames up to one of kind `until`, or until it closes."""
        def exactly(size):
            data = b""
            while len(data) < size:
                if not (more := self.socket.recv(size - len(data))):
                    return None
                data += more
            return data

        kind = None
        while kind is None or kind != until:
            if not (head := exactly(9)):
                return
            size, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
            yield kind, flags, stream, exactly(size)

    def answers_pings(self):
        self.send(frame(PING, 0, 0, b"are here"))
        return any(kind == PING and flags == ACK for kind, flags, _, _ in self.frames(until=PING))

    def until_closed(self, deadline=20):
        """All that the peer says until it closes; None where it does not within the time."""
        self.socket.settimeout(deadline)
        heard = b""
        try:
            while data := self.socket.recv(1 << 16):
                heard += data
        except TimeoutError:
            return None
        except OSError:
            pass
        return heard

    def close(self):
        try:
            # Also for a thread that listens.
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def resident(process):
    """Bytes of memory that the process has in RAM."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))
