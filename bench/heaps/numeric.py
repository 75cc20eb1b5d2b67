#!/usr/bin/env python3
"""Numbers: two simulated fields, a model's weights with the state of its optimiser, a graph, and
series over time. Half of it is rewritten all the time. Needs numpy."""

import os

import numpy as np

import pace

chosen = pace.options(320, 4)
source = np.random.default_rng(chosen.seed)
scale = chosen.mb / 320

# Heat in a plate, float64: smooth, with noise in the last bits; a second copy for the next step.
side = int(2048 * scale ** 0.5)
y, x = np.mgrid[0:side, 0:side].astype(np.float64) / side
heat = np.zeros((side, side))
for at_x, at_y, width, height in source.random((24, 4)):
    heat += 300 * height * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (0.002 + 0.02 * width))
heat += 273.15 + source.normal(0, 2, heat.shape)
spare = heat.copy()
del x, y

# A wave in a room, float32, with its velocity.
edge = int(200 * scale ** (1 / 3))
line = np.linspace(0, 1, edge, dtype=np.float32)
wave = (np.sin(9 * line)[:, None, None] * np.cos(7 * line)[None, :, None]
        * np.sin(11 * line + 0.3)[None, None, :]).astype(np.float32)
speed = np.zeros_like(wave)

# Weights and the two moments of their gradients, float32.
rows = int(2800 * scale ** 0.5)
weights = source.normal(0, 0.02, (rows, rows)).astype(np.float32)
first = source.normal(0, 1e-3, (rows, rows)).astype(np.float32)
second = (source.random((rows, rows)) * 1e-6).astype(np.float32)

# A graph as compressed rows, int32, and things that never change, int64, float64, int32.
nodes = int(500_000 * scale)
starts = np.concatenate(([0], np.cumsum(source.poisson(16, nodes))))
ends = source.integers(0, nodes, starts[-1], dtype=np.int32)
for node in range(nodes):
    ends[starts[node]:starts[node + 1]].sort()
length = int(2e6 * scale)
stamps = 1_700_000_000_000 + np.cumsum(source.integers(1, 40, length))
prices = np.round(100 + np.cumsum(source.normal(0, 0.02, length)), 2)
counters = source.zipf(1.5, 2 * length).clip(0, 1 << 30).astype(np.int32)


def heat_step():
    global heat, spare
    spare[1:-1, 1:-1] = heat[1:-1, 1:-1] + 0.2 * (
        heat[:-2, 1:-1] + heat[2:, 1:-1] + heat[1:-1, :-2] + heat[1:-1, 2:]
        - 4 * heat[1:-1, 1:-1])
    heat, spare = spare, heat


def wave_step():
    inner = (slice(1, -1),) * 3
    laplacian = -6 * wave[inner]
    for axis in range(3):
        for part in (slice(0, -2), slice(2, None)):
            laplacian += wave[tuple(part if a == axis else slice(1, -1) for a in range(3))]
    speed[inner] += np.float32(0.2) * laplacian
    wave[inner] += np.float32(0.2) * speed[inner]


steps = 0


def step():
    global steps
    steps += 1
    heat_step()
    heat_step()
    if steps % 4 == 0:
        wave_step()
    some = slice(steps * 50 % rows, steps * 50 % rows + 50)  # an optimiser that updates few rows
    gradient = source.normal(0, 1e-2, weights[some].shape).astype(np.float32)
    first[some] = 0.9 * first[some] + 0.1 * gradient
    second[some] = 0.999 * second[some] + 0.001 * gradient * gradient
    weights[some] -= 1e-3 * first[some] / (np.sqrt(second[some]) + 1e-8)
    np.add.at(counters, source.integers(0, counters.size, 20_000), 1)


for _ in range(60):
    heat_step()
for _ in range(20):
    wave_step()
pace.ready(chosen, os.getpid())
pace.churn(chosen, step)
