"""The stage that scores pictures: which seen picture does each reconstruction belong to, and what does it show?

Three tables, one row per question: ``scores`` (two-way identification in perceptual spaces), ``names`` (does the judge
see the right category?) and ``rois`` (how well each part of the brain predicts z and c).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import ldm, perceptual
from phosphene.data import Dataset
from phosphene.decoding import items
from phosphene.identification import two_way_identification
from phosphene.sources import dataset
from phosphene.stages import (
    BRAIN,
    MODE_FEATURES,
    SHUFFLED,
    TRUE,
    decode,
    decode_recipe,
    make,
    pictures,
    reconstruct,
    reconstruct_recipe,
    without_warnings,
)
from phosphene.stats import bootstrap_ci
from phosphene.store import Artefact, Recipe, Store
from phosphene.study import Compute, Study, rng

VERSION = 1
SOURCE_NAMES = {SHUFFLED: "shuffled brain", TRUE: "true features"}
STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")


def richest_mode(study: Study) -> str:
    """The mode of the study that uses most features."""
    return max(study.reconstruct.modes, key=lambda mode: len(MODE_FEATURES[mode]))


def conditions(study: Study) -> list[tuple[str, str]]:
    """Every kind of reconstruction that is scored: (mode, source); baselines use the richest mode of the study."""
    modes = [mode for mode in MODE_FEATURES if mode in study.reconstruct.modes]  # in one order, however they are listed
    sources = [name for name in (SHUFFLED, TRUE) if name in study.reconstruct.baselines]
    return [(mode, BRAIN) for mode in modes] + [(richest_mode(study), source) for source in sources]


def compared_rois(study: Study, data: Dataset) -> list[str]:
    """The parts of the brain that are compared: the streams where they are drawn, else all regions."""
    return [roi for roi in STREAMS if roi in data.rois] or list(data.rois)


def features_of(study: Study) -> list[str]:
    """The features that the study's modes need."""
    return [f for f in ("z", "c") if any(f in MODE_FEATURES[mode] for mode in study.reconstruct.modes)]


def evaluate_recipe(study: Study, subject: str) -> Recipe:
    """What the scores of a subject are made from."""
    data = dataset(study, subject)
    inputs = {
        f"{mode}-{source}": reconstruct_recipe(study, subject, mode, source).hash for mode, source in conditions(study)
    }
    for feature in features_of(study):
        for roi in compared_rois(study, data):
            inputs[f"{feature}-{roi}"] = decode_recipe(study, subject, feature, rois=[roi]).hash
    inputs["judge"] = perceptual.fingerprint()
    settings = study.settings("evaluate") | {"seed": study.seed}
    return Recipe("evaluate", subject, VERSION, settings, inputs)


def evaluate(study: Study, subject: str, compute: Compute) -> Artefact:
    """Score all reconstructions of a subject; tables `scores`, `per_image`, `names` and `rois`.

    Identification is scored per sample and averaged as Takagi & Nishimoto do (correlations averaged over samples).
    Where a data set has no photographs to compare with, only the names are asked for.
    """
    for mode, source in conditions(study):
        reconstruct(study, subject, mode, compute, source)
    data = dataset(study, subject)
    for feature in features_of(study):
        for roi in compared_rois(study, data):
            decode(study, subject, feature, compute, rois=[roi])
    work = partial(_evaluate_part, study=study, subject=subject)
    return make(study, evaluate_recipe(study, subject), len(conditions(study)) + 1, work, compute)


def _evaluate_part(artefact: Artefact, index: int, *, study: Study, subject: str) -> None:
    data, labels = dataset(study, subject), {"subject": subject}
    if index == len(conditions(study)):
        with artefact.part(index) as part:
            part.table("rois", pd.DataFrame(_roi_rows(study, data)).assign(**labels))
        return
    mode, source = conditions(study)[index]
    wanted = items(study, data)
    made = pictures(Store(study.root).artefact(reconstruct_recipe(study, subject, mode, source)), range(len(wanted)))
    labels |= {"mode": mode, "source": source}
    with artefact.part(index) as part:
        part.table(f"names/{index}", pd.DataFrame([_name_row(study, data, wanted, made)]).assign(**labels))
        if data.photographs:
            scores, per_image = _identification(study, data, wanted, made)
            part.table(f"scores/{index}", scores.assign(**labels))
            part.table(f"per_image/{index}", per_image.assign(**labels))


def _identification(
    study: Study, data: Dataset, wanted: pd.DataFrame, made: NDArray[np.uint8]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    n, samples, side = made.shape[:3]
    seen = perceptual.features(ldm.resize(data.images(wanted["image"].to_numpy()), side), study.evaluate.spaces)
    shown = perceptual.features(made.reshape(-1, *made.shape[2:]), study.evaluate.spaces)
    rows, per_image = [], []
    for space in study.evaluate.spaces:
        for direction in study.evaluate.directions:
            result = two_way_identification(
                shown[space].reshape(n, samples, -1), seen[space], direction=direction,
                n_bootstrap=study.evaluate.bootstrap, n_permutations=study.evaluate.permutations,
                rng=rng(study.seed, data.subject, "evaluate", space, direction),
            )  # fmt: skip
            rows.append({"space": space, "preset": direction, "accuracy": result.accuracy, "ci_low": result.ci[0],
                         "ci_high": result.ci[1], "p": result.p, "n": n, "samples": samples})  # fmt: skip
            per_image.append(pd.DataFrame({"item": np.arange(n), "image": wanted["image"], "space": space,
                                           "preset": direction, "accuracy": result.per_image}))  # fmt: skip
    return pd.DataFrame(rows), pd.concat(per_image, ignore_index=True)


def _name_row(study: Study, data: Dataset, wanted: pd.DataFrame, made: NDArray[np.uint8]) -> dict[str, float]:
    """Ask the judge for the likeliest category, out of those of the data set; right if the seen picture has it."""
    truth = data.categories(wanted["image"].to_numpy())
    choices = sorted({name for names in truth for name in names})
    unknown = [name for name in choices if name not in perceptual.CATEGORIES]
    if unknown or not choices:
        return {
            "accuracy": np.nan,
            "ci_low": np.nan,
            "ci_high": np.nan,
            "chance": np.nan,
            "choices": len(choices),
            "n": 0,
        }
    logits = perceptual.judge_labels(made.reshape(-1, *made.shape[2:]))["category"]
    said = logits[:, [perceptual.CATEGORIES.index(name) for name in choices]].argmax(axis=1).reshape(made.shape[:2])
    right = np.array([[choices[k] in names for k in row] for row, names in zip(said, truth, strict=True)])
    # rows of one run are not independent: where runs were left out in turn, whole runs are resampled
    groups = wanted["run"] if study.decode.leave_out == "run" else wanted.index
    units = pd.Series(right.mean(axis=1)).groupby(np.asarray(groups)).mean().to_numpy()
    low, high = bootstrap_ci(units, n_bootstrap=study.evaluate.bootstrap, rng=rng(study.seed, "names"))
    chance = float(np.mean([len(set(names)) for names in truth])) / len(choices)
    return {
        "accuracy": float(right.mean()),
        "ci_low": low,
        "ci_high": high,
        "chance": chance,
        "choices": len(choices),
        "n": len(truth),
    }


def _roi_rows(study: Study, data: Dataset) -> Iterator[dict[str, object]]:
    """Mean over features of the correlation between predicted and true values, per part of the brain."""
    rois = compared_rois(study, data)
    with without_warnings():
        counts = {roi: len(data.voxels(roi)) for roi in rois}
    for feature in features_of(study):
        for roi in rois:
            artefact = Store(study.root).artefact(decode_recipe(study, data.subject, feature, rois=[roi]))
            r = np.nan_to_num(np.asarray(artefact.array("r")[:]))  # a feature predicted as constant knows nothing
            low, high = np.percentile(r, (25, 75))
            yield {"feature": feature, "roi": roi, "r": float(r.mean()), "q25": float(low), "q75": float(high),
                   "n_voxels": counts[roi]}  # fmt: skip


def condition_name(mode: str, source: str) -> str:
    """Name a kind of reconstruction for people: "zc", "zc, shuffled brain"."""
    return mode if source == BRAIN else f"{mode}, {SOURCE_NAMES[source]}"


def all_tables(study: Study, name: str, compute: Compute) -> pd.DataFrame:
    """One table of all subjects; `kind` names the reconstruction for people. Empty where nothing was scored."""
    tables = []
    for subject in study.data.subjects:
        artefact = evaluate(study, subject, compute)
        if (artefact.path / name).is_dir():
            tables.append(artefact.table(name))
    if not tables:
        return pd.DataFrame(columns=["subject", "kind"])
    table = pd.concat(tables, ignore_index=True)
    kinds = [condition_name(mode, source) for mode, source in zip(table["mode"], table["source"], strict=True)]
    return table.assign(kind=kinds)
