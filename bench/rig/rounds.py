"""One round of one peer: load, checkpoint live, checkpoint with stop, resume, compare all."""

import os
import random
import threading
import time

from . import resp
from .cell import Cell, libc
from .dataset import key_of
from .errors import BenchError
from .load import Load, worst_gap_us
from .machine import load_average, resident, stolen_us, touch_memory

ANSWER_TIMEOUT_S = 120
LOAD_TIMEOUT_S = 300
CONTROL_S = 3
AFTER_S = 1
HOT_READS = 1000
SETTLE_S = 5


class Plan:
    """What every round does."""

    def __init__(self, program, data, store, root, binds, options):
        self.program, self.data, self.store, self.root = program, data, store, root
        self.binds, self.user, self.cold = binds, options.user, options.cold
        self.bgsave = program.saves and not options.no_bgsave
        self.zstd = options.zstd
        self.settle = options.settle


def measure(plan, peer, number, last):
    """Runs round `number` of `peer` in a new cell and returns its figures."""
    figures = {"kind": "round", "peer": peer.name, "round": number, "load": load_average()}
    # The program, its data, two checkpoints and the resumed program, with room to spare.
    touch_memory(plan.data.bytes() * 8)
    stolen_before_us = stolen_us()
    with Cell(plan.root, plan.binds) as cell:
        figures["peer_version"] = peer.version(cell)
        peer.prepare(cell)
        pid, outside, figures["program"] = start_program(plan.program, plan.user, cell)
        plan.program.started(outside)
        cell.in_network(lambda: _load(plan.data))
        figures.update(resident(outside))
        sync(plan.store)
        figures["live"], updates = live(plan.program, plan.data, cell, pid, peer, number)
        # What one step leaves to be written back must not burden the next.
        sync(plan.store)
        _stop(plan, peer, cell, pid, outside, figures)
        _resume(plan, peer, cell, number, updates, figures, plan.bgsave and last)
        figures["resume"]["same_pid"] = pid in cell.pids()
        figures["stolen_us"] = stolen_us() - stolen_before_us
        if last and plan.zstd:
            figures["zstd"] = peer.compressed()
    return figures


def start_program(program, user, cell):
    """Starts the program and waits for it: its pid inside and outside, its version."""
    words = []
    if user:
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    cell.start([*words, *program.argv])

    def ask():
        resp.wait_for_answer(b"absent", None, 20)
        with resp.Client(20) as client:
            return client.info("server")

    server = cell.in_network(ask)
    pid = int(server["process_id"])
    pids = cell.pids()
    if pid not in pids:
        raise BenchError(f"{program.name} is not in its cell")
    version = server.get("redis_version") or server.get("server_version")
    return pid, pids[pid], f"{program.name} {version}"


def _load(data):
    with resp.Client(LOAD_TIMEOUT_S) as client:
        data.load(client, LOAD_TIMEOUT_S)


def live(program, data, cell, pid, peer, number, control_s=CONTROL_S):
    """A checkpoint under load that goes on: pause as reported and as felt by a client and inside, and
    what the load wrote."""
    load = Load(cell, data, number)
    try:
        time.sleep(0.5)
        program.inside_us(cell)
        control_from = time.monotonic_ns()
        time.sleep(control_s)
        control_to = time.monotonic_ns()
        control_inside_us, control_late_us, _ = program.inside_us(cell)
        taken = peer.checkpoint(cell, pid, stop=False)
        ended = time.monotonic_ns()
        time.sleep(AFTER_S)
        inside_us, late_us, worst_at_ns = program.inside_us(cell)
    finally:
        times, updates, errors = load.stop()
    if errors:
        raise BenchError(f"a client saw {len(errors)} errors: {errors[0]}")
    figures = {
        **taken, "felt_us": worst_gap_us(times, taken["started_ns"], ended + AFTER_S * 10**9),
        "control_us": worst_gap_us(times, control_from, control_to),
        "inside_us": inside_us, "control_inside_us": control_inside_us,
        "inside_phase": phase_at(taken, worst_at_ns),
        "late_us": late_us, "control_late_us": control_late_us,
        "answers": len(times), "updates": len(updates),
    }
    return figures, updates


def phase_at(command, at_ns):
    """What the command was doing at that time by its own account, where it gives one. A command
    needs a millisecond or two to begin."""
    if at_ns is None:
        return None
    since_us = (at_ns - command["started_ns"]) // 1000
    for phase in command["detail"].get("phases", []):
        if since_us < phase["us"]:
            return phase["name"]
        since_us -= phase["us"]
    return None


def _stop(plan, peer, cell, pid, outside, figures):
    """A checkpoint that ends the program, and the time until it is on disk."""
    before = resident(outside)
    stop = peer.checkpoint(cell, pid, stop=True)
    if os.path.exists(f"/proc/{outside}"):
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{outside}") and time.monotonic() < deadline:
            time.sleep(0.001)
        if os.path.exists(f"/proc/{outside}"):
            raise BenchError(f"{peer.name} did not end the program")
    synced_from = time.monotonic_ns()
    sync(plan.store)
    stop["sync_us"] = (time.monotonic_ns() - synced_from) // 1000
    stop["durable_us"] = stop["wall_us"] + stop["sync_us"]
    figures["stop"] = {**stop, **before}


def _resume(plan, peer, cell, number, updates, figures, bgsave):
    """A resume: first right answer, the hot reads, every key, then a save by the program."""
    chance = random.Random(number)
    data = plan.data

    def value_of(index):
        version = updates.get(index, (0,))[-1]
        return data.updated(index, version) if version else data.loaded(index)

    first = chance.choice(data.hot)
    expected = value_of(first)
    if plan.cold:
        drop_caches()
    failed = []

    def watch():
        return resp.wait_for_answer(key_of(first), expected, ANSWER_TIMEOUT_S, lambda: failed)

    resumed, answered = together(cell, watch, lambda: peer.resume(cell), failed)
    resumed["first_answer_us"] = (answered - resumed["started_ns"]) // 1000

    def hot_reads():
        with resp.Client(60) as client:
            hot = [(key_of(index), value_of(index))
                   for index in chance.choices(data.hot, k=HOT_READS)]
            moments = [time.monotonic_ns()]
            got = []
            for key, _ in hot:
                got.append(client.call("GET", key))
                moments.append(time.monotonic_ns())
            if got != [value for _, value in hot]:
                raise BenchError("a hot key is wrong after the resume")
            return moments

    def compare():
        with resp.Client(60) as client:
            data.check(client, updates)
            if bgsave:
                _save(client)

    moments = cell.in_network(hot_reads)
    resumed["hot_reads_us"] = (moments[-1] - moments[0]) // 1000
    if plan.settle:
        updates = _settle(plan, cell, number, answered, moments, updates, resumed)
    cell.in_network(compare)
    resumed["saved"] = bool(bgsave)
    figures["resume"] = resumed


def _settle(plan, cell, number, answered, moments, updates, resumed):
    """The usual load for the first seconds after a resume: the worst request in them, and in as
    many seconds that follow when all is there. Gives the updates so far."""
    versions = {index: known[-1] for index, known in updates.items()}
    load = Load(cell, plan.data, number + 1000, versions)
    try:
        first_to = answered + SETTLE_S * 10**9
        time.sleep(max(0, first_to - time.monotonic_ns()) / 10**9)
        control_from = time.monotonic_ns() + 10**9
        time.sleep(SETTLE_S + 1)
    finally:
        times, updates, errors = load.stop()
    if errors:
        raise BenchError(f"a client saw {len(errors)} errors after the resume: {errors[0]}")
    reads = max(after - before for before, after in zip(moments, moments[1:])) // 1000
    resumed["worst_us"] = max(reads, worst_gap_us(times, answered, first_to))
    resumed["worst_control_us"] = worst_gap_us(times, control_from, times[-1])
    return updates


def together(cell, watch, resume, failed):
    """Runs `watch` in the cell's network while `resume` runs here."""
    answered = []

    def body():
        try:
            answered.append((cell.in_network(watch), None))
        except Exception as error:  # handed over below
            answered.append((None, error))

    watcher = threading.Thread(target=body)
    watcher.start()
    try:
        resumed = resume()
    except BenchError:
        failed.append(True)
        raise
    finally:
        watcher.join()
    moment, error = answered[0]
    if error is not None:
        raise error
    return resumed, moment


def _save(client):
    """Has redis write its data in a child, as after any ordinary start."""
    client.call("BGSAVE")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        state = client.info("persistence")
        if state["rdb_bgsave_in_progress"] == "0":
            if state["rdb_last_bgsave_status"] != "ok":
                raise BenchError("BGSAVE failed after the resume")
            return
        time.sleep(0.1)
    raise BenchError("BGSAVE does not end after the resume")


def sync(path):
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(directory) != 0:
            raise BenchError(f"cannot sync {path}")
    finally:
        os.close(directory)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")
