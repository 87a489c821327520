"""Maps of a finished encoding model, one row per voxel."""

from __future__ import annotations

import numpy as np
import pandas as pd

from phosphene.encoding.models import Model
from phosphene.errors import PhospheneError
from phosphene.numerics import correlation
from phosphene.numerics.stats import correlation_p, fdr_bh, normalised_correlation
from phosphene.pipeline.store import Store
from phosphene.steps.betas import betas_recipe
from phosphene.steps.encode.models import encode_recipe
from phosphene.steps.subject import dataset
from phosphene.study import Study


def maps(study: Study, subject: str, model: Model) -> pd.DataFrame:
    """Read the maps of a finished model.

    Returns
    -------
    DataFrame
        One row per voxel: x, y, z and labels as the data give them, r, r2, p (one-sided, exact null
        of a correlation over the test images), q (Benjamini-Hochberg over all voxels), alpha,
        ceiling (correlation that a perfect model would reach, from ncsnr), r_of_ceiling (r in units
        of it, NaN where it is low: :func:`phosphene.numerics.stats.normalised_correlation`), and
        for several spaces "unique SPACE", "product SPACE" and "mix SPACE".
    """
    store = Store(study.root)
    data = dataset(study, subject)
    artefact = store.artefact(encode_recipe(study, subject, model))
    if not artefact.done:
        raise PhospheneError(
            f"model '{model}' of {subject} is not fitted; `phosphene encode STUDY --features` "
            "fits it."
        )
    table = store.artefact(betas_recipe(study, subject, study.encode.rois)).table("voxels")
    n_test = artefact.array("prediction").shape[0]
    for name in ("r", "r2", "alpha"):
        table[name] = np.asarray(artefact.array(name)[:], np.float64)
    table["p"] = correlation_p(table["r"].to_numpy(), n_test)
    table["q"] = fdr_bh(table["p"].to_numpy())
    repeats = data.trials.loc[data.trials["split"] == "test", "image"].value_counts().to_numpy()
    if "ncsnr" in table:
        table["ceiling"] = correlation.max_correlation(table["ncsnr"].to_numpy(), repeats)
        table["r_of_ceiling"] = normalised_correlation(table["r"], table["ncsnr"], repeats)
    if len(model.spaces) > 1:
        for name in ("unique", "product", "mix"):
            for space, values in zip(
                model.spaces, np.asarray(artefact.array(name)[:], np.float64), strict=True
            ):
                table[f"{name} {space}"] = values
    return table
