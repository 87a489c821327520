"""The stage that scores pictures: which seen picture does each reconstruction belong to, and what
does it show?

Tables, one row per question: ``scores`` (the study's presets of measures, per way of choosing among
the samples) and ``per_image``; ``names`` (does the judge see the right category?); ``features`` and
``rois`` (how well the brain, and each part of it, predicts z and c).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data import Dataset
from phosphene.data.dataset import Photographs
from phosphene.data.trials import image_ids
from phosphene.errors import NoDataError, without_warnings
from phosphene.methods import BRAIN, MODE_FEATURES, SHUFFLED, TRUE, condition_name
from phosphene.metrics.decoded import correlated_features, identified_features, named_categories
from phosphene.metrics.image_files import Files
from phosphene.metrics.measures import Draws, Places
from phosphene.metrics.presets import KEYS, PRESETS
from phosphene.metrics.score import PictureScores, own_selection, score_pictures
from phosphene.models.diffusion.batching import own_device
from phosphene.models.judge.labels import fingerprint
from phosphene.models.perceptual.stamps import missing, stamp
from phosphene.models.preparing import Pictures
from phosphene.numerics.stats import compare_methods
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng
from phosphene.steps.conditions import compared_rois, conditions, features_of, own_rois
from phosphene.steps.decode import decode, decode_recipe
from phosphene.steps.decompose import LEFT_OUT, decompose_recipe
from phosphene.steps.extract import extract_recipe
from phosphene.steps.reconstruct import reconstruct, reconstruct_recipe
from phosphene.steps.subject import dataset, items, load_model
from phosphene.study import Compute, Study

VERSION = 2


def measures_stamp(study: Study) -> str:
    """Hash of all that the study's measures depend on: presets, weights that are there, versions of
    libraries.
    """
    metrics = [metric for name in study.evaluate.presets for metric in PRESETS[name].metrics]
    spaces = {metric.space for metric in metrics if metric.space is not None}
    known = [space for space in spaces if missing(space, study.weights) is None]
    parts = [
        fingerprint(),
        *sorted(stamp(space, study.weights) for space in known),
    ]
    # PixCorr, SSIM
    parts += [f"{metric} {version('scikit-image')}" for metric in metrics if metric.space is None]
    return hashlib.blake2b("".join(parts).encode(), digest_size=8).hexdigest()


def evaluate_recipe(study: Study, subject: str) -> Recipe:
    """What the scores of a subject are made from."""
    data = dataset(study, subject)
    inputs = {
        f"{mode}-{source}": reconstruct_recipe(study, subject, mode, source).hash
        for mode, source in conditions(study)
    }
    for feature in features_of(study):
        for source in _feature_sources(study):
            inputs[f"{feature}-{source}"] = decode_recipe(study, subject, feature, source).hash
        for roi in compared_rois(study, data):
            inputs[f"{feature}-{roi}"] = decode_recipe(study, subject, feature, rois=[roi]).hash
    inputs["measures"] = measures_stamp(study)
    settings = study.settings("evaluate") | {"seed": study.seed}
    return Recipe("evaluate", subject, VERSION, settings, inputs)


def evaluate(study: Study, subject: str, compute: Compute) -> Artefact:
    """Score all reconstructions of a subject.

    Tables: `scores`, `per_image`, `absent` (measures whose weights are not there), `names`,
    `features`, `rois`. Where a data set has no photographs to compare with, only the names are
    asked for.
    """
    for mode, source in conditions(study):
        reconstruct(study, subject, mode, compute, source)
    for feature in features_of(study):
        for source in _feature_sources(study):
            decode(study, subject, feature, compute, source)
    data = dataset(study, subject)
    for roi in compared_rois(study, data):
        _decode_from(study, subject, roi, compute)
    work = partial(_evaluate_part, study=study, subject=subject, compute=compute)
    return make(study, evaluate_recipe(study, subject), len(conditions(study)) + 1, work, compute)


def _decode_from(study: Study, subject: str, roi: str, compute: Compute) -> None:
    """Decode all features from one region; where a region nobody chose has no data, that is kept as
    the result.
    """
    store = Store(study.root)
    chosen = roi in (*study.evaluate.rois, *own_rois(study))
    recipes = [decode_recipe(study, subject, feature, rois=[roi]) for feature in features_of(study)]
    try:
        for feature, recipe in zip(features_of(study), recipes, strict=True):
            artefact = store.artefact(recipe)
            if not artefact.done:
                decode(study, subject, feature, compute, rois=[roi])
            elif chosen and LEFT_OUT in artefact.manifest["facts"]:
                raise NoDataError(artefact.manifest["facts"][LEFT_OUT])
    except NoDataError as error:
        if chosen:
            raise
        warnings.warn(
            f"{subject}: region {roi!r} is left out of the comparison of regions: {error}",
            stacklevel=2,
        )
        if study.decode.leave_out != "run":  # last: while it is not done, all of this is done again
            recipes.append(decompose_recipe(study, subject, [roi]))
        for artefact in map(store.artefact, recipes):
            for index in artefact.missing(1):
                with artefact.part(index):
                    pass
            artefact.finish(facts={LEFT_OUT: str(error)})


def _evaluate_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, compute: Compute
) -> None:
    data = dataset(study, subject)
    labels = {"subject": subject}
    wanted = items(study, data)
    if index == len(conditions(study)):
        with artefact.part(index) as part:
            rows = _feature_rows(study, data, wanted)
            part.table("features", pd.DataFrame(rows).assign(**labels))
            part.table("rois", pd.DataFrame(_roi_rows(study, data)).assign(**labels))
        return
    mode, source = conditions(study)[index]
    made = reconstructed(study, subject, mode, source)
    labels |= {"mode": mode, "source": source}
    with artefact.part(index) as part:
        named = _name_row(study, data, wanted, made)
        part.table(f"names/{index}", pd.DataFrame([named]).assign(**labels))
        if data.photographs:
            chosen = decoded_choice(study, data, mode, source, compute)
            found = score_made(study, data, made, chosen, compute.device)
            part.table(f"scores/{index}", found.scores.assign(**labels))
            images = found.per_image.assign(
                image=wanted["image"].to_numpy()[found.per_image["item"]]
            )
            part.table(f"per_image/{index}", images.assign(**labels))
            absent = pd.DataFrame(
                list(found.absent.items()), columns=["measure", "reason"], dtype=str
            )
            part.table(f"absent/{index}", absent.assign(**labels))


# Pictures


def reconstructed(study: Study, subject: str, mode: str, source: str = BRAIN) -> list[Pictures]:
    """Open finished reconstructions: for every sample the pictures of all items, read one at a
    time.
    """
    artefact = Store(study.root).artefact(reconstruct_recipe(study, subject, mode, source))
    n = len(items(study, dataset(study, subject)))
    samples = len(list((artefact.path / "pictures").glob("item00000_*.png")))
    names = [
        [f"pictures/item{item:05d}_{sample}.png" for item in range(n)] for sample in range(samples)
    ]
    return [Files([artefact.file(name) for name in some]) for some in names]


def score_made(
    study: Study,
    data: Dataset,
    made: Sequence[Pictures],
    chosen: NDArray[np.int64] | None = None,
    device: str = "cpu",
) -> PictureScores:
    """Score pictures of the items of a study, made by whatever means, with the study's presets.

    Parameters
    ----------
    study : Study
    data : Dataset
    made : sequence of pictures
        For every sample the pictures of all items (rows as :func:`phosphene.steps.subject.items`).
    chosen : ndarray of int, shape (n_items,), optional
        Which sample the decoded features would choose (:func:`decoded_choice`).
    device : str
    """
    draws = Draws(
        study.evaluate.bootstrap,
        study.evaluate.permutations,
        study.seed,
        (data.subject, "evaluate"),
    )
    places = Places(study.weights, study.root / "perceptual", own_device(device))
    seen = Photographs(data, items(study, data)["image"].tolist())
    return score_pictures(
        made, seen, study.evaluate.presets, chosen=chosen, draws=draws, places=places
    )


def decoded_choice(
    study: Study, data: Dataset, mode: str, source: str, compute: Compute
) -> NDArray[np.int64] | None:
    """Choose among the samples without looking at what was seen: whose latent is closest to the
    decoded one.

    None where no z was decoded or there is one sample only. The latent is correlated with the
    decoded z over its elements (Pearson).
    """
    made = reconstructed(study, data.subject, mode, source)
    if "z" not in MODE_FEATURES[mode] or source == TRUE or len(made) < 2:
        return None
    model = load_model(study.model.name, compute.device)
    decoded = (
        Store(study.root)
        .artefact(decode_recipe(study, data.subject, "z", source))
        .array("prediction")
    )
    r = np.empty((len(made[0]), len(made)))
    for rows in np.array_split(np.arange(len(r)), -(-len(r) // 48)):
        predicted = np.asarray(decoded[rows[0] : rows[-1] + 1], np.float64)
        for sample, pictures in enumerate(made):
            block = np.stack([pictures[k] for k in rows])
            latents = model.image_to_latent(block, study.model.latent_size).astype(np.float64)
            r[rows, sample] = [
                np.corrcoef(a, b)[0, 1] for a, b in zip(latents, predicted, strict=True)
            ]
    return np.asarray(np.nan_to_num(r, nan=-2.0).argmax(axis=1))


def _name_row(
    study: Study, data: Dataset, wanted: pd.DataFrame, made: Sequence[Pictures]
) -> dict[str, float]:
    """How often the judge names the right category."""
    # rows of one run are not independent: where runs were left out in turn, whole runs are
    # resampled
    groups = wanted["run"] if study.decode.leave_out == "run" else wanted.index
    return named_categories(
        made,
        data.categories(wanted["image"].to_numpy()),
        np.asarray(groups),
        n_bootstrap=study.evaluate.bootstrap,
        rng=rng(study.seed, "names"),
    )


# Features


def _feature_rows(study: Study, data: Dataset, wanted: pd.DataFrame) -> Iterator[dict[str, object]]:
    """How well z and c were decoded: correlation, its ceiling, identification and retrieval among
    the items.
    """
    store = Store(study.root)
    rows = np.searchsorted(image_ids(data), wanted["image"].to_numpy())
    for feature in features_of(study):
        for source in _feature_sources(study):
            decoded = store.artefact(decode_recipe(study, data.subject, feature, source))
            row: dict[str, object] = {
                "feature": feature,
                "source": source,
                "n": len(wanted),
                **_correlated(decoded),
            }
            if data.photographs:
                extracted = store.artefact(extract_recipe(study, data.subject, feature))
                found = identified_features(
                    np.asarray(decoded.array("prediction")[:]),
                    np.asarray(extracted.array("features").oindex[rows]),
                    n_bootstrap=study.evaluate.bootstrap,
                    n_permutations=study.evaluate.permutations,
                    rng=rng(study.seed, data.subject, "features", feature, source),
                )
                # one shuffled decoder is a random map of real activity, alike for all pictures:
                # permuting pictures cannot judge it
                row |= found if source == BRAIN else found | {"p": float("nan")}
            yield row


def _correlated(decoded: Artefact) -> dict[str, float]:
    r, ceiling = (np.asarray(decoded.array(name)[:]) for name in ("r", "ceiling"))
    return correlated_features(r, ceiling)


def _roi_rows(study: Study, data: Dataset) -> Iterator[dict[str, object]]:
    """Mean over features of the correlation between predicted and true values, per part of the
    brain.
    """
    for feature in features_of(study):
        for roi in compared_rois(study, data):
            recipe = decode_recipe(study, data.subject, feature, rois=[roi])
            artefact = Store(study.root).artefact(recipe)
            if LEFT_OUT not in artefact.manifest["facts"]:
                with without_warnings():
                    n_voxels = len(data.voxels(roi))
                yield {
                    "feature": feature,
                    "roi": roi,
                    **_correlated(artefact),
                    "n_voxels": n_voxels,
                }


def _feature_sources(study: Study) -> tuple[str, ...]:
    """What decoded features are compared: those of the brain, and of the shuffled one where the
    study has it.
    """
    return (BRAIN, SHUFFLED) if SHUFFLED in study.reconstruct.baselines else (BRAIN,)


# All subjects


def all_tables(study: Study, name: str, compute: Compute) -> pd.DataFrame:
    """One table of all subjects; `condition` names the reconstruction for people. Empty where
    nothing was scored.
    """
    tables = []
    for subject in study.data.subjects:
        artefact = evaluate(study, subject, compute)
        if (artefact.path / name).is_dir():
            tables.append(artefact.table(name))
    if not tables:
        return pd.DataFrame(columns=["subject", "condition"])
    table = pd.concat(tables, ignore_index=True)
    names = [
        condition_name(mode, source)
        for mode, source in zip(table["mode"], table["source"], strict=True)
    ]
    return table.assign(condition=names)


def comparisons(study: Study, compute: Compute) -> pd.DataFrame:
    """Compare the study's modes on the same images, subject by subject, measure by measure.

    Returns
    -------
    DataFrame
        subject, preset, metric, direction and the columns of
        :func:`phosphene.numerics.stats.compare_methods`, whose corrections run over the pairs of
        modes of one measure.
    """
    images = all_tables(study, "per_image", compute)
    rows = []
    if images.empty or len(study.reconstruct.modes) < 2:
        return pd.DataFrame(columns=["subject", *KEYS])
    images = own_selection(images[images["source"] == BRAIN])
    for key, some in images.groupby(["subject", *KEYS], sort=False, dropna=False):
        values = some.pivot(index="item", columns="mode", values="value")[
            list(study.reconstruct.modes)
        ]
        found = compare_methods(
            {str(m): values[m].to_numpy() for m in values}, rng=rng(study.seed, "comparisons")
        )
        rows.append(found.assign(**dict(zip(["subject", *KEYS], key, strict=True))))
    return pd.concat(rows, ignore_index=True)
