"""A small blocking client of the redis protocol."""

import socket
import time

from .errors import BenchError

ADDRESS = "127.0.0.1"
PORT = 6399


def encode(*arguments):
    """One request as bytes."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if not isinstance(argument, bytes):
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


def connect(port=PORT):
    """A socket to a server that may still be starting."""
    for attempt in range(400):
        try:
            connection = socket.create_connection((ADDRESS, port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except ConnectionRefusedError:
            if attempt == 399:
                raise
            time.sleep(0.05)


class Client:
    """One connection; every wait ends after `timeout_s`."""

    def __init__(self, timeout_s, port=PORT):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self.socket.settimeout(timeout_s)
            self.socket.connect((ADDRESS, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.socket.close()
            raise
        self.input = self.socket.makefile("rb", buffering=1 << 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.socket.close()

    def call(self, *arguments):
        """Sends one request and returns its reply."""
        self.socket.sendall(encode(*arguments))
        return self.reply()

    def reply(self):
        """The next reply: bytes, int, None or a list of these."""
        line = self.input.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("connection closed by the program")
        kind, text = line[:1], line[1:-2]
        if kind == b"+":
            return text
        if kind == b":":
            return int(text)
        if kind == b"-":
            raise BenchError(f"the program refused: {text.decode(errors='replace')}")
        if kind == b"$":
            return None if text == b"-1" else self.exactly(int(text) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(text))]
        raise BenchError(f"not a reply: {line!r}")

    def exactly(self, count):
        """The next `count` bytes."""
        data = self.input.read(count)
        if len(data) != count:
            raise ConnectionResetError("connection closed by the program")
        return data

    def info(self, section):
        """One section of INFO as a dictionary."""
        lines = self.call("INFO", section).decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if ":" in line)


def wait_for_answer(key, value, timeout_s, give_up=lambda: False):
    """Asks for `key` on new connections until `value` comes; returns when, in ns."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not give_up():
        try:
            with Client(max(0.1, deadline - time.monotonic())) as client:
                answer = client.call("GET", key)
        except OSError:
            # Nobody listens yet; a refused connection costs about 50 us.
            time.sleep(0.0005)
            continue
        now = time.monotonic_ns()
        if answer != value:
            raise BenchError(f"wrong value for {key!r} after the resume")
        return now
    raise BenchError(f"no answer within {timeout_s} s")
