#!/usr/bin/env python3
"""Updates one program many times under load and looks whether anybody notices.

    updates.py redis      GET and SET on persistent connections, BGSAVE children in between
    updates.py asyncio    a Python server; also: node, java, nginx, memcached
    --dry-run             every update goes through everything up to the commit, and back

Every client keeps its connection from beginning to end and knows every answer. A lost connection,
a wrong answer or a failed update ends the run with status 1.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import update
from rig import resp
from rig.verb import rekindle

HERE = os.path.dirname(os.path.abspath(__file__))
ECHO = {
    "asyncio": """
import asyncio, sys
async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
""",
    "node": """
const http = require('http');
const server = http.createServer((request, answer) => answer.end(request.url));
server.keepAliveTimeout = 600000;
server.requestTimeout = 0;
server.listen(Number(process.argv[2]), '127.0.0.1');
""",
    "java": """
import java.io.*;
import java.net.*;
class Echo {
    public static void main(String[] words) throws Exception {
        var server = new ServerSocket(Integer.parseInt(words[0]), 50, InetAddress.getByName("127.0.0.1"));
        while (true) {
            var connection = server.accept();
            new Thread(() -> {
                try {
                    var lines = new BufferedReader(new InputStreamReader(connection.getInputStream()));
                    var answers = connection.getOutputStream();
                    for (String line; (line = lines.readLine()) != null; ) {
                        answers.write((line + "\\n").getBytes());
                        answers.flush();
                    }
                } catch (IOException error) {
                    error.printStackTrace();
                }
            }).start();
        }
    }
}
""",
}
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 64; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 $uri; }} }}
}}
"""


class Program:
    """How a server is started, and how a client asks it and checks the answer."""

    def __init__(self, name, folder, port):
        self.name, self.folder, self.port = name, folder, port

    def command(self):
        port = str(self.port)
        if self.name == "redis":
            return ["redis-server", "--port", port, "--save", "", "--dir", self.folder]
        if self.name == "memcached":
            return ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", port, "-m", "256"]
        if self.name == "nginx":
            return ["nginx", "-c", self.write("conf", NGINX.format(folder=self.folder, port=port)),
                    "-e", f"{self.folder}/errors"]
        if self.name == "java":
            source = self.write("Echo.java", ECHO["java"])
            subprocess.run(["javac", "-d", self.folder, source], check=True)
            return ["java", "-XX:+UseG1GC", "-Xmx256m", "-cp", self.folder, "Echo", port]
        runs = {"asyncio": "/usr/bin/python3", "node": shutil.which("node")}[self.name]
        return [runs, self.write("program", ECHO[self.name]), port]

    def write(self, name, text):
        path = f"{self.folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path

    def start(self):
        nothing = subprocess.DEVNULL
        with open(f"{self.folder}/log", "wb") as log:
            return subprocess.Popen(["setsid", *self.command()], stdin=nothing, stdout=log,
                                    stderr=log, close_fds=True)

    def ask(self, connection, lines, client, number):
        """Whether the answer is the right one."""
        if self.name in ("asyncio", "java"):
            line = b"%d %d\n" % (client, number)
            connection.sendall(line)
            return lines.readline() == line
        if self.name in ("node", "nginx"):
            path = b"/%d/%d" % (client, number)
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            length = 0
            while (header := lines.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
                if header.lower().startswith(b"transfer-encoding:"):
                    length = None
            if length is None:
                length = int(lines.readline(), 16)
                body = lines.read(length)
                lines.readline(), lines.readline(), lines.readline()
                return body == path
            return lines.read(length) == path
        if self.name == "memcached":
            key, value = b"%d-%d" % (client, number % 1000), b"%d" % number
            connection.sendall(b"set %s 0 0 %d\r\n%s\r\nget %s\r\n" % (key, len(value), value, key))
            answer = [lines.readline() for _ in range(4)]
            return answer == [b"STORED\r\n", b"VALUE %s 0 %d\r\n" % (key, len(value)),
                              value + b"\r\n", b"END\r\n"]
        key = b"k%d" % (number * 7919 % self.keys)
        if number % 10 == 0:
            own = b"own-%d-%d" % (client, number % 100)
            connection.sendall(update.command(b"SET", own, b"%d" % number)
                               + update.command(b"GET", own))
            good = lines.readline() == b"+OK\r\n"
            lines.readline()
            return good and lines.readline().strip() == b"%d" % number
        connection.sendall(update.command(b"GET", key))
        lines.readline()
        return lines.readline().rstrip() == update.value(int(key[1:]))


class Client(threading.Thread):
    """Asks again and again on one connection."""

    def __init__(self, program, number):
        super().__init__(daemon=True)
        self.program, self.number = program, number
        self.connection = resp.connect(program.port)
        self.answers, self.longest, self.wrong, self.ends = 0, 0.0, None, False

    def run(self):
        lines = self.connection.makefile("rb")
        while not self.ends and self.wrong is None:
            begun = time.perf_counter()
            try:
                if not self.program.ask(self.connection, lines, self.number, self.answers):
                    self.wrong = f"answer {self.answers} is wrong"
            except (OSError, ValueError) as error:
                self.wrong = f"answer {self.answers}: {error}"
            self.answers += 1
            self.longest = max(self.longest, time.perf_counter() - begun)
            time.sleep(0.001)


def look(program, clients):
    for client in clients:
        if client.wrong is not None:
            raise SystemExit(f"{program.name}, client {client.number}: {client.wrong}")


def updated(options, folder, pid):
    dry_run = ["--dry-run"] if options.dry_run else []
    return rekindle(options.binary, f"{folder}/store", "update", str(pid), "--wait", "60s", *dry_run)


def measure(options, folder):
    program = Program(options.program, folder, options.port)
    program.keys = options.mb * 880
    pid = program.start().pid
    clients, pauses, bgsaves = [], [], 0
    try:
        side = resp.connect(options.port)
        if program.name == "redis":
            update.fill(side, program.keys)
        side_lines = side.makefile("rb")
        clients = [Client(program, number) for number in range(options.clients)]
        for client in clients:
            client.start()
        for number in range(options.rounds):
            if program.name == "redis" and number % 3 == 0:
                side.sendall(update.command(b"BGSAVE"))
                bgsaves += b"started" in side_lines.readline()
            for client in clients:
                client.longest = 0.0
            report = updated(options, folder, pid)
            pid = report["pid"]
            look(program, clients)
            pauses.append(report["pause_us"] / 1000)
            gap = max(client.longest for client in clients) * 1000
            print(f"{number + 1}: pause {pauses[-1]:.0f} ms, longest answer {gap:.0f} ms",
                  flush=True)
            if number % 10 == 9:
                prune = [options.binary, "--store", f"{folder}/store", "prune", "--keep", "3",
                         "--consolidate"]
                subprocess.run(prune, capture_output=True, check=True)
        time.sleep(0.5)
        for client in clients:
            client.ends = True
            client.join(10)
        look(program, clients)
        if program.name == "redis":
            whole(program, side, side_lines)
        answers = sum(client.answers for client in clients)
        print(f"{program.name}: {options.rounds} updates, {answers} answers on {len(clients)} "
              f"connections, none wrong, none lost; pause median {statistics.median(pauses):.0f} "
              f"[{min(pauses):.0f}..{max(pauses):.0f}] ms; {bgsaves} BGSAVE")
    finally:
        os.kill(pid, signal.SIGKILL)
    for client in clients:
        if client.connection.recv(1 << 16) != b"":
            raise SystemExit("a connection outlived the program")
    for attempt in range(100):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                return free.bind(("127.0.0.1", options.port))
            except OSError:
                if attempt == 99:
                    raise
        time.sleep(0.02)


def whole(program, side, lines):
    """Every key of the redis, compared."""
    for start in range(0, program.keys, 500):
        keys = range(start, min(start + 500, program.keys))
        side.sendall(b"".join(update.command(b"GET", b"k%d" % key) for key in keys))
        for key in keys:
            lines.readline()
            if lines.readline().rstrip() != update.value(key):
                raise SystemExit(f"key {key} has another value")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=["redis", "memcached", "nginx", *ECHO])
    parser.add_argument("--binary", default=f"{HERE}/../target/release/rekindle")
    parser.add_argument("--mb", type=int, default=1000, help="of a redis")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--port", type=int, default=7398)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--store", default=tempfile.gettempdir(), help="where the store is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.store) as folder:
        if options.program == "nginx":
            os.chmod(folder, 0o755)
        measure(options, folder)


if __name__ == "__main__":
    sys.exit(main())
