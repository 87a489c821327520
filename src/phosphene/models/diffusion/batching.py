"""How networks are run: in blocks of one size, each process on its own device, as many pictures as
fit.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.errors import PhospheneError

SHARE_OF_FREE_MEMORY = 0.8
Rows = NDArray[np.float32]


def checked_finite(rows: Rows, source: str, remedy: str = "") -> Rows:
    """Return rows (n, d) unchanged; raise :func:`not_finite` when one of their numbers is NaN or
    infinite.
    """
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise not_finite(f"{source} (row {int(finite.argmin())} of {len(rows)})", remedy)
    return rows


def not_finite(source: str, remedy: str = "") -> PhospheneError:
    """Make the error about numbers that are NaN or infinite; `source` says which network gave
    what.
    """
    usual = (
        "check the files of the model, or try --device cpu, where nothing is computed in half "
        "precision"
    )
    return PhospheneError(f"{source} with NaN or infinite values; {remedy or usual}.")


def own_device(name: str) -> str:
    """Name the device that this process works on.

    "auto" is a GPU where there is one. Where "cuda" has several, the workers of a machine share
    them out: the first worker process takes the first GPU, the second the second, and so on.
    "cuda:1" stays.

    Raises
    ------
    PhospheneError
        For a GPU that is not there, and for other kinds of devices, which nothing here was written
        for.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    known = ["cpu", *(["cuda"] if n_gpus else []), *(f"cuda:{k}" for k in range(n_gpus))]
    if name not in known:
        raise PhospheneError(
            f"--device: found {name!r}, expected 'auto' or one of {', '.join(known)}"
            + ("" if n_gpus else " (PyTorch finds no GPU with CUDA here)")
        )
    if name != "cuda" or torch.cuda.device_count() < 2:
        return name
    identity: tuple[int, ...] = getattr(multiprocessing.current_process(), "_identity", ())
    return f"cuda:{(identity[-1] - 1) % torch.cuda.device_count() if identity else 0}"


def full_precision() -> Any:
    """Convolutions on a GPU in float32, not TF32, whose error of 1e-3 regressions would have to
    predict.
    """
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def in_blocks(net: Callable[..., Tensor], size: int, *rows: Tensor) -> Tensor:
    """Run a network on blocks of `size` rows, the last one filled up with copies of the last row.

    Kernels, and with them the last bits of float sums, are chosen by the number of rows. In blocks
    of one size a row comes out the same whatever lies beside it.

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
    return torch.cat([net(*(one[index] for one in rows)) for index in torch.split(filled, size)])[
        :n
    ]


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
