"""What a study will cost before it is run: files, gigabytes, hours and memory of each stage. All of
it is estimated.

Sizes follow from the shapes. Seconds follow from small pieces of the same work, done now on this
machine and device: a matrix product, an eigendecomposition, a few pictures through each network.
Memory is that of the whole process. Both count one worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phosphene import encoding
from phosphene.data.nsd.files import Betas
from phosphene.data.opening import load_volume
from phosphene.data.scans import Scans, all_voxels
from phosphene.data.trials import image_ids
from phosphene.features.names import EMPTY, Feature
from phosphene.methods import BRAIN, MODE_FEATURES, TRUE
from phosphene.models import diffusion
from phosphene.pipeline.environment import peak_memory_mb
from phosphene.steps.betas import VOXELS_PER_CHUNK
from phosphene.steps.conditions import compared_rois, conditions, features_of
from phosphene.steps.decode import TARGETS_PER_PART
from phosphene.steps.encode.factors import denoised
from phosphene.steps.extract import IMAGES_PER_PART
from phosphene.steps.features import kept_widths, passes
from phosphene.steps.subject import dataset, items, load_model
from phosphene.study import Compute, Study

# bytes/s of gunzip, seconds per voxel and session of HDF5 (benchmarks/bench_reading.py)
STREAM = 0.65e9
CHUNK = 1.0e-5
PICTURE = 4e5  # bytes of a PNG of 512 x 512 pixels
# pictures (on a GPU) and steps that are timed
TIMED = 4
STEPS = 4


@dataclass(frozen=True)
class Cost:
    """What one stage of one subject will take; `files` and `gb` are written, `read_gb` is read from
    the data.
    """

    subject: str
    stage: str
    files: int
    read_gb: float
    gb: float
    memory_gb: float
    hours: float


@dataclass(frozen=True)
class Rates:
    """Seconds and memory of pieces of the work on this machine."""

    flop: float
    eigh: float  # of a matrix of one column, to be multiplied by its width cubed
    latent: float
    context: float
    step: float
    # most memory of this process so far: once the model was loaded, photographs encoded, pictures
    # drawn
    gb: float
    encoding_gb: float
    drawing_gb: float


def measure_rates(study: Study, compute: Compute) -> Rates:
    """Time the pieces, in seconds each, and watch the memory of this process."""
    import torch

    model = load_model(study.model.name, compute.device)
    # on a CPU as many as always go together
    gb = _peak_gb()
    timed = model.batch(TIMED)
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
    model = load_model(study.model.name, compute.device)
    return [
        cost for subject in study.data.subjects for cost in _subject(study, subject, model, rates)
    ]


def _subject(
    study: Study, subject: str, model: diffusion.LatentDiffusion, rates: Rates
) -> Iterator[Cost]:
    data = dataset(study, subject)
    features = features_of(study)
    own = [getattr(study.decode, feature).rois for feature in features]
    compared = [(roi,) for roi in compared_rois(study, data)]
    widths = {
        "z": int(np.prod(model.latent_shape(study.model.latent_size))),
        "c": int(np.prod(model.context_shape)),
    }
    n_images = len(image_ids(data))
    n_items = len(items(study, data))
    n_trials = len(data.trials)
    voxels = {rois: len(all_voxels(data, rois)) for rois in dict.fromkeys([*own, *compared])}
    if isinstance(data, Scans):
        yield _betas(subject, data, list(voxels.values()), rates)
    for feature in features:
        seconds = n_images * (
            rates.latent if feature == "z" else 5 * rates.context
        )  # about five captions each
        size = 4 * n_images * widths[feature] / 1e9
        yield Cost(subject, f"extract {feature}", 1, 0.0, size, rates.encoding_gb, seconds / 3600)
    folds = study.decode.cv
    n_train = int((data.trials["split"] == "train").sum())
    n_distinct = data.trials.loc[data.trials["split"] == "train", "image"].nunique()
    if study.decode.leave_out == "run":  # one model for every run
        n_distinct = n_train
        models = data.trials["run"].nunique()
    else:
        models = 1
        for name, chosen in (("own regions", dict.fromkeys(own)), ("regions compared", compared)):
            yield _decompose(
                subject, name, [(voxels[rois], n_train) for rois in chosen], folds, rates
            )
    shuffled = "shuffled" in study.reconstruct.baselines
    for feature, rois in zip(features, own, strict=True):
        fits = [voxels[rois]] * (2 if shuffled else 1) + [voxels[some] for some in compared]
        flops = (
            sum(_target_flops(n_train, n_distinct, p, widths[feature], folds) for p in fits)
            * models
        )
        width = max(voxels[rois], *fits)
        m = min(width, n_train)
        memory = (
            rates.gb
            + (8 * n_trials * width + 8 * folds * m * m + 12 * n_distinct * TARGETS_PER_PART) / 1e9
        )
        size = len(fits) * 4 * n_items * widths[feature] / 1e9
        yield Cost(
            subject, f"decode {feature}", len(fits), 0.0, size, memory, flops * rates.flop / 3600
        )
    yield from _pictures(study, subject, n_items, model, rates)


def _betas(subject: str, data: Scans, n_voxels: list[int], rates: Rates) -> Cost:
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


def _decompose(
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


def _target_flops(n: int, n_distinct: int, p: int, t: int, folds: int) -> float:
    """Operations of a fit that grow with the number of targets t (benchmarks/bench_ridge.py)."""
    m = min(n, p)
    return (
        2 * n_distinct * p * t
        + folds * 4 * m * m * t
        + 2 * n_distinct * m * t
        + 2 * m * m * t
        + 2 * p * m * t
    )


def _pictures(
    study: Study, subject: str, n_items: int, model: diffusion.LatentDiffusion, rates: Rates
) -> Iterator[Cost]:
    settings = study.reconstruct
    size = PICTURE * (model.size / 512) ** 2
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
    held = (
        rates.gb + n_items * settings.samples * model.size**2 * 3 * 5 / 1e9
    )  # as bytes and as floats
    yield Cost(subject, "evaluate", 1, 0.0, 0.001, held, seen * 0.005 / 3600)


# The encoding half


def encoding_costs(study: Study, models: Sequence[encoding.Model], compute: Compute) -> list[Cost]:
    """Estimate features, principal components, models and statistics of every subject, finished or
    not.

    Parameters
    ----------
    study : Study
    models : sequence of Model
    compute : Compute
        Its device is the one that is timed.
    """
    rates = measure_rates(study, compute)
    model = load_model(study.model.name, compute.device)
    return [
        cost
        for subject in study.data.subjects
        for cost in _encoding(study, subject, models, model, rates)
    ]


def _encoding(
    study: Study,
    subject: str,
    models: Sequence[encoding.Model],
    model: diffusion.LatentDiffusion,
    rates: Rates,
) -> Iterator[Cost]:
    data = dataset(study, subject)
    settings = study.encode
    assert isinstance(data, Scans)
    trials = data.trials
    n_images = len(image_ids(data))
    v = len(all_voxels(data, settings.rois))
    n_train, n_test = (
        trials.loc[trials["split"] == split, "image"].nunique() for split in ("train", "test")
    )
    spaces = list(dict.fromkeys(space for one in models for space in one.spaces))
    widths = kept_widths(study, model, spaces)
    yield _betas(subject, data, [v], rates)
    for group in passes(spaces):
        seconds = _seconds_of_features(study, group, model, rates) * n_images
        size = sum(2 * n_images * widths[space] for space in group) / 1e9
        memory = rates.drawing_gb + size * min(1, IMAGES_PER_PART / n_images)
        name = f"features {group[0]}" + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        yield Cost(subject, name, len(group), 0.0, size, memory, seconds / 3600)
    wide = [width for width in widths.values() if width > settings.components]
    yield _components(subject, wide, (n_images, n_train), settings.components, rates)
    kept = {space: min(widths[space], settings.components, n_train - 1) for space in spaces}
    every = [
        sum(kept[space] for space, share in zip(one.spaces, mix, strict=True) if share > 0)
        for one in models
        for mix in encoding.mixes(len(one.spaces), settings.mixes)
    ]
    yield _decompose(subject, "features", [(p, n_train) for p in every], settings.cv, rates)
    flops = sum(_target_flops(n_train, n_train, p, v, settings.cv) for p in every)
    widest = max(every)
    block = 4 * min(VOXELS_PER_CHUNK, v)
    memory = rates.gb + (block * (len(trials) + 3 * widest) + 12 * n_train * widest) / 1e9
    kept_predictions = sum(1 if len(one.spaces) == 1 else 1 + len(one.spaces) for one in models)
    size = 2e-9 * n_test * v * kept_predictions
    yield Cost(subject, "encode", len(models), 0.0, size, memory, flops * rates.flop / 3600)
    products = sum(
        4 if len(one.spaces) == 1 else 6 + len(one.spaces) for one in models
    )  # with resampling counts
    flops = 2.0 * n_test * v * settings.bootstrap * products
    yield Cost(
        subject,
        "statistics",
        len(models),
        0.0,
        4e-9 * n_test * v,
        rates.gb,
        flops * rates.flop / 3600,
    )


def _components(
    subject: str, wide: Sequence[int], n: tuple[int, int], components: int, rates: Rates
) -> Cost:
    """Principal components of features of these widths; `n` pictures, and those that are trained
    on.
    """
    least = [min(n[1], d) for d in wide]
    flops = sum(4.0 * n[0] * d * m for d, m in zip(wide, least, strict=True))
    seconds = 2 * flops * rates.flop + sum(m**3 for m in least) * rates.eigh
    k = min(components, n[1] - 1)
    memory = max(
        (2 * n[0] * d + 24 * n[0] * (m + k) for d, m in zip(wide, least, strict=True)), default=0
    )
    size = 2 * len(wide) * n[0] * k
    return Cost(
        subject, "components", len(wide), 0.0, size / 1e9, rates.gb + memory / 1e9, seconds / 3600
    )


def _seconds_of_features(
    study: Study, group: Sequence[Feature], model: diffusion.LatentDiffusion, rates: Rates
) -> float:
    """Of one picture, in one pass."""
    strength = group[0].strength
    if strength is None:
        return sum(5 * rates.context if space.kind == "c" else rates.latent for space in group)
    n_steps = len(model.schedule.timesteps(denoised(study).reconstruct.steps, strength))
    return rates.latent + n_steps * rates.step * (
        0.5 if group[0].kind == EMPTY else 1
    )  # no guidance: half the rows
