"""How to compute: device, workers, threads. Never part of a result's name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phosphene.errors import PhospheneError


@dataclass(frozen=True)
class Compute:
    """How to compute: never hashed. A result depends on it in the last bits of its sums only.

    `jobs` 0 is one worker per core; `backend` "auto" is dask when a scheduler is given, else loky
    when `jobs` is not 1, else serial. `threads` is the number of threads inside every part, the
    same in every backend, because sums of floats depend on it. `batch` is the number of pictures
    that are denoised together on a GPU, 0 for what its memory holds; on a CPU it is fixed, for the
    same reason. `compile` lets torch compile the U-Net first.
    """

    device: str = "auto"
    jobs: int = 1
    batch: int = 0
    compile: bool = False
    backend: str = "auto"
    scheduler: str | None = None
    threads: int = 2
    progress: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise PhospheneError(
                f"--device: found {self.device!r}, expected auto, cpu, cuda or a GPU by its number "
                "such as cuda:1"
            )
        if self.backend not in ("auto", "serial", "loky", "dask"):
            raise PhospheneError(
                f"unknown backend '{self.backend}'; choose 'auto', 'serial', 'loky' or 'dask'"
            )
        for name, low in (("jobs", 0), ("batch", 0), ("threads", 1)):
            if getattr(self, name) < low:
                raise PhospheneError(
                    f"'{name}' must be at least {low}, found {getattr(self, name)}"
                )
