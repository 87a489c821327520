"""One measure of pictures in one space: similarities, choice among samples, intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.metrics.low_level import pixcorr, ssim
from phosphene.metrics.presets import Metric
from phosphene.models.perceptual.extraction import features
from phosphene.models.perceptual.spaces import Space
from phosphene.models.preparing import Pictures
from phosphene.numerics.identification import Rule, choose, correlations, identify
from phosphene.numerics.stats import bootstrap_ci, permutation_p
from phosphene.seeds import rng


@dataclass(frozen=True)
class Draws:
    """Random draws: resamples for intervals, permutations for p, the seed, and keys that tell this
    use from others.
    """

    bootstrap: int = 2000
    permutations: int = 2000
    seed: int = 0
    keys: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where weights lie and features are kept (None: the usual places, nowhere), and where networks
    run.
    """

    weights: Path | None = None
    cache: Path | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Result:
    """One measure under one rule; `per_image` is (n,)."""

    rule: Rule
    value: float
    ci: tuple[float, float]
    p: float
    chance: float
    per_image: NDArray[np.float64]


def summary(
    values: NDArray[np.float64],
    metric: Metric,
    rule: Rule,
    chosen: NDArray[np.int64] | None,
    draws: Draws,
    stream: tuple[str, ...],
) -> Result:
    """A measure of pairs, (n_samples, n), under one rule, averaged over images."""
    if rule == "mean":
        image = values.mean(axis=0)
    elif rule == "oracle":
        image = values.min(axis=0) if metric.better == "lower" else values.max(axis=0)
    else:
        image = values[0 if rule == "single" else chosen, np.arange(values.shape[1])]
    ci = (float("nan"), float("nan"))
    if draws.bootstrap:
        ci = bootstrap_ci(image, n_bootstrap=draws.bootstrap, rng=rng_of(draws, stream))
    return Result(rule, float(image.mean()), ci, float("nan"), float("nan"), image)


def rng_of(draws: Draws, stream: tuple[str, ...]) -> np.random.Generator:
    """The same random numbers for every rule of a measure, so that rules are compared on the same
    draws.
    """
    return rng(draws.seed, *draws.keys, *stream)


def similarities(
    recons: Sequence[Pictures],
    originals: Pictures,
    spaces: Sequence[Space],
    places: Places,
    say: Callable[[str], None],
) -> Iterator[tuple[Space, NDArray[np.float64]]]:
    """Correlations (n_samples, n, n) in one space after the other; networks run once per picture
    and preparation.
    """
    groups: dict[Any, list[Space]] = {}
    for space in dict.fromkeys(spaces):
        # features by formula are few: all at once, so that pictures are opened once for them
        key = (
            space.network
            if space.network in ("formula", "judge")
            else (space.network, space.preparation)
        )
        groups.setdefault(key, []).append(space)
    options: dict[str, Any] = {
        "weights": places.weights,
        "cache": places.cache,
        "device": places.device,
    }
    for group in groups.values():
        layers = ", ".join(space.name for space in group)
        say(f"{layers}: {len(originals)} originals")
        shown = features(originals, group, **options)
        parts: dict[Space, list[NDArray[np.float64]]] = {space: [] for space in group}
        for number, sample in enumerate(recons):
            say(f"{layers}: {len(originals)} reconstructions, sample {number + 1} of {len(recons)}")
            made = features(sample, group, **options)
            for space in group:
                parts[space].append(correlations(made.pop(space), shown[space])[0])
        del shown
        for space in group:
            yield space, np.stack(parts.pop(space))


def of_features(
    r: NDArray[np.float64],
    metric: Metric,
    rule: Rule,
    chosen: NDArray[np.int64] | None,
    draws: Draws,
) -> Result:
    """Identification or distance out of the correlations (n_samples, n, n) in the metric's
    space.
    """
    assert metric.space is not None
    stream = (metric.space.name, metric.direction or metric.kind)
    if metric.kind == "two-way":
        assert metric.direction is not None
        found = identify(
            choose(r, rule, chosen),
            direction=metric.direction,
            n_bootstrap=draws.bootstrap,
            n_permutations=draws.permutations,
            rng=rng_of(draws, stream),
        )
        return Result(rule, found.accuracy, found.ci, found.p, 0.5, found.per_image)
    n = r.shape[1]
    known = np.nan_to_num(r, nan=0.0)
    result = summary(1 - np.diagonal(known, axis1=1, axis2=2), metric, rule, chosen, draws, stream)
    among = choose(known, rule, chosen)
    generator = rng_of(draws, (*stream, "permutations"))
    null = [among[np.arange(n), generator.permutation(n)].mean() for _ in range(draws.permutations)]
    p = float(permutation_p(np.diagonal(among).mean(), null)) if null else float("nan")
    return dataclasses.replace(result, p=p, chance=float(1 - among.mean()))


def of_pixels(
    recons: Sequence[Pictures], originals: Pictures, metrics: Sequence[Metric]
) -> dict[Metric, NDArray[np.float64]]:
    """PixCorr or SSIM of every sample and picture, (n_samples, n); a pair is opened once for all,
    and presets share.
    """
    values = {metric: np.empty((len(recons), len(originals))) for metric in metrics}
    for k in range(len(originals) if values else 0):
        original = [originals[k]]
        for s, sample in enumerate(recons):
            recon = [sample[k]]
            for metric, found in values.items():
                measure = pixcorr if metric.kind == "pixcorr" else ssim
                found[s, k] = measure(recon, original, metric)[0]
    return {metric: np.nan_to_num(found, nan=0.0) for metric, found in values.items()}
