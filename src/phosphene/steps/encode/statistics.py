"""Maps -> regions with intervals, p by permutation, and which of two models is better where.

Everything here reads what two stages keep of the test pictures, predictions and measurements, a
block of voxels at a time. Images are resampled, the same ones for all voxels and all models, so
that differences are paired.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from phosphene.encoding.models import Model
from phosphene.numerics import stats
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make, part_count, part_slice
from phosphene.pipeline.store import Artefact, Store
from phosphene.seeds import rng
from phosphene.steps.betas import VOXELS_PER_CHUNK, betas, betas_recipe
from phosphene.steps.encode.factors import images_of, model_name
from phosphene.steps.encode.fitting import encode, encode_recipe, read_voxels
from phosphene.steps.encode.tables import labelled, maps
from phosphene.steps.subject import dataset
from phosphene.study import Compute, Study

VERSION = {"measured": 1, "statistics": 1, "contrast": 1}
CONTRAST = ("difference", "ci_low", "ci_high", "p")


def measured_recipe(study: Study, subject: str) -> Recipe:
    """What the measured responses to the test pictures are made from."""
    betas_hash = betas_recipe(study, subject, study.encode.rois).hash
    return Recipe(
        "measured",
        subject,
        VERSION["measured"],
        study.settings("data", "zscore"),
        {"betas": betas_hash},
    )


def measured(study: Study, subject: str, compute: Compute) -> Artefact:
    """Keep what every model is tested on.

    Array `test` (n_test_images, n_voxels) float32: responses averaged over repeats, the mean of the
    training trials taken off; NaN where a voxel has no data in some session.
    """
    table = betas(study, subject, study.encode.rois, compute)
    assert table is not None
    n = len(table.table("voxels"))
    tested = len(images_of(dataset(study, subject))[2])

    def prepare(artefact: Artefact) -> None:
        artefact.create_array("test", (tested, n), "float32", (tested, min(VOXELS_PER_CHUNK, n)))

    work = partial(_measured_part, study=study, subject=subject)
    return make(
        study,
        measured_recipe(study, subject),
        part_count(n, VOXELS_PER_CHUNK),
        work,
        compute,
        prepare,
    )


def _measured_part(artefact: Artefact, index: int, *, study: Study, subject: str) -> None:
    rows, n = artefact.array("test").shape
    columns = part_slice(index, VOXELS_PER_CHUNK, n)
    with artefact.part(index) as part:
        voxels = read_voxels(study, subject, columns)
        part.array("test", (slice(0, rows), columns), voxels.spread(voxels.test))


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
    return Recipe("statistics", model_name(subject, model), VERSION["statistics"], settings, inputs)


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


def contrast_recipe(study: Study, subject: str, a: Model, b: Model) -> Recipe:
    """What the difference of two models is made from."""
    settings = {"seed": study.seed, **study.settings("encode", "bootstrap")}
    inputs = {
        "a": encode_recipe(study, subject, a).hash,
        "b": encode_recipe(study, subject, b).hash,
        "measured": measured_recipe(study, subject).hash,
    }
    name = f"{model_name(subject, a)}-over-{model_name('', b).lstrip('-')}"[:100]
    return Recipe("contrast", name, VERSION["contrast"], settings, inputs)


def contrast(study: Study, subject: str, a: Model, b: Model, compute: Compute) -> Artefact:
    """Compare two models voxel by voxel: paired bootstrap over the test images.

    Arrays over voxels: `difference` (r of `a` minus r of `b`), `ci_low`, `ci_high` (95 %), `p`
    (two-sided, from the bootstrap standard error:
    :func:`phosphene.numerics.stats.difference_of_correlations`).
    """
    n = encode(study, subject, a, compute).array("r").shape[0]
    encode(study, subject, b, compute)
    measured(study, subject, compute)

    def prepare(artefact: Artefact) -> None:
        for name in CONTRAST:
            artefact.create_array(name, (n,), "float32", (min(VOXELS_PER_CHUNK, n),))

    work = partial(_contrast_part, study=study, subject=subject, a=a, b=b)
    return make(
        study,
        contrast_recipe(study, subject, a, b),
        part_count(n, VOXELS_PER_CHUNK),
        work,
        compute,
        prepare,
    )


def _contrast_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, a: Model, b: Model
) -> None:
    columns = part_slice(index, VOXELS_PER_CHUNK, artefact.array("p").shape[0])
    with artefact.part(index) as part:
        store = Store(study.root)
        of_a, of_b = (
            store.artefact(encode_recipe(study, subject, m)).array("prediction")[:, columns]
            for m in (a, b)
        )
        truth = store.artefact(measured_recipe(study, subject)).array("test")[:, columns]
        random = rng(study.seed, subject, "images")
        found = stats.difference_of_correlations(
            of_a, of_b, truth, n_bootstrap=study.encode.bootstrap, rng=random
        )
        for name, values in zip(
            CONTRAST, (found.difference, found.ci_low, found.ci_high, found.p_t), strict=True
        ):
            part.array(name, columns, values)
