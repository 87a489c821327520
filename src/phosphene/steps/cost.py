"""What the steps of a study cost before they are run: files, gigabytes, time and memory. All of it
is estimated.

Sizes follow from the shapes. Seconds follow from small pieces of the same work, done now on this
machine and device: a matrix product, an eigendecomposition, a few pictures through each network.
Memory is that of the whole process. Both count one worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from phosphene.data.nsd.betas import Betas
from phosphene.data.opening import load_volume
from phosphene.data.scans import Scans
from phosphene.pipeline.cost import Cost, Rates, of_group
from phosphene.pipeline.environment import peak_memory_mb
from phosphene.pipeline.graph import grouped, unfinished
from phosphene.pipeline.step import Step
from phosphene.steps.subject import load_model
from phosphene.study import Compute, Study

# measured by benchmarks/bench_reading.py
STREAM = 0.65e9  # bytes/s of gunzip
CHUNK = 1.0e-5  # seconds per voxel and session of HDF5
TIMED = 4  # pictures that are timed on a GPU
STEPS = 4  # denoising steps that are timed


def costs(
    study: Study, roots: Sequence[Step], compute: Compute, again: Collection[str] = ()
) -> list[tuple[list[Step], Cost | None]]:
    """Estimate what is still to do for some results, group by group, each pass once.

    Parameters
    ----------
    study : Study
    roots : sequence of Step
    compute : Compute
        Its device is the one that is timed; nothing is timed where nothing is to do.
    again : collection of str
        Hashes of steps that are made even if they are finished.

    Returns
    -------
    list of (list of Step, Cost or None)
        Steps that are made together, and what they take; None where nobody can say.
    """
    groups = grouped(unfinished(roots, again=again))
    if not groups:
        return []
    rates = measure_rates(study, compute)
    estimated = []
    for group in groups:
        found = [cost for step in group if (cost := step.estimate(rates)) is not None]
        estimated.append((group, of_group(found) if len(found) == len(group) else None))
    return estimated


def measure_rates(study: Study, compute: Compute) -> Rates:
    """Time the pieces, in seconds each, and watch the memory of this process."""
    import torch

    model = load_model(study.model.name, compute.device)
    gb = _peak_gb()
    timed = model.batch(TIMED)  # on a CPU as many as always go together
    side = study.model.latent_size or model.size
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (timed, side, side, 3), np.uint8)
    c = model.text_to_context([["a picture"]] * timed)
    square = torch.randn(1024, 1024)
    seeds = list(range(timed))
    guidance = study.reconstruct.guidance
    latent = _seconds(lambda: model.image_to_latent(pictures, study.model.latent_size)) / timed
    encoding_gb = _peak_gb()
    step = _seconds(lambda: model.denoise(None, c, steps=STEPS, guidance=guidance, seeds=seeds)) / (
        STEPS * timed
    )
    return Rates(
        flop=_seconds(lambda: square @ square) / (2 * 1024**3),
        eigh=_seconds(lambda: torch.linalg.eigh((square @ square.T).double())) / 1024**3,
        latent=latent,
        context=_seconds(lambda: model.text_to_context([["a picture"]] * timed)) / timed,
        step=step,
        gb=gb,
        encoding_gb=encoding_gb,
        drawing_gb=_peak_gb(),
    )


def _peak_gb() -> float:
    return peak_memory_mb() * 2**20 / 1e9  # told in MiB


def _seconds(work: Callable[[], object]) -> float:
    """The better of two runs."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def betas_cost(data: Scans, n_voxels: int, rates: Rates) -> Cost:
    """Cost of taking some voxels out of the files of all sessions: NSD's HDF5 is read voxel by
    voxel, anything else whole.
    """
    item = np.dtype(data.dtype).itemsize
    total = len(data.trials)
    read = 0.0
    seconds = 0.0
    for path in data.paths:
        if path.suffix == ".hdf5" and Betas.open(path).by_voxel:
            read += n_voxels * item * total / len(data.paths)
            seconds += n_voxels * CHUNK
        else:
            read += path.stat().st_size
            seconds += _unpacked(path) / STREAM
    session = max(data.trials["session"].value_counts()) if total else 0
    memory = rates.gb + n_voxels * session * item / 1e9
    return Cost(1, read / 1e9, n_voxels * total * item / 1e9, memory, seconds)


def _unpacked(path: Path) -> int:
    if path.suffix == ".hdf5":
        betas = Betas.open(path)
        return betas.n_trials * int(np.prod(betas.shape, dtype=np.int64)) * betas.dtype.itemsize
    image = load_volume(path)
    return int(np.prod(image.shape, dtype=np.int64)) * int(image.get_data_dtype().itemsize)


def decomposition(p: int, n: int, folds: int, rates: Rates) -> Cost:
    """Cost of decomposing n rows of p numbers: Gram matrices, one eigendecomposition per fold and
    one of all rows (docs/ridge.md).
    """
    m = min(n, p)
    products = (2 * n * p * m + 4 * n * m * m) * 2 * rates.flop
    seconds = products + (folds + 1) * m**3 * rates.eigh
    gb = (4 * n * p + 4 * m * m + 8 * folds * m * m) / 1e9
    memory = rates.gb + (12 * n * p + 8 * folds * m * m + 40 * m * m) / 1e9
    return Cost(1, 0.0, gb, memory, seconds)


def target_flops(n: int, n_distinct: int, p: int, t: int, folds: int) -> float:
    """Operations of a fit that grow with the number of targets t (benchmarks/bench_ridge.py)."""
    m = min(n, p)
    return (
        2 * n_distinct * p * t
        + folds * 4 * m * m * t
        + 2 * n_distinct * m * t
        + 2 * m * m * t
        + 2 * p * m * t
    )
