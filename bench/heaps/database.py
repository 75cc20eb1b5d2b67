#!/usr/bin/env python3
"""A database in memory: SQLite, one table of orders with an index."""

import os
import sqlite3

import pace

chosen = pace.options(200, 2000)
source = pace.seeded(chosen)
count = chosen.mb * 1_000_000 // 238
base = sqlite3.connect(":memory:", isolation_level=None)
base.execute("create table orders(id integer primary key, customer int, article text, pieces int, "
             "price real, note text, signature blob)")


def row(number):
    return (number, source.randrange(count // 10),
            f"{source.choice(pace.WORDS)}-{source.randrange(5000):05d}", source.randrange(1, 100),
            round(source.random() * 500, 2), pace.text(source, 2, 40),
            source.randbytes(source.randrange(64)))


INSERT = "insert or replace into orders values(?,?,?,?,?,?,?)"
base.execute("begin")
base.executemany(INSERT, (row(number) for number in range(count)))
base.execute("create index by_customer on orders(customer)")
base.execute("delete from orders where id % 11 = 0")
base.execute("commit")


def step():
    base.execute("begin")
    for _ in range(100):
        number, kind = int(count * source.random() ** 3), source.random()
        if kind < 0.6:
            new = (source.randrange(100), round(source.random() * 500, 2), number)
            base.execute("update orders set pieces=?, price=? where id=?", new)
        elif kind < 0.8:
            base.execute(INSERT, row(number))
        else:
            customer = (source.randrange(count // 10),)
            base.execute("select sum(pieces) from orders where customer=?", customer).fetchone()
    base.execute("commit")


pace.ready(chosen, os.getpid())
chosen.rate /= 100
pace.churn(chosen, step)
