"""What the encoding half of a study will cost before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phosphene.data.scans import Scans, all_voxels
from phosphene.data.trials import image_ids
from phosphene.encoding.models import Model, mixes
from phosphene.features.names import EMPTY, Feature
from phosphene.pipeline.cost import Cost, Rates
from phosphene.steps.betas import VOXELS_PER_CHUNK
from phosphene.steps.cost import betas_cost, decompose_cost, measure_rates, target_flops
from phosphene.steps.encode.factors import denoised
from phosphene.steps.extract import IMAGES_PER_PART
from phosphene.steps.features import kept_widths, passes
from phosphene.steps.subject import configuration, dataset
from phosphene.study import Compute, Study


def encoding_costs(study: Study, models: Sequence[Model], compute: Compute) -> list[Cost]:
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
    return [
        cost for subject in study.data.subjects for cost in _encoding(study, subject, models, rates)
    ]


def _encoding(
    study: Study,
    subject: str,
    models: Sequence[Model],
    rates: Rates,
) -> Iterator[Cost]:
    data = dataset(study, subject)
    settings = study.encode
    assert isinstance(data, Scans)
    trials = data.trials
    v = len(all_voxels(data, settings.rois))
    n_train, n_test = (
        trials.loc[trials["split"] == split, "image"].nunique() for split in ("train", "test")
    )
    spaces = list(dict.fromkeys(space for one in models for space in one.spaces))
    widths = kept_widths(study, spaces)
    yield betas_cost(subject, data, [v], rates)
    yield from _features(study, subject, widths, rates)
    kept = {space: min(widths[space], settings.components, n_train - 1) for space in spaces}
    every = [
        sum(kept[space] for space, share in zip(one.spaces, mix, strict=True) if share > 0)
        for one in models
        for mix in mixes(len(one.spaces), settings.mixes)
    ]
    yield decompose_cost(subject, "features", [(p, n_train) for p in every], settings.cv, rates)
    flops = sum(target_flops(n_train, n_train, p, v, settings.cv) for p in every)
    widest = max(every)
    block = 4 * min(VOXELS_PER_CHUNK, v)
    memory = rates.gb + (block * (len(trials) + 3 * widest) + 12 * n_train * widest) / 1e9
    kept_predictions = sum(1 if len(one.spaces) == 1 else 1 + len(one.spaces) for one in models)
    size = 2e-9 * n_test * v * kept_predictions
    yield Cost(subject, "encode", len(models), 0.0, size, memory, flops * rates.flop / 3600)
    # with resampling counts
    products = sum(4 if len(one.spaces) == 1 else 6 + len(one.spaces) for one in models)
    hours = 2.0 * n_test * v * settings.bootstrap * products * rates.flop / 3600
    size = 4e-9 * n_test * v
    yield Cost(subject, "statistics", len(models), 0.0, size, rates.gb, hours)


def _features(
    study: Study,
    subject: str,
    widths: dict[Feature, int],
    rates: Rates,
) -> Iterator[Cost]:
    """Features, pass by pass, and their principal components."""
    data = dataset(study, subject)
    n_images = len(image_ids(data))
    n_train = data.trials.loc[data.trials["split"] == "train", "image"].nunique()
    for group in passes(list(widths)):
        seconds = _seconds_of_features(study, group, rates) * n_images
        size = sum(2 * n_images * widths[space] for space in group) / 1e9
        memory = rates.drawing_gb + size * min(1, IMAGES_PER_PART / n_images)
        name = f"features {group[0]}" + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        yield Cost(subject, name, len(group), 0.0, size, memory, seconds / 3600)
    components = study.encode.components
    wide = [width for width in widths.values() if width > components]
    yield _components(subject, wide, (n_images, n_train), components, rates)


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


def _seconds_of_features(study: Study, group: Sequence[Feature], rates: Rates) -> float:
    """Of one picture, in one pass."""
    strength = group[0].strength
    if strength is None:
        return sum(5 * rates.context if space.kind == "c" else rates.latent for space in group)
    n_steps = configuration(study.model.name).n_steps(denoised(study).reconstruct.steps, strength)
    # no guidance: half the rows
    return rates.latent + n_steps * rates.step * (0.5 if group[0].kind == EMPTY else 1)
