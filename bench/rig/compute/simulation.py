"""A wave on a part of a grid, and a small product of matrices in between. The part moves on slowly."""
import sys
import time

import numpy

DRIFT = float(sys.argv[1])
ROWS, COLUMNS, PART = 4096, 2048, 176
source = numpy.random.default_rng(7)
now, before, speed = (source.random((ROWS, COLUMNS)) for _ in range(3))
mixing = source.random((192, 192))
state = source.random((192, 192))
turn = 0
while True:
    first = 1 + int(turn * 0.2 * DRIFT) % (ROWS - PART - 2)
    rows = slice(first, first + PART)
    bend = now[first - 1:first + PART - 1] + now[first + 1:first + PART + 1] - 2 * now[rows]
    before[rows] = 2 * now[rows] - before[rows] + 0.1 * speed[rows] * bend
    now[rows], before[rows] = before[rows], now[rows].copy()
    state = numpy.tanh(mixing @ state / 192)
    turn += 1
    print(time.time_ns() // 1_000_000, flush=True)
