"""A query of the newest part of a table, again and again. sqlite keeps the table's pages in its cache."""
import random
import sqlite3
import sys
import time

DRIFT = float(sys.argv[1])
ROWS, PART = 1_200_000, 80_000
source = random.Random(7)
database = sqlite3.connect("orders.db")
database.execute("PRAGMA cache_size = -400000")
database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount REAL, note TEXT)")
rows = ((n, source.randrange(50_000), source.random(), f"{n:x}-" * 20) for n in range(ROWS))
database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
database.commit()
database.execute("SELECT sum(length(note)) FROM orders").fetchone()
turn = 0
while True:
    first = int(turn * 480 * DRIFT) % (ROWS - PART)
    database.execute(
        "SELECT count(*), sum(amount), max(length(note)) FROM orders WHERE id BETWEEN ? AND ?",
        (first, first + PART),
    ).fetchone()
    turn += 1
    print(time.time_ns() // 1_000_000, flush=True)
