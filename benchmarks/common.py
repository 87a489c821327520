"""What benchmarks share: facts about the machine, and the memory of a process."""

from __future__ import annotations

import gc
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine_facts(*packages: str) -> dict[str, Any]:
    """Processor, system, Python, and the versions of `packages`."""
    facts = {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    return facts | {"processor": _processor()} | {package: version(package) for package in packages}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")),
        platform.processor(),
    )


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Measure the memory of this process while a block runs; Linux only.

    Yields
    ------
    dict
        Filled when the block ends, in MiB: ``base`` resident when it began, ``peak`` most resident
        (what ``ru_maxrss`` counts, but neither inherited from the parent process nor from before
        the block), ``above_base`` their difference, ``peak_anonymous`` most resident without mapped
        files, sampled every 50 ms.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    found = {"base": _status("VmRSS")}
    anonymous = [_status("RssAnon")]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.05):
            anonymous.append(_status("RssAnon"))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield found
    finally:
        done.set()
        sampler.join()
        found |= {"peak": _status("VmHWM"), "peak_anonymous": max(*anonymous, _status("RssAnon"))}
        found["above_base"] = round(found["peak"] - found["base"], 1)


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError(f"/proc/self/status has no {field}.")
