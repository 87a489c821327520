"""How long a user waits before anything happens: importing phosphene and asking for help, beside
nilearn's import.

Interleaved runs of whole processes, medians; prints JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from common import machine_facts

COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import phosphene": [sys.executable, "-c", "import phosphene"],
    "phosphene --help": [sys.executable, "-m", "phosphene.cli", "--help"],
    "import nilearn": [sys.executable, "-c", "import nilearn.image"],
}
RUNS = 7


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    for command in COMMANDS.values():  # warm the disk's cache
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    ratio = round(medians["import phosphene"] / medians["import nilearn"], 3)
    found = {
        "median_seconds": medians,
        "ratio to nilearn": ratio,
        "runs": RUNS,
        "machine": machine_facts(),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
