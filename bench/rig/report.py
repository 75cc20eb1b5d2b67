"""Figures as a table: medians with their range."""

import json
import statistics

ROWS = [
    # title, unit, path
    ("pause as reported, live", "ms", ("live", "pause_us")),
    ("pause as a client felt it, live", "ms", ("live", "felt_us")),
    ("the same without a checkpoint", "ms", ("live", "control_us")),
    ("pause as a thread inside felt it, live", "ms", ("live", "inside_us")),
    ("the same without a checkpoint", "ms", ("live", "control_inside_us")),
    ("summed lateness of that thread, live", "ms", ("live", "late_us")),
    ("the same without a checkpoint", "ms", ("live", "control_late_us")),
    ("copied while it stood still, live", "MB", ("live", "copied_in_pause_bytes")),
    ("checkpoint command, live", "ms", ("live", "wall_us")),
    ("checkpoint processor time, live", "ms", ("live", "cpu_us")),
    ("pause as reported, --stop", "ms", ("stop", "pause_us")),
    ("checkpoint command, --stop", "ms", ("stop", "wall_us")),
    ("checkpoint on disk, --stop", "ms", ("stop", "durable_us")),
    ("checkpoint processor time, --stop", "ms", ("stop", "cpu_us")),
    ("resume command", "ms", ("resume", "wall_us")),
    ("resume to first right answer", "ms", ("resume", "first_answer_us")),
    ("1000 hot reads after it", "ms", ("resume", "hot_reads_us")),
    ("worst request in the first 5 s", "ms", ("resume", "worst_us")),
    ("the same afterwards", "ms", ("resume", "worst_control_us")),
    ("resident (anonymous)", "MB", ("stop", "anonymous_bytes")),
    ("stored", "MB", ("stop", "stored_files_bytes")),
    ("stored, share of resident", "%", ("stop", "share")),
    ("stored after zstd -1 outside", "MB", ("zstd", "level_1_bytes")),
    ("stored after zstd -3 outside", "MB", ("zstd", "level_3_bytes")),
]
SCALE = {"ms": 1000, "MB": 1_000_000, "%": 0.01}


def read(paths):
    """All lines of JSON files, in order."""
    lines = []
    for path in paths:
        with open(path) as file:
            lines += [json.loads(line) for line in file if line.strip()]
    return lines


def _values(rounds, path):
    values = []
    for one in rounds:
        part = one.get(path[0], {})
        if path[1] == "share":
            stored, resident = part.get("stored_files_bytes"), part.get("anonymous_bytes")
            value = stored / resident if stored and resident else None
        else:
            value = part.get(path[1])
        if value is not None:
            values.append(value)
    return values


def _cell(values, unit):
    if not values:
        return "-"
    scaled = [value / SCALE[unit] for value in values]
    digits = 1 if statistics.median(scaled) < 100 else 0
    middle = f"{statistics.median(scaled):.{digits}f}"
    return f"{middle} [{min(scaled):.{digits}f}..{max(scaled):.{digits}f}]"


def table(lines):
    """A markdown table over all rounds, peers side by side."""
    rounds = [line for line in lines if line["kind"] == "round"]
    peers = list(dict.fromkeys(line["peer"] for line in rounds))
    out = []
    for line in lines:
        if line["kind"] == "machine":
            out.append(f"{line['cpus']} x {line['cpu']}, kernel {line['kernel']}, "
                       f"{line['memory_kib'] // 1024} MiB, store on {line['store_file_system']}, "
                       f"load {line['load']}; {line['workload']}, {line['keys']} keys, "
                       f"seed {line['seed']}, {'cold' if line['cold'] else 'warm'} cache")
    out += sorted({f"program: {line['program']}" for line in rounds if "program" in line})
    failures = [line for line in lines if line["kind"] == "failure"]
    out += [f"FAILED {line['peer']} round {line['round']}: {line['error']}" for line in failures]
    if not rounds:
        return "\n".join([*out, "no figures"])
    versions = {line["peer"]: line["peer_version"] for line in rounds}
    head = [f"{peer} {versions[peer]}, n={sum(line['peer'] == peer for line in rounds)}"
            for peer in peers]
    ratio = "rekindle" in peers and "criu" in peers
    cells = [["median [min..max]", *head, *(["rekindle / criu"] if ratio else [])]]
    for title, unit, path in ROWS:
        values = {peer: _values([line for line in rounds if line["peer"] == peer], path)
                  for peer in peers}
        if not any(values.values()):
            continue
        row = [f"{title}, {unit}", *(_cell(values[peer], unit) for peer in peers)]
        if ratio:
            both = values["rekindle"] and values["criu"]
            middle = {peer: statistics.median(values[peer]) for peer in peers} if both else {}
            row.append(f"{middle['rekindle'] / middle['criu']:.2f}" if both else "-")
        cells.append(row)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    text = ["| " + " | ".join(value.ljust(width) for value, width in zip(row, widths)) + " |"
            for row in cells]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*out, "", *text])
