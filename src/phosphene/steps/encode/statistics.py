"""Statistics: regions with intervals, and p by permutation.

Predictions and measurements of the test pictures are read a block of voxels at a time. Images are
resampled, the same ones for all voxels and all models, so that differences are paired.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from phosphene.encoding.models import Model
from phosphene.encoding.regions import labelled
from phosphene.numerics import stats
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng
from phosphene.steps.encode.factors import model_name
from phosphene.steps.encode.maps import maps
from phosphene.steps.encode.measured import measured, measured_recipe
from phosphene.steps.encode.models import encode, encode_recipe
from phosphene.study import Compute, Study

VERSION = 1


def statistics_recipe(study: Study, subject: str, model: Model) -> Recipe:
    """What the statistics of a model are made from."""
    settings = {
        "seed": study.seed,
        **study.settings("encode", "atlases", "bootstrap", "permutations"),
    }
    inputs = {
        "encode": encode_recipe(study, subject, model).hash,
        "measured": measured_recipe(study, subject).hash,
    }
    return Recipe("statistics", model_name(subject, model), VERSION, settings, inputs)


def statistics(study: Study, subject: str, model: Model, compute: Compute) -> Artefact:
    """Summarise the maps of a model by region, and test them by permutation where the study asks
    for it.

    Table `regions`: atlas, region, n_voxels, r (mean over voxels), ci_low, ci_high (95 %, bootstrap
    over test images), r_of_ceiling, significant (share with q < 0.05), and for several spaces
    "unique SPACE", "ci_low unique SPACE" and "ci_high unique SPACE". Table `draws`: the bootstrap
    means, a column "atlas/region" each, the same images in the same rows for every model. Array
    `p_permuted` (n_voxels,): one-sided, images permuted, where `encode.permutations` is not 0.
    """
    encode(study, subject, model, compute)
    measured(study, subject, compute)

    def prepare(artefact: Artefact) -> None:
        if study.encode.permutations:
            n = Store(study.root).artefact(encode_recipe(study, subject, model)).array("r").shape[0]
            artefact.create_array("p_permuted", (n,), "float64", (n,))

    work = partial(_statistics_part, study=study, subject=subject, model=model)
    return make(study, statistics_recipe(study, subject, model), 1, work, compute, prepare)


def _statistics_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, model: Model
) -> None:
    with artefact.part(index) as part:
        store = Store(study.root)
        settings = study.encode
        table = maps(study, subject, model)
        encoded = store.artefact(encode_recipe(study, subject, model))
        prediction = encoded.array("prediction")
        truth = store.artefact(measured_recipe(study, subject)).array("test")
        regions = []
        draws = []
        for atlas, labels in labelled(table, settings.atlases):
            drawn = stats.roi_draws(
                prediction,
                truth,
                labels,
                n_bootstrap=settings.bootstrap,
                rng=rng(study.seed, subject, "images"),
            )
            found = stats.roi_summary(table["r"], labels, q=table["q"], draws=drawn).rename(
                columns={"mean": "r"}
            )
            more = [_also(table[labels == region], model) for region in found["roi"]]
            found = pd.concat([found.rename(columns={"roi": "region"}), pd.DataFrame(more)], axis=1)
            regions.append(found.drop(columns=["median", "resampled"]).assign(atlas=atlas))
            draws.append(drawn.add_prefix(f"{atlas}/"))
        table = pd.concat(regions, ignore_index=True)
        if len(model.spaces) > 1:
            ends = _unique_intervals(study, subject, model, table)
            table = pd.concat([table, ends], axis=1)
        part.table("regions", table)
        part.table("draws", pd.concat(draws, axis=1))
        if settings.permutations:
            random = rng(study.seed, subject, "permutations")
            p = stats.permuted_correlation_p(
                prediction, truth, n_permutations=settings.permutations, rng=random
            )
            part.array("p_permuted", slice(0, len(p)), p)


def _unique_intervals(
    study: Study, subject: str, model: Model, regions: pd.DataFrame
) -> pd.DataFrame:
    """Intervals of the unique variance of each space (95 %, bootstrap over test images), a row for
    each region.
    """
    store = Store(study.root)
    encoded = store.artefact(encode_recipe(study, subject, model))
    truth = store.artefact(measured_recipe(study, subject)).array("test")
    labels = dict(labelled(maps(study, subject, model), study.encode.atlases))
    members = np.array(
        [
            (labels[atlas] == region).to_numpy()
            for atlas, region in regions[["atlas", "region"]].itertuples(index=False)
        ]
    )
    draws = stats.unique_draws(
        encoded.array("prediction"),
        encoded.array("without"),
        truth,
        members,
        n_bootstrap=study.encode.bootstrap,
        rng=rng(study.seed, subject, "images"),
    )
    low, high = np.quantile(draws, [0.025, 0.975], axis=1)
    ends = {"ci_low": low, "ci_high": high}
    return pd.DataFrame(
        {
            f"{end} unique {space}": values[k]
            for k, space in enumerate(model.spaces)
            for end, values in ends.items()
        }
    )


def _also(some: pd.DataFrame, model: Model) -> dict[str, float]:
    """More numbers of a region, means over voxels."""
    row = {}
    if "ceiling" in some:
        row["r_of_ceiling"] = float(some["r_of_ceiling"].mean())
    if len(model.spaces) > 1:
        row |= {f"unique {space}": float(some[f"unique {space}"].mean()) for space in model.spaces}
    return row
