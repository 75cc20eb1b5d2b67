"""Threads and an asyncio loop, each of which appends numbered values to a file of its own."""
import asyncio
import os
import queue
import sys
import threading
import time

DIR = sys.argv[1]


class Sequence:
    def __init__(self, number):
        self.file = open(os.path.join(DIR, f"lines-{number}"), "w", buffering=1)
        self.count = self.value = 0

    def step(self):
        self.count += 1
        self.value = (self.value * 6364136223846793005 + 1442695040888963407) % 2**64
        self.file.write(f"{self.count} {self.value:016x}\n")


def sleeper(lines):
    while True:
        time.sleep(0.007)
        lines.step()


def receiver(lines, numbers):
    expected = 0
    while True:
        number = numbers.get()
        assert number == expected, (number, expected)
        expected += 1
        lines.step()


def sender(numbers):
    number = 0
    while True:
        time.sleep(0.011)
        numbers.put(number)
        number += 1


async def ticker(lines):
    while True:
        await asyncio.sleep(0.009)
        lines.step()


async def chain(lines):
    loop = asyncio.get_running_loop()
    while True:
        await loop.run_in_executor(None, time.sleep, 0.013)
        lines.step()


async def main():
    numbers = queue.Queue()
    for target, arguments in [
        (sleeper, (Sequence(0),)),
        (receiver, (Sequence(1), numbers)),
        (sender, (numbers,)),
    ]:
        threading.Thread(target=target, args=arguments, daemon=True).start()
    await asyncio.gather(ticker(Sequence(2)), chain(Sequence(3)))


asyncio.run(main())
