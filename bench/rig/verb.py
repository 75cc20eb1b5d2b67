"""A verb of rekindle, run to its end."""

import json
import subprocess


def rekindle(binary, store, *words):
    """The report of the verb; ends the benchmark with its messages when it fails."""
    command = [binary, "--store", store, *words, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return json.loads(done.stdout)
