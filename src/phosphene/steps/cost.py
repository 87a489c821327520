"""What a study will cost before it is run: files, gigabytes, hours and memory of each stage. All of
it is estimated.

Sizes follow from the shapes. Seconds follow from small pieces of the same work, done now on this
machine and device: a matrix product, an eigendecomposition, a few pictures through each network.
Memory is that of the whole process. Both count one worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

import numpy as np

from phosphene.data.dataset import Dataset
from phosphene.data.nsd.betas import Betas
from phosphene.data.opening import load_volume
from phosphene.data.scans import Scans, all_voxels
from phosphene.data.trials import image_ids
from phosphene.methods import BRAIN, MODE_FEATURES, TRUE
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.environment import peak_memory_mb
from phosphene.steps.conditions import compared_rois, conditions, features_of
from phosphene.steps.decode import TARGETS_PER_PART
from phosphene.steps.subject import configuration, dataset, items, load_model
from phosphene.study import Compute, Study

# measured by benchmarks/bench_reading.py
STREAM = 0.65e9  # bytes/s of gunzip
CHUNK = 1.0e-5  # seconds per voxel and session of HDF5
PICTURE = 4e5  # bytes of a PNG of 512 x 512 pixels
TIMED = 4  # pictures that are timed on a GPU
STEPS = 4  # denoising steps that are timed


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


def costs(study: Study, compute: Compute) -> list[Cost]:
    """Estimate every stage of every subject, finished or not.

    Parameters
    ----------
    study : Study
    compute : Compute
        Its device is the one that is timed.
    """
    rates = measure_rates(study, compute)
    return [cost for subject in study.data.subjects for cost in _subject(study, subject, rates)]


def _subject(study: Study, subject: str, rates: Rates) -> Iterator[Cost]:
    data = dataset(study, subject)
    own = [getattr(study.decode, feature).rois for feature in features_of(study)]
    compared = [(roi,) for roi in compared_rois(study, data)]
    voxels = {rois: len(all_voxels(data, rois)) for rois in dict.fromkeys([*own, *compared])}
    if isinstance(data, Scans):
        yield betas_cost(subject, data, list(voxels.values()), rates)
    yield from _extracted(study, subject, rates)
    if study.decode.leave_out != "run":
        n_train = int((data.trials["split"] == "train").sum())
        for name, chosen in (("own regions", dict.fromkeys(own)), ("regions compared", compared)):
            shapes = [(voxels[rois], n_train) for rois in chosen]
            yield decompose_cost(subject, name, shapes, study.decode.cv, rates)
    for feature, rois in zip(features_of(study), own, strict=True):
        shuffled = "shuffled" in study.reconstruct.baselines
        fits = [voxels[rois]] * (2 if shuffled else 1) + [voxels[some] for some in compared]
        yield _decoded(study, data, (feature, _widths(study)[feature]), fits, rates)
    yield from _pictures(study, subject, len(items(study, data)), rates)


def _widths(study: Study) -> dict[str, int]:
    model = configuration(study.model.name)
    return {"z": prod(model.latent_shape(study.model.latent_size)), "c": prod(model.context_shape)}


def _extracted(study: Study, subject: str, rates: Rates) -> Iterator[Cost]:
    n_images = len(image_ids(dataset(study, subject)))
    for feature in features_of(study):
        # about five captions each
        seconds = n_images * (rates.latent if feature == "z" else 5 * rates.context)
        size = 4 * n_images * _widths(study)[feature] / 1e9
        yield Cost(subject, f"extract {feature}", 1, 0.0, size, rates.encoding_gb, seconds / 3600)


def _decoded(
    study: Study, data: Dataset, feature: tuple[str, int], fits: list[int], rates: Rates
) -> Cost:
    """Regressions of a feature, its name and width, from regions of these numbers of voxels."""
    name, width = feature
    trials = data.trials
    train = trials[trials["split"] == "train"]
    n_train = len(train)
    n_distinct = train["image"].nunique()
    n_models = 1
    if study.decode.leave_out == "run":  # one model for every run
        n_distinct = n_train
        n_models = trials["run"].nunique()
    folds = study.decode.cv
    flops = n_models * sum(target_flops(n_train, n_distinct, p, width, folds) for p in fits)
    widest = max(fits)
    m = min(widest, n_train)
    held = 8 * len(trials) * widest + 8 * folds * m * m + 12 * n_distinct * TARGETS_PER_PART
    size = len(fits) * 4 * len(items(study, data)) * width / 1e9
    hours = flops * rates.flop / 3600
    memory = rates.gb + held / 1e9
    return Cost(data.subject, f"decode {name}", len(fits), 0.0, size, memory, hours)


def betas_cost(subject: str, data: Scans, n_voxels: list[int], rates: Rates) -> Cost:
    """Files are read once for each set of regions: NSD's HDF5 voxel by voxel, anything else
    whole.
    """
    item = np.dtype(data.dtype).itemsize
    read = 0.0
    seconds = 0.0
    total = len(data.trials)
    for path in data.paths:
        if path.suffix == ".hdf5" and Betas.open(path).by_voxel:
            read += sum(n_voxels) * item * total / len(data.paths)
            seconds += sum(n_voxels) * CHUNK
        else:
            read += len(n_voxels) * path.stat().st_size
            seconds += len(n_voxels) * _unpacked(path) / STREAM
    session = max(data.trials["session"].value_counts()) if total else 0
    written = sum(n_voxels) * total * item / 1e9
    memory = max(n_voxels) * session * item / 1e9
    return Cost(
        subject, "betas", len(n_voxels), read / 1e9, written, rates.gb + memory, seconds / 3600
    )


def _unpacked(path: Path) -> int:
    if path.suffix == ".hdf5":
        found = Betas.open(path)
        return found.n_trials * int(np.prod(found.shape, dtype=np.int64)) * found.dtype.itemsize
    image = load_volume(path)
    return int(np.prod(image.shape, dtype=np.int64)) * int(image.get_data_dtype().itemsize)


def decompose_cost(
    subject: str, name: str, shapes: list[tuple[int, int]], folds: int, rates: Rates
) -> Cost:
    """Gram matrices, one eigendecomposition per fold and one of all rows (docs/ridge.md)."""
    seconds = size = memory = 0.0
    for p, n in shapes:
        m = min(n, p)
        seconds += (2 * n * p * m + 4 * n * m * m) * 2 * rates.flop + (
            folds + 1
        ) * m**3 * rates.eigh
        size += (4 * n * p + 4 * m * m + 8 * folds * m * m) / 1e9
        memory = max(memory, rates.gb + (12 * n * p + 8 * folds * m * m + 40 * m * m) / 1e9)
    return Cost(subject, f"decompose {name}", len(shapes), 0.0, size, memory, seconds / 3600)


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


def _pictures(study: Study, subject: str, n_items: int, rates: Rates) -> Iterator[Cost]:
    settings = study.reconstruct
    size = PICTURE * (configuration(study.model.name).size / 512) ** 2
    for mode, source in conditions(study):
        samples = 1 if mode == "z" else settings.samples
        steps = (
            0.0
            if mode == "z"
            else settings.steps * (settings.strength if "z" in MODE_FEATURES[mode] else 1.0)
        )
        seconds = n_items * samples * steps * rates.step + n_items * rates.latent * (
            2 if "z" in mode else 1
        )
        name = f"reconstruct {mode}" + {BRAIN: "", TRUE: ", true features"}.get(
            source, f", {source}"
        )
        files = n_items * samples
        yield Cost(subject, name, files, 0.0, files * size / 1e9, rates.drawing_gb, seconds / 3600)
    seen = len(conditions(study)) * n_items * settings.samples
    # as bytes and as floats
    held = (
        rates.gb
        + n_items * settings.samples * configuration(study.model.name).size ** 2 * 3 * 5 / 1e9
    )
    yield Cost(subject, "evaluate", 1, 0.0, 0.001, held, seen * 0.005 / 3600)
