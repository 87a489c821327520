"""How networks are run: in blocks of one size, each process on its own device, as many pictures as fit."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import torch
from torch import Tensor

SHARE_OF_FREE_MEMORY = 0.8


def own_device(name: str) -> str:
    """Name the device that this process works on.

    "auto" is a GPU where there is one. Where "cuda" has several, the workers of a machine share them out: the first
    worker process takes the first GPU, the second the second, and so on. "cuda:1" and other names stay.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda" or torch.cuda.device_count() < 2:
        return name
    identity: tuple[int, ...] = getattr(multiprocessing.current_process(), "_identity", ())
    return f"cuda:{(identity[-1] - 1) % torch.cuda.device_count() if identity else 0}"


def in_blocks(net: Callable[..., Tensor], size: int, *rows: Tensor) -> Tensor:
    """Run a network on blocks of `size` rows, the last one filled up with copies of the last row.

    Kernels, and with them the last bits of float sums, are chosen by the number of rows. In blocks of one size a row
    comes out the same whatever lies beside it.

    Parameters
    ----------
    net : callable
        Takes one tensor for each of `rows`, gives one tensor; rows are the first axis of all.
    size : int
        0 runs all rows together.
    """
    n = len(rows[0])
    if not size:
        return net(*rows)
    filled = torch.arange(-(-n // size) * size, device=rows[0].device).clamp(max=n - 1)
    return torch.cat([net(*(one[index] for one in rows)) for index in torch.split(filled, size)])[:n]


def fitting(device: torch.device, most: int, one: Callable[[], object]) -> int:
    """Count how many pictures fit on a GPU together, `most` at most.

    Parameters
    ----------
    one : callable
        Does the work of one picture, whose memory is measured.
    """
    one()  # libraries take their workspaces
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    one()
    needed = max(torch.cuda.max_memory_allocated(device) - before, 1)
    # memory that torch holds but does not use is free as well
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
    return max(1, min(most, int(SHARE_OF_FREE_MEMORY * free / needed)))
