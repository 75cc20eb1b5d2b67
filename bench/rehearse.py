#!/usr/bin/env python3
"""What a rehearsal foresees of a server, held against what the server then has to wait for.

A server is under load when `checkpoint --stop --rehearse --record-input` is taken of it: the clone gets what
the clients had sent. Then it is resumed with nothing loaded beforehand, the same load goes on, and every page that the
server waits for is in the fault log of that resume. Told are the share of these pages that the rehearsal had
foreseen (recall), and the share of what it had foreseen that was needed (precision), each for the
first requests, and what it was without recorded input.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from rig.foreseen import pages_of, waited_for
from rig.verb import rekindle
from update import command, fill, value

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
SERVER = """
import http.server, sys
count = int(sys.argv[2])
texts = {n: b"%08d " % n * 400 for n in range(count)}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = texts[int(self.path[1:])]
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Redis:
    """Reads of keys, of which a few are asked for most of the time, on one connection."""

    def __init__(self, arguments):
        self.port, self.keys, self.hot = arguments.port, arguments.keys, arguments.hot
        self.words = ["redis-server", "--port", str(self.port), "--save", ""]

    def fill(self):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            fill(connection, self.keys)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, connection, key):
        connection.sendall(command(b"GET", b"k%d" % key))
        answer = b""
        while not answer.endswith(value(key) + b"\r\n"):
            part = connection.recv(1 << 16)
            if not part:
                raise OSError("closed")
            answer += part


class Http:
    """One connection for each request to a server in Python."""

    def __init__(self, arguments):
        self.port, self.keys, self.hot = arguments.port, min(arguments.keys, 20_000), arguments.hot
        self.words = [PYTHON, "-c", SERVER, str(self.port), str(self.keys)]

    def fill(self):
        pass

    def connect(self):
        return contextlib.nullcontext()

    def ask(self, _, key):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", f"/{key}")
        right = connection.getresponse().read() == b"%08d " % key * 400
        connection.close()
        if not right:
            raise SystemExit(f"a wrong answer for {key}")


def key(source, program):
    """Nine of ten are of the hot ones, which lie as far from each other as can be."""
    keys = program.keys
    if source.random() < 0.9:
        return source.randrange(program.hot) * (keys // program.hot)
    return source.randrange(keys)


class Load(threading.Thread):
    """Asks until it is told to end, or the server has gone."""

    def __init__(self, program, seed):
        super().__init__(daemon=True)
        self.program, self.source, self.asked, self.ends = program, random.Random(seed), 0, False

    def run(self):
        try:
            with self.program.connect() as connection:
                while not self.ends:
                    self.program.ask(connection, key(self.source, self.program))
                    self.asked += 1
                    time.sleep(0.0005)
        except (OSError, http.client.HTTPException):
            pass


def measure(arguments, program, record, folder):
    store = f"{folder}/store"
    with open(f"{folder}/log", "wb") as log:
        server = subprocess.Popen(["setsid", *program.words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
    pid = server.pid
    threading.Thread(target=server.wait, daemon=True).start()
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", program.port)):
                break
            if time.monotonic() > deadline:
                raise SystemExit("the server does not listen")
            time.sleep(0.1)
        program.fill()
        load = Load(program, 1)
        load.start()
        time.sleep(2)
        words = ["checkpoint", str(pid), "--stop", "--tcp", "close", "--rehearse", arguments.rehearse]
        report = rekindle(arguments.binary, store, *words, *(["--record-input", arguments.record] if record else []))
        load.ends = True
        load.join()
        rehearsal = report["rehearsal"]
        foreseen = predicted(arguments, store) if rehearsal["useful"] else []
        pid = rekindle(arguments.binary, store, "resume", "latest", "--detach", "--on-demand")["pid"]
        source = load.source
        with program.connect() as connection:
            for _ in range(arguments.requests):
                program.ask(connection, key(source, program))
        # The log is whole when the program has been checkpointed again.
        rekindle(arguments.binary, store, "checkpoint", str(pid), "--stop", "--tcp", "close")
        needed = waited_for(store)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    both = len(set(foreseen) & set(needed))
    return {
        "ended": rehearsal["ended"],
        "input": rehearsal.get("input"),
        "foreseen_pages": len(foreseen),
        "needed_pages": len(needed),
        "recall": round(both / len(needed), 3) if needed else None,
        "precision": round(both / len(foreseen), 3) if foreseen else None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--hot", type=int, default=200, help="keys that nine of ten requests are for")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rehearse", default="200ms")
    parser.add_argument("--record", default="1s")
    parser.add_argument("--port", type=int, default=7421)
    parser.add_argument("--folder", help="where stores are made; default: a temporary folder")
    arguments = parser.parse_args()
    for make in (Redis, Http):
        for record in (True, False):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                result = measure(arguments, make(arguments), record, folder)
            print(json.dumps({"program": make.__name__.lower(), "record_input": record, **result}), flush=True)


if __name__ == "__main__":
    main()
