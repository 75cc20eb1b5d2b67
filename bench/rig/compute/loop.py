"""Sums up the newest part of many records by their kind, again and again, as a report would."""
import random
import sys
import time

DRIFT = float(sys.argv[1])
PART = 20_000
source = random.Random(7)
words = [f"word-{n}" for n in range(5000)]
records = [
    {"id": n, "kind": source.choice(words), "amount": source.random(), "tags": [n % 7, n % 11]}
    for n in range(600_000)
]
turn = 0
while True:
    first = int(turn * 120 * DRIFT) % (len(records) - PART)
    totals = {}
    for record in records[first:first + PART]:
        count, amount = totals.get(record["kind"], (0, 0.0))
        totals[record["kind"]] = (count + 1, amount + record["amount"])
        record["tags"][0] = count
    best = sorted(totals.items(), key=lambda item: -item[1][1])[:10]
    turn += 1
    print(time.time_ns() // 1_000_000, flush=True)
