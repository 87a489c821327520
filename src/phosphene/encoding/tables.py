"""What encoding models found: one row per voxel, one row per region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from phosphene import scoring
from phosphene.encoding.fitting import encode_recipe
from phosphene.encoding.models import Model
from phosphene.sources import dataset
from phosphene.stages import betas_recipe
from phosphene.stats import correlation_p, fdr_bh
from phosphene.store import Store
from phosphene.study import Study

LEAST_CEILING = 0.1  # below, dividing by the ceiling gives noise


def maps(study: Study, subject: str, model: Model) -> pd.DataFrame:
    """Read the maps of a finished model.

    Returns
    -------
    DataFrame
        One row per voxel: x, y, z and labels as the data give them, r, r2, p (one-sided, exact null of a correlation
        over the test images), q (Benjamini-Hochberg over all voxels), alpha, ceiling (correlation that a perfect model
        would reach, from ncsnr), and for several spaces "unique SPACE", "product SPACE", "mix SPACE".
    """
    store, data = Store(study.root), dataset(study, subject)
    artefact = store.artefact(encode_recipe(study, subject, model))
    table = store.artefact(betas_recipe(study, subject, study.encode.rois)).table("voxels")
    n_test = artefact.array("prediction").shape[0]
    for name in ("r", "r2", "alpha"):
        table[name] = np.asarray(artefact.array(name)[:], np.float64)
    table["p"] = correlation_p(table["r"].to_numpy(), n_test)
    table["q"] = fdr_bh(table["p"].to_numpy())
    repeats = data.trials.loc[data.trials["split"] == "test", "image"].value_counts().to_numpy()
    counts = [int((repeats == k).sum()) for k in (3, 2, 1)]
    if "ncsnr" in table:
        table["ceiling"] = scoring.max_correlation(table["ncsnr"].to_numpy(), (counts[0], counts[1], counts[2]))
    if len(model.spaces) > 1:
        for name in ("unique", "product", "mix"):
            for space, values in zip(model.spaces, np.asarray(artefact.array(name)[:], np.float64), strict=True):
                table[f"{name} {space}"] = values
    return table


def summary(study: Study, subject: str, models: Sequence[tuple[str, Model]]) -> pd.DataFrame:
    """How well every model predicts every part of the brain.

    Returns
    -------
    DataFrame
        analysis, model, region (labels of the first atlas, "" for voxels without one), n_voxels, r (mean over voxels),
        r_of_ceiling (r divided by the ceiling, mean over voxels whose ceiling is above `LEAST_CEILING`), significant
        (share with q < 0.05), and for several spaces "unique SPACE", the mean over voxels.
    """
    rows = []
    for analysis, model in models:
        table = maps(study, subject, model)
        atlas = "streams" if "streams" in table else None
        regions = table[atlas] if atlas else pd.Series("", index=table.index)
        for region, some in table.groupby(regions, sort=False):
            row = {"analysis": analysis, "model": str(model), "region": region, "n_voxels": len(some),
                   "r": some["r"].mean(), "significant": float((some["q"] < 0.05).mean())}  # fmt: skip
            if "ceiling" in some:
                able = some[some["ceiling"] > LEAST_CEILING]
                row["r_of_ceiling"] = (able["r"] / able["ceiling"]).mean()
            if len(model.spaces) > 1:
                row |= {f"unique {space}": some[f"unique {space}"].mean() for space in model.spaces}
            rows.append(row)
    return pd.DataFrame(rows)
