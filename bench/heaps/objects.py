#!/usr/bin/env python3
"""A heap of CPython objects: records in dictionaries, indexes of lists, strings, numbers."""

import os

import pace

chosen = pace.options(300, 2000)
source = pace.seeded(chosen)
count = chosen.mb * 1_000_000 // 985


def record(number):
    return {
        "number": number, "label": f"{source.choice(pace.WORDS)}-{source.randrange(10**6)}",
        "weight": source.random() * 100, "stock": source.randrange(1000),
        "marks": [source.choice(pace.WORDS) for _ in range(source.randrange(1, 5))],
        "place": (source.random(), source.random()), "note": pace.text(source, 3, 30),
    }


records = {f"record:{number:08d}": record(number) for number in range(count)}
by_stock = {}
for key, value in records.items():
    by_stock.setdefault(value["stock"], []).append(key)
numbers = [source.randrange(1 << 40) for _ in range(count)]
for number in range(0, count, 7):  # holes, as a heap that has lived has them
    del records[f"record:{number:08d}"]


def step():
    number = int(count * source.random() ** 3)  # low numbers more often
    key, kind = f"record:{number:08d}", source.random()
    if kind < 0.5 and key in records:
        records[key]["weight"] += 1.0
        records[key]["stock"] = source.randrange(1000)
    elif kind < 0.75:
        records[key] = record(number)
    else:
        numbers[number] = source.randrange(1 << 40)


pace.ready(chosen, os.getpid())
pace.churn(chosen, step, 100)
