"""The data: a fixed seed gives every byte of it.

Even keys hold random bytes, odd keys JSON text, 900 to 1500 bytes each. The data are kept in one
file as the requests that load them, so a round loads by sending the file and checks by comparing
replies with pieces of it.
"""

import array
import json
import mmap
import os
import random
import socket
import threading

from .errors import BenchError
from .resp import encode

VERSION = 1
VALUE_MIN, VALUE_MAX = 900, 1500
BATCH = 500

WORDS = ("alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november "
         "oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu order "
         "invoice customer payment shipment warehouse pending complete cancelled refund address "
         "street city country phone email").split()


def key_of(index):
    """The key of number `index`."""
    return b"key:%010d" % index


class Values:
    """Makes values; the notes of a document are sentences out of a fixed set."""

    def __init__(self, seed):
        source = random.Random(seed)
        self.sentences = [" ".join(source.choices(WORDS, k=source.randrange(8, 16))) + ". "
                          for _ in range(256)]

    def value(self, source, index):
        """The next value of `source` for key number `index`."""
        length = source.randrange(VALUE_MIN, VALUE_MAX + 1)
        if index % 2 == 0:
            return source.randbytes(length)
        text = json.dumps({
            "id": index, "user": f"{source.choice(WORDS)}.{source.choice(WORDS)}@example.com",
            "created": 1_700_000_000 + source.randrange(100_000_000),
            "status": source.choice(("active", "idle", "banned", "new")),
            "balance": source.randrange(1_000_000) / 100,
            "address": {"street": f"{source.randrange(1, 999)} {source.choice(WORDS)} street",
                        "city": source.choice(WORDS)},
            "notes": ""})[:-2]
        notes = "".join(source.choices(self.sentences, k=length // 40))
        return (text + notes)[:length - 2].encode() + b'"}'


class Dataset:
    """`keys` values of `seed`, loaded from a file that is made when it is not there."""

    def __init__(self, directory, keys, seed):
        self.keys, self.seed = keys, seed
        self.values = Values(seed)
        base = os.path.join(directory, f"data-{VERSION}-{keys}-{seed}")
        if not os.path.exists(base + ".offsets"):
            self._make(base)
        self.offsets = array.array("Q")
        with open(base + ".offsets", "rb") as file:
            self.offsets.frombytes(file.read())
        self.file = open(base + ".requests", "rb")
        self.requests = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)
        self.hot = random.Random(seed + 1).sample(range(keys), max(1, keys // 20))

    def _make(self, base):
        source = random.Random(self.seed)
        offsets = array.array("Q")
        position = 0
        with open(base + ".requests.new", "wb", buffering=1 << 20) as file:
            for index in range(self.keys):
                request = encode(b"SET", key_of(index), self.values.value(source, index))
                # The value's part, `$length value`, begins after the fixed-size key.
                offsets.append(position + len(b"*3\r\n$3\r\nSET\r\n$14\r\n") + 16)
                file.write(request)
                position += len(request)
        offsets.append(position)
        os.rename(base + ".requests.new", base + ".requests")
        with open(base + ".offsets.new", "wb") as file:
            file.write(offsets.tobytes())
        os.rename(base + ".offsets.new", base + ".offsets")

    @staticmethod
    def key(index):
        """The name of key number `index`."""
        return key_of(index)

    def bytes(self):
        """Length of all requests, about the memory of the program."""
        return len(self.requests)

    def close(self):
        """Lets go of the file."""
        self.requests.close()
        self.file.close()

    def bulk(self, index):
        """The reply to GET of key number `index`, as bytes on the wire."""
        start = self.offsets[index]
        if index + 1 == self.keys:
            end = self.offsets[index + 1]
        else:
            end = self.offsets[index + 1] - len(b"*3\r\n$3\r\nSET\r\n$14\r\n") - 16
        return self.requests[start:end]

    def loaded(self, index):
        """The value of key number `index` as loaded."""
        return self.bulk(index).split(b"\r\n", 1)[1][:-2]

    def updated(self, index, version):
        """The value of key number `index` after its update number `version`."""
        return self.values.value(random.Random(f"{self.seed}/{index}/{version}"), index)

    def load(self, client, timeout_s):
        """Sends everything and sees that each request was taken."""
        expected = len(b"+OK\r\n") * self.keys
        answers = []

        def read():
            left = expected
            while left:
                part = client.socket.recv(min(left, 1 << 16))
                if not part:
                    return
                answers.append(part)
                left -= len(part)

        client.socket.settimeout(timeout_s)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.file.seek(0)
        client.socket.sendfile(self.file)
        reader.join(timeout_s)
        if b"".join(answers) != b"+OK\r\n" * self.keys:
            raise BenchError("the program did not take all data")

    def check(self, client, updates):
        """Compares every key. `updates` maps an index to the versions it may have; 0 is as loaded.
        """
        for start in range(0, self.keys, BATCH):
            indexes = range(start, min(start + BATCH, self.keys))
            client.socket.sendall(encode(b"MGET", *map(key_of, indexes)))
            settled = not any(index in updates for index in indexes)
            expected = [self.bulk(index) for index in indexes] if settled else None
            if settled:
                blob = b"*%d\r\n" % len(indexes) + b"".join(expected)
                try:
                    got = client.exactly(len(blob))
                except socket.timeout:
                    got = b""
                if got == blob:
                    continue
                raise BenchError(f"keys {start}..{start + len(indexes)} differ from the data")
            for index, value in zip(indexes, client.reply()):
                allowed = [self.loaded(index) if version == 0 else self.updated(index, version)
                           for version in updates.get(index, (0,))]
                if value not in allowed:
                    raise BenchError(f"key {index} is wrong")
        if client.call("DBSIZE") != self.keys:
            raise BenchError("the number of keys is wrong")
