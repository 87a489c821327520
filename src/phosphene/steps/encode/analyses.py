"""The analyses of a study: run all of their models, and read what they found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.encoding import models
from phosphene.encoding.models import Model, Named
from phosphene.encoding.regions import labelled
from phosphene.numerics import stats
from phosphene.pipeline.store import Store
from phosphene.steps.betas import betas_recipe
from phosphene.steps.encode.contrast import CONTRAST, contrast, contrast_recipe
from phosphene.steps.encode.factors import denoised, factors_recipe
from phosphene.steps.encode.maps import maps
from phosphene.steps.encode.models import encode, encode_recipe
from phosphene.steps.encode.statistics import statistics, statistics_recipe
from phosphene.steps.reduce import reduced
from phosphene.steps.subject import configuration
from phosphene.study import Compute, Study

PREFERENCES = [
    "a",
    "b",
    "atlas",
    "region",
    "n_voxels",
    "difference",
    "ci_low",
    "ci_high",
    "better_a",
    "better_b",
]


def analyse(study: Study, subject: str, models: Named, compute: Compute) -> None:
    """Fit these models, and make their statistics, contrasts and repetitions with other noise.

    Features of one strength come out of one pass over the pictures.
    """
    _fit(study, subject, list(dict.fromkeys(model for _, model in models)), compute)
    for model in dict.fromkeys(model for _, model in models):
        statistics(study, subject, model, compute)
    for a, b in pairs(models):
        contrast(study, subject, a, b, compute)
    for seed in study.encode.seeds:
        again = [model for model, other in reseeded(study, models) if other == seed]
        _fit(study.replace("seed", seed), subject, again, compute)


def _fit(study: Study, subject: str, models: Sequence[Model], compute: Compute) -> None:
    spaces = list(dict.fromkeys(space for model in models for space in model.spaces))
    reduced(denoised(study), subject, spaces, compute, study.encode.components)
    for model in models:
        encode(study, subject, model, compute)


def clear(study: Study, subject: str, models: Named) -> None:
    """Forget what was fitted of these models; their features and principal components stay."""
    store = Store(study.root)
    for a, b in pairs(models):
        store.artefact(contrast_recipe(study, subject, a, b)).clear()
    for model in dict.fromkeys(model for _, model in models):
        for recipe in (statistics_recipe, encode_recipe, factors_recipe):
            store.artefact(recipe(study, subject, model)).clear()


def finished(study: Study, subject: str, models: Named) -> list[tuple[str, Model]]:
    """Which of these models are fitted; computes nothing."""
    store = Store(study.root)
    return [
        (name, m) for name, m in models if store.artefact(encode_recipe(study, subject, m)).done
    ]


def regions(study: Study, subject: str, models: Named) -> pd.DataFrame:
    """Read how well every model predicts every part of the brain.

    Returns
    -------
    DataFrame
        analysis, model and the columns of the table `regions` of
        :func:`phosphene.steps.encode.statistics.statistics`; only of models whose statistics are
        finished.
    """
    found = []
    first = ["analysis", "model", "atlas", "region"]
    for analysis, model in models:
        artefact = Store(study.root).artefact(statistics_recipe(study, subject, model))
        if artefact.done:
            found.append(artefact.table("regions").assign(analysis=analysis, model=str(model)))
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=first)
    return table[[*first, *table.columns.drop(first)]]


def differences(study: Study, subject: str, a: Model, b: Model) -> pd.DataFrame:
    """Read a finished contrast.

    Returns
    -------
    DataFrame
        One row per voxel: x, y, z and labels, difference, ci_low, ci_high, p, q (Benjamini-Hochberg
        over all voxels).
    """
    store = Store(study.root)
    table = store.artefact(betas_recipe(study, subject, study.encode.rois)).table("voxels")
    artefact = store.artefact(contrast_recipe(study, subject, a, b))
    for name in CONTRAST:
        table[name] = np.asarray(artefact.array(name)[:], np.float64)
    table["q"] = stats.fdr_bh(table["p"].to_numpy())
    return table


def permuted_p(study: Study, subject: str, model: Model) -> NDArray[np.float64]:
    """Read p of finished statistics, one-sided, from permuted images, (n_voxels,)."""
    artefact = Store(study.root).artefact(statistics_recipe(study, subject, model))
    return np.asarray(artefact.array("p_permuted")[:], np.float64)


def preferences(study: Study, subject: str, models: Named) -> pd.DataFrame:
    """Say for every region which of two models predicts it better; of all pairs of these models
    that are contrasted.

    Returns
    -------
    DataFrame
        a, b, atlas, region, n_voxels, difference (of the mean r), ci_low, ci_high (95 %, paired
        bootstrap over images), better_a, better_b (shares of voxels with q < 0.05).
    """
    rows = []
    store = Store(study.root)
    for a, b in pairs(models):
        table = differences(study, subject, a, b)
        drawn_a, drawn_b = (
            store.artefact(statistics_recipe(study, subject, m)).table("draws") for m in (a, b)
        )
        clear = table["q"] < 0.05
        for atlas, labels in labelled(table, study.encode.atlases):
            for region in sorted(set(labels) - {""}):
                some = (labels == region) & table["difference"].notna()
                column = f"{atlas}/{region}"
                low, high = np.nanquantile(drawn_a[column] - drawn_b[column], [0.025, 0.975])
                difference = table["difference"][some]
                rows.append(
                    {
                        "a": str(a),
                        "b": str(b),
                        "atlas": atlas,
                        "region": region,
                        "n_voxels": int(some.sum()),
                        "difference": difference.mean(),
                        "ci_low": low,
                        "ci_high": high,
                        "better_a": float((clear[some] & (difference > 0)).mean()),
                        "better_b": float((clear[some] & (difference < 0)).mean()),
                    }
                )
    return pd.DataFrame(rows, columns=PREFERENCES)


def pairs(models: Named) -> list[tuple[Model, Model]]:
    """Which models are contrasted: those that predict alone and side by side, z, c, zc and the
    controls.
    """
    alone = [model for analysis, model in models if analysis in ("features", "asked")]
    return list(combinations(dict.fromkeys(alone), 2))


def agreement(study: Study, subject: str, models: Named) -> pd.DataFrame:
    """Compare maps of r with those of the same models under other noise, `encode.seeds` (paper,
    section E).

    Returns
    -------
    DataFrame
        model, seed, n_voxels (q < 0.05 with the study's own seed), correlation over these voxels,
        difference (mean of the absolute differences of r). Empty where no other seeds were asked
        for.
    """
    rows = []
    for model, seed in reseeded(study, models):
        own = maps(study, subject, model)
        other = maps(study.replace("seed", seed), subject, model)
        some = (own["q"] < 0.05) & other["r"].notna()
        r = own["r"][some]
        again = other["r"][some]
        rows.append(
            {
                "model": str(model),
                "seed": seed,
                "n_voxels": int(some.sum()),
                "correlation": float(np.corrcoef(r, again)[0, 1])
                if some.sum() > 1
                else float("nan"),
                "difference": float((r - again).abs().mean()),
            }
        )
    return pd.DataFrame(rows, columns=["model", "seed", "n_voxels", "correlation", "difference"])


def reseeded(study: Study, models: Named) -> list[tuple[Model, int]]:
    """Models to be fitted again with other noise: those of the analysis "features" that have
    any.
    """
    noisy = [
        m
        for analysis, m in models
        if analysis == "features" and any(s.strength is not None for s in m.spaces)
    ]
    return [
        (model, seed)
        for model in dict.fromkeys(noisy)
        for seed in study.encode.seeds
        if seed != study.seed
    ]


def planned(study: Study) -> list[tuple[str, Model]]:
    """The models of the study's analyses (:func:`phosphene.encoding.models.planned`)."""
    settings = study.encode
    model = configuration(study.model.name)
    n_steps = model.n_steps(denoised(study).reconstruct.steps, max(settings.noise))
    return models.planned(
        settings.analyses,
        settings.noise,
        list(dict.fromkeys(max(1, round(share * n_steps)) for share in settings.steps)),
        settings.layers or model.layers,
        settings.controls,
        settings.same_noise,
    )
