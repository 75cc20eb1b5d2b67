"""Programs that compute and ask nobody: what they are, and how they are started.

Each works on a part of a few hundred megabytes, again and again, and each time on a little more of what comes
next (`drift`: how many times as fast as usual). It notes the time in milliseconds after every turn.
"""

import os
import subprocess
import sys
import time

from .errors import BenchError

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compute")
# So many that the shell does not come to their end.
SHELL_TURNS = 100_000
SHELL_ROWS, SHELL_PART = 1_200_000, 80_000


def python(name):
    return lambda _folder, drift: [PYTHON, f"{PLACE}/{name}", str(drift)]


def java(folder, drift):
    built = subprocess.run(["javac", "-d", folder, f"{PLACE}/Worker.java"], check=False)
    if built.returncode:
        raise BenchError("cannot compile the worker")
    # Its counters for jps are in a file that would have to be put back before each resume.
    return ["java", "-XX:-UsePerfData", "-Xms512m", "-Xmx512m", "-cp", folder, "Worker", str(drift)]


def shell(folder, drift):
    """The shell of sqlite with a table in memory; its queries are in a file."""
    script = f"{folder}/queries.sql"
    with open(script, "w", encoding="ascii") as file:
        file.write("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount REAL, note TEXT);\n")
        file.write(f"WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {SHELL_ROWS - 1}) "
                   "INSERT INTO orders SELECT n, n * 7919 % 50000, n * 0.5, hex(zeroblob(40)) || n FROM n;\n")
        for turn in range(SHELL_TURNS):
            first = int(turn * 480 * drift) % (SHELL_ROWS - SHELL_PART)
            file.write(f"SELECT count(*) * 0 + sum(amount) * 0 + max(length(note)) * 0 + "
                       f"CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) FROM orders "
                       f"WHERE id BETWEEN {first} AND {first + SHELL_PART};\n")
    # The time after a turn is the time before the next one.
    return ["stdbuf", "-oL", "sqlite3", "-batch", "-init", "/dev/null", ":memory:", f".read {script}"]


PROGRAMS = {
    "simulation": python("simulation.py"),
    "loop": python("loop.py"),
    "scan": python("scan.py"),
    "shell": shell,
    "java": java,
}


def turns_ms(folder):
    """When the program's turns were over, on the host's clock."""
    with open(f"{folder}/output", encoding="ascii", errors="replace") as output:
        lines = [line.strip("\0 \n") for line in output if line.endswith("\n")]
    return [int(float(line)) for line in lines if line]


def start(name, folder, drift, patience=240):
    """Starts the program in `folder` and waits until it has begun to compute."""
    words = PROGRAMS[name](folder, drift)
    with open(f"{folder}/output", "wb") as output, open(f"{folder}/errors", "wb") as errors:
        program = subprocess.Popen(["setsid", *words], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=errors, cwd=folder, close_fds=True)
    deadline = time.monotonic() + patience
    while not turns_ms(folder):
        if program.poll() is not None or time.monotonic() > deadline:
            program.kill()
            program.wait()
            with open(f"{folder}/errors", encoding="utf-8", errors="replace") as errors:
                raise BenchError(f"{name} does not begin to compute: {errors.read()[-500:]}")
        time.sleep(0.1)
    return program
