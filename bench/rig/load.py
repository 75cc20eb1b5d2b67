"""The load: reads and writes at a fixed pace in a process of its own, every answer checked."""

import itertools
import multiprocessing
import random
import time

from . import resp
from .cell import die_with_parent
from .errors import BenchError

GETS_PER_S, SETS_PER_S = 1000, 100


class Load:
    """A running load on `cell`; stop it once."""

    def __init__(self, cell, data, seed, versions=None):
        """`versions` has the updates of keys that were made before, by index."""
        context = multiprocessing.get_context("fork")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_run, daemon=True,
                                       args=(cell, data, seed, far, versions or {}))
        self.process.start()
        far.close()
        if not self.pipe.poll(20) or self.pipe.recv() != "running":
            self.process.kill()
            raise BenchError("the load does not start")

    def stop(self):
        """Ends the load: times of good answers in ns, updates per key, errors."""
        try:
            self.pipe.send("stop")
            if not self.pipe.poll(60):
                raise BenchError("the load does not stop: the program does not answer")
            return self.pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            raise BenchError("the load ended by itself") from error
        finally:
            self.process.join(5)
            self.process.kill()


def _run(cell, data, seed, pipe, versions):
    die_with_parent()
    cell.enter_network()
    chance = random.Random(seed)
    times, versions, errors = [], dict(versions), []
    interval = 1 / (GETS_PER_S + SETS_PER_S)
    every = 1 + GETS_PER_S // SETS_PER_S
    with resp.Client(50) as client:
        pipe.send("running")
        due = time.monotonic()
        for step in itertools.count():
            index = chance.choice(data.hot)
            version = versions.get(index, 0)
            try:
                if step % every == 0:
                    client.call("SET", data.key(index), data.updated(index, version + 1))
                    versions[index] = version + 1
                else:
                    value = client.call("GET", data.key(index))
                    expected = data.updated(index, version) if version else data.loaded(index)
                    if value != expected:
                        errors.append(f"wrong value of key {index}")
            except (OSError, BenchError) as error:
                errors.append(str(error))
                break
            times.append(time.monotonic_ns())
            if step % 16 == 0 and pipe.poll():
                break
            # Missed steps are dropped, not made up: after a pause there is no burst.
            due = max(due + interval, time.monotonic() - interval)
            time.sleep(max(0, due - time.monotonic()))
    pipe.send((times, {index: (version,) for index, version in versions.items()}, errors))


def worst_gap_us(times, start_ns, end_ns):
    """Longest time between two good answers that overlaps the window."""
    gaps = [(after - before) // 1000 for before, after in zip(times, times[1:])
            if after >= start_ns and before <= end_ns]
    if not gaps:
        raise BenchError("no answers in the window")
    return max(gaps)
