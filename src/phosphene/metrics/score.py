"""Scores of pictures by the presets of :mod:`phosphene.metrics.presets`, whoever made the
pictures: no study is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.metrics.image_files import PictureSet, read
from phosphene.metrics.measures import (
    Draws,
    Places,
    Result,
    of_features,
    of_pixels,
    similarities,
    summary,
)
from phosphene.metrics.pairing import match
from phosphene.metrics.presets import PRESETS, Metric, Preset
from phosphene.models.perceptual.stamps import missing
from phosphene.models.preparing import Pictures
from phosphene.numerics.identification import Rule

COLUMNS = [
    "preset",
    "metric",
    "kind",
    "space",
    "direction",
    "selection",
    "value",
    "ci_low",
    "ci_high",
    "p",
    "chance",
    "better",
    "n",
    "samples",
]
IMAGE_COLUMNS = ["preset", "metric", "direction", "selection", "item", "value"]
# "all": the judge of `scenes` knows drawings only
GENERAL = tuple(name for name in PRESETS if name != "scenes")


@dataclass(frozen=True)
class PictureScores:
    """What :func:`score_pictures` found.

    Attributes
    ----------
    scores : DataFrame
        One row per preset, metric, direction and selection: preset, metric, kind ("two-way",
        "pixcorr", "ssim", "distance"), space, direction, selection ("mean" over samples, "single":
        the first, "decoded": chosen without looking at the original, "oracle": the best, chosen by
        looking), value, ci_low, ci_high (95 %, bootstrap over images), p (permuted pairing),
        chance, better ("higher" or "lower"), n, samples. Accuracies are 0 to 1.
    per_image : DataFrame
        preset, metric, direction, selection, item (place of the picture, from 0), value.
    absent : dict of str to str
        "preset/metric" that could not be computed, and why.
    names : list of str
        Names of the items; empty where pictures have none.
    notes : list of str
        What was converted when the pictures were read.
    """

    scores: pd.DataFrame
    per_image: pd.DataFrame
    absent: dict[str, str]
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def score_sets(
    recons: Path | str | NDArray[np.uint8] | PictureSet,
    originals: Path | str | NDArray[np.uint8] | PictureSet,
    preset: str = "all",
    by_order: bool = False,
    **options: Any,
) -> PictureScores:
    """Score the pictures of two folders, ``.pt`` files or arrays; see
    :func:`phosphene.metrics.image_files.read`.

    Parameters
    ----------
    recons, originals : path, ndarray or PictureSet
    preset : str
        Names out of :data:`phosphene.metrics.presets.PRESETS`, separated by commas; "all" is
        every one except `scenes`, whose judge knows nothing but drawn scenes.
    by_order : bool
        Pair pictures by their order instead of their names.
    **options
        As :func:`score_pictures` takes them.
    """
    presets = preset_names(preset)
    sets = [
        given if isinstance(given, PictureSet) else read(given) for given in (recons, originals)
    ]
    made, shown = match(sets[0], sets[1], by_order)
    found = score_pictures(made.samples, shown.samples[0], presets, **options)
    return dataclasses.replace(found, names=shown.names, notes=[*made.notes, *shown.notes])


def preset_names(preset: str) -> list[str]:
    """Read "all", or names separated by commas."""
    names = list(dict.fromkeys(name.strip() for name in preset.split(",") if name.strip()))
    if names == ["all"]:
        return list(GENERAL)
    unknown = [name for name in names if name not in PRESETS]
    if unknown or not names:
        found = repr(unknown[0]) if unknown else "none"
        raise PhospheneError(
            f"preset: found {found}, expected all, or some of {', '.join(PRESETS)} with commas"
        )
    return names


def score_pictures(
    recons: Sequence[Pictures],
    originals: Pictures,
    presets: Sequence[str],
    *,
    chosen: NDArray[np.int64] | None = None,
    draws: Draws = Draws(),
    places: Places = Places(),
    say: Callable[[str], None] = lambda text: None,
) -> PictureScores:
    """Score reconstructions against the pictures that were shown, by every measure of some presets.

    Parameters
    ----------
    recons : sequence of pictures, (n_samples,)
        For every sample its n pictures (:data:`phosphene.models.preparing.Pictures`), in the order
        of `originals`.
    originals : Pictures, (n,)
    presets : sequence of str
        Names out of :data:`phosphene.metrics.presets.PRESETS`.
    chosen : ndarray of int, (n,), optional
        Sample of every image that was chosen without looking at its original; adds the selection
        "decoded".
    draws : Draws
    places : Places
    say : callable
        Told in a few words what is being computed.

    Returns
    -------
    PictureScores
        Measures whose weights are not there are left out and named in `absent`.

    Raises
    ------
    PhospheneError
        When numbers of pictures differ, there are fewer than two, or a preset is unknown.

    Notes
    -----
    - A measure is made under every rule that the samples allow;
      :func:`phosphene.metrics.presets.own_selection` keeps each preset's own.
    - Undefined values never help: comparisons with them are lost
      (:func:`phosphene.numerics.identification.identify`), a PixCorr that is undefined (a picture
      of one colour) counts as 0 and a correlation distance as 1.
    - p of a distance and its chance come from permuted pairings, as p of identification does.
      PixCorr and SSIM have neither: every picture would have to be compared with every other.
    - Memory: features of the originals and of one sample, for the layers of one network, and one
      (n, n) matrix per sample and layer.
    """
    _check(recons, originals, presets)
    wanted = [PRESETS[name] for name in dict.fromkeys(presets)]
    absent = {
        f"{preset.name}/{metric.name}": reason
        for preset in wanted
        for metric in preset.metrics
        if metric.space is not None and (reason := missing(metric.space, places.weights))
    }
    todo = [
        (preset, metric)
        for preset in wanted
        for metric in preset.metrics
        if f"{preset.name}/{metric.name}" not in absent
    ]
    results: dict[tuple[str, Metric], list[Result]] = {}
    spaces = [metric.space for _, metric in todo if metric.space is not None]
    for space, r in similarities(recons, originals, spaces, places, say):
        for preset, metric in todo:
            if metric.space == space:
                rules = _rules(preset, len(recons), chosen)
                results[preset.name, metric] = [
                    of_features(r, metric, rule, chosen, draws) for rule in rules
                ]
    pixel_metrics = [metric for _, metric in todo if metric.space is None]
    if pixel_metrics:
        say(f"PixCorr and SSIM of {len(recons) * len(originals)} pictures")
    low = of_pixels(recons, originals, pixel_metrics)
    for preset, metric in todo:
        if metric.space is None:
            rules = _rules(preset, len(recons), chosen)
            stream = (f"{preset.name}/{metric.name}", metric.kind)
            results[preset.name, metric] = [
                summary(low[metric], metric, rule, chosen, draws, stream) for rule in rules
            ]
    return _tables(todo, results, absent, len(recons))


def _check(recons: Sequence[Pictures], originals: Pictures, presets: Sequence[str]) -> None:
    preset_names(",".join(presets))
    counts = [len(sample) for sample in recons]
    if not counts or set(counts) != {len(originals)}:
        found = " and ".join(map(str, sorted(set(counts)))) or "no"
        raise PhospheneError(
            f"pictures: found {found} reconstructions for {len(originals)} originals, expected "
            "equal"
        )
    if len(originals) < 2:
        raise PhospheneError(
            f"pictures: found {len(originals)}, but identification needs two or more"
        )


def _rules(preset: Preset, n_samples: int, chosen: NDArray[np.int64] | None) -> list[Rule]:
    """With one sample all rules are the same: the preset's own names it."""
    if n_samples == 1:
        return [preset.selection]
    return ["mean", "single", *(["decoded"] if chosen is not None else []), "oracle"]  # type: ignore[list-item]


def _tables(
    todo: Sequence[tuple[Preset, Metric]],
    results: dict[tuple[str, Metric], list[Result]],
    absent: dict[str, str],
    n_samples: int,
) -> PictureScores:
    rows = []
    images = []
    for preset, metric in todo:
        for found in results[preset.name, metric]:
            key: dict[str, Any] = {
                "preset": preset.name,
                "metric": metric.name,
                "direction": metric.direction,
                "selection": found.rule,
            }
            rows.append(
                key
                | {
                    "kind": metric.kind,
                    "space": metric.space.name if metric.space else None,
                    "value": found.value,
                    "ci_low": found.ci[0],
                    "ci_high": found.ci[1],
                    "p": found.p,
                    "chance": found.chance,
                    "better": metric.better,
                    "n": len(found.per_image),
                    "samples": n_samples,
                }
            )
            items = np.arange(len(found.per_image))
            images.append(pd.DataFrame({**key, "item": items, "value": found.per_image}))
    scores = pd.DataFrame(rows, columns=COLUMNS)
    per_image = (
        pd.concat(images, ignore_index=True)[IMAGE_COLUMNS]
        if images
        else pd.DataFrame(columns=IMAGE_COLUMNS)
    )
    return PictureScores(scores, per_image, absent)
