#!/usr/bin/env python3
"""A redis-server with documents, counters, rankings, logs and random bytes, under a skewed load.
Starts the server itself; its pid is the one in the file."""

import ctypes
import json
import signal
import socket
import subprocess
import time

import pace

PORT = 7377
chosen = pace.options(300, 4000)
source = pace.seeded(chosen)
count = chosen.mb * 1_000_000 // 1830


def with_parent():
    """Ends the server when this program ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


server = subprocess.Popen(
    ["redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    start_new_session=True, preexec_fn=with_parent)


def connect():
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", PORT))
        except OSError:
            time.sleep(0.05)
    raise SystemExit("redis-server does not answer")


stream = connect()
answers = stream.makefile("rb")
waiting = []


def send(*words):
    """Queues a command; every 500 commands their answers are awaited."""
    encoded = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        encoded.append(b"$%d\r\n%s\r\n" % (len(word), word))
    waiting.append(b"".join(encoded))
    if len(waiting) >= 500:
        flush()


def flush():
    stream.sendall(b"".join(waiting))
    for _ in waiting:
        line = answers.readline()
        if line[:1] == b"$" and int(line[1:]) >= 0:
            answers.read(int(line[1:]) + 2)
        elif line[:1] == b"-":
            raise SystemExit(line.decode())
    waiting.clear()


def document(number):
    return json.dumps({
        "number": number, "mail": f"{source.choice(pace.WORDS)}{source.randrange(9999)}@example.org",
        "made": 1_700_000_000 + number * 7, "state": source.choice(["new", "known", "gone"]),
        "balance": round(source.random() * 1e4, 2),
        "tags": source.sample(pace.WORDS, source.randrange(1, 6)),
        "address": {"street": f"{source.randrange(1, 999)} {source.choice(pace.WORDS)} street",
                    "town": source.choice(pace.WORDS), "code": source.randrange(10_000, 99_999)},
        "note": pace.text(source, 5, 120)})


for number in range(count):
    send("SET", f"document:{number}", document(number))
    fields = [word for n in range(8) for word in (f"f{n}", source.randrange(1 << source.randrange(4, 31)))]
    send("HSET", f"counters:{number}", *fields)
    send("ZADD", f"ranking:{number % 97}", source.randrange(10**6), f"user:{number}")
    send("RPUSH", f"log:{number % 5003}", f"{1_700_000_000 + number},{source.choice(pace.WORDS)}")
    if number % 4 == 0:
        send("SET", f"bytes:{number}", source.randbytes(source.randrange(64, 4096)))
for number in range(count):
    if source.random() < 0.15:
        send("DEL", f"document:{number}")
flush()


def step():
    for _ in range(400):
        number, kind = int(count * source.random() ** 4), source.random()
        if kind < 0.35:
            send("HINCRBY", f"counters:{number}", f"f{source.randrange(8)}", source.randrange(1, 50))
        elif kind < 0.55:
            send("ZINCRBY", f"ranking:{number % 97}", source.randrange(1, 100), f"user:{number}")
        elif kind < 0.75:
            send("GET", f"document:{number}")
        elif kind < 0.90:
            send("SET", f"document:{number}", document(number))
        else:
            send("RPUSH", f"log:{number % 5003}", f"{number},{source.choice(pace.WORDS)}")
    flush()


pace.ready(chosen, server.pid)
chosen.rate /= 400
pace.churn(chosen, step)
server.terminate()
server.wait()
