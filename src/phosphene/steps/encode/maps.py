"""Maps of a finished encoding model, one row per voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phosphene.encoding.models import Model
from phosphene.errors import PhospheneError
from phosphene.steps.betas import voxel_table
from phosphene.steps.encode.models import Encode
from phosphene.study import Study

if TYPE_CHECKING:
    import pandas as pd


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
    import numpy as np

    from phosphene.numerics import correlation
    from phosphene.numerics.stats import correlation_p, fdr_bh, normalised_correlation

    step = Encode(study, subject, model)
    artefact = step.artefact
    if not artefact.seems_done:
        raise PhospheneError(
            f"model '{model}' of {subject} is not fitted; `phosphene encode STUDY "
            "--features` fits it."
        )
    trials = step.data.trials
    table = voxel_table(step.betas)
    for name in ("r", "r2", "alpha"):
        table[name] = np.asarray(artefact.array(name)[:], np.float64)
    table["p"] = correlation_p(table["r"].to_numpy(), step.n_test)
    table["q"] = fdr_bh(table["p"].to_numpy())
    repeats = trials.loc[trials["split"] == "test", "image"].value_counts().to_numpy()
    if "ncsnr" in table:
        table["ceiling"] = correlation.max_correlation(table["ncsnr"].to_numpy(), repeats)
        table["r_of_ceiling"] = normalised_correlation(table["r"], table["ncsnr"], repeats)
    if len(model.spaces) > 1:
        for name in ("unique", "product", "mix"):
            values = np.asarray(artefact.array(name)[:], np.float64)
            for space, of_space in zip(model.spaces, values, strict=True):
                table[f"{name} {space}"] = of_space
    return table
