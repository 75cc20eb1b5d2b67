"""What the heaps written in Python have in common: options, the sign that they are full, a pace."""

import argparse
import os
import random
import time

WORDS = ("amber birch cloud delta eagle field grain house ivory jewel karst lemon maple north ocean "
         "pearl quartz river stone tiger umbra violet water xenon yarrow zephyr open closed paid "
         "pending shipped returned").split()


def options(default_mb, default_rate):
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=default_mb, help="about this much memory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="of change, after it is full")
    parser.add_argument("--rate", type=float, default=default_rate, help="steps a second")
    parser.add_argument("--ready", required=True, help="file to make once it is full")
    return parser.parse_args()


def text(random_source, least, most):
    return " ".join(random_source.choice(WORDS) for _ in range(random_source.randrange(least, most)))


def ready(chosen, pid):
    with open(chosen.ready + ".new", "w") as file:
        file.write(f"{pid}\n")
    os.rename(chosen.ready + ".new", chosen.ready)


def churn(chosen, step, batch=1):
    """Calls `step()` `batch` times in a row, as often as the rate asks for. The nth step is the
    same in every run: only its time differs."""
    begun, done = time.monotonic(), 0
    while time.monotonic() - begun < chosen.seconds:
        for _ in range(batch):
            step()
        done += batch
        ahead = begun + done / chosen.rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


def seeded(chosen):
    return random.Random(chosen.seed)
