"""Statistics: regions with intervals, and p by permutation.

Predictions and measurements of the test pictures are read a block of voxels at a time. Images are
resampled, the same ones for all voxels and all models, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.encoding.models import Model
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Artefact, Part
from phosphene.seeds import rng
from phosphene.steps.encode.factors import model_name
from phosphene.steps.encode.maps import maps
from phosphene.steps.encode.measured import Measured
from phosphene.steps.encode.models import Encode, VoxelStep
from phosphene.study import Compute

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Statistics(VoxelStep):
    """The maps of a model by region, and p by permutation where the study asks for it.

    Table `regions`: atlas, region, n_voxels, r (mean over voxels), ci_low, ci_high (95 %, bootstrap
    over test images), r_of_ceiling, significant (share with q < 0.05), and for several spaces
    "unique SPACE", "ci_low unique SPACE" and "ci_high unique SPACE". Table `draws`: the bootstrap
    means, a column "atlas/region" each, the same images in the same rows for every model. Array
    `p_permuted` (n_voxels,): one-sided, images permuted, where `encode.permutations` is not 0.
    """

    stage: ClassVar[str] = "statistics"
    sections: ClassVar[tuple[str, ...]] = ("encode",)

    model: Model

    @property
    def name(self) -> str:
        """Subject and model."""
        return model_name(self.subject, self.model)

    def settings(self) -> dict[str, Any]:
        """Atlases and draws."""
        names = ("atlases", "bootstrap", "permutations")
        return {"seed": self.study.seed, **self.study.settings("encode", *names)}

    @property
    def encode(self) -> Encode:
        """The fitted model."""
        return Encode(self.study, self.subject, self.model)

    @property
    def measured(self) -> Measured:
        """What it is tested on."""
        return Measured(self.study, self.subject)

    def inputs(self) -> Mapping[str, Step | Key]:
        """The model, the measured responses, and the labels of regions."""
        labels = self.key("labels", self.study.encode.atlases)
        return {"encode": self.encode, "measured": self.measured, "labels": labels}

    def declare(self, artefact: Artefact) -> None:
        """Create the array of p."""
        if self.study.encode.permutations:
            n = self.n_voxels
            artefact.create_array("p_permuted", (n,), "float64", (n,))

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Summarise all regions of all atlases."""
        import pandas as pd

        from phosphene.encoding.regions import labelled
        from phosphene.numerics import stats

        study = self.study
        settings = study.encode
        table = maps(study, self.subject, self.model)
        prediction = self.encode.artefact.array("prediction")
        truth = self.measured.artefact.array("test")
        regions = []
        draws = []
        for atlas, labels in labelled(table, settings.atlases):
            drawn = stats.roi_draws(
                prediction,
                truth,
                labels,
                n_bootstrap=settings.bootstrap,
                rng=rng(study.seed, self.subject, "images"),
            )
            summary = stats.roi_summary(table["r"], labels, q=table["q"], draws=drawn).rename(
                columns={"mean": "r"}
            )
            more = [_means(table[labels == region], self.model) for region in summary["roi"]]
            summary = summary.rename(columns={"roi": "region"})
            summary = pd.concat([summary, pd.DataFrame(more)], axis=1)
            regions.append(summary.drop(columns=["median", "resampled"]).assign(atlas=atlas))
            draws.append(drawn.add_prefix(f"{atlas}/"))
        region_table = pd.concat(regions, ignore_index=True)
        if len(self.model.spaces) > 1:
            ends = _unique_intervals(self, table, region_table)
            region_table = pd.concat([region_table, ends], axis=1)
        part.table("regions", region_table)
        part.table("draws", pd.concat(draws, axis=1))
        if settings.permutations:
            random = rng(study.seed, self.subject, "permutations")
            p = stats.permuted_correlation_p(
                prediction, truth, n_permutations=settings.permutations, rng=random
            )
            part.array("p_permuted", slice(0, len(p)), p)

    def cost(self, rates: Rates) -> Cost:
        """Products of predictions and measurements with resampling counts."""
        n_spaces = len(self.model.spaces)
        products = 4 if n_spaces == 1 else 6 + n_spaces
        flops = 2.0 * self.n_test * self.n_voxels * self.study.encode.bootstrap * products
        return Cost(1, 0.0, 0.0, rates.gb, flops * rates.flop)


def _unique_intervals(step: Statistics, table: pd.DataFrame, regions: pd.DataFrame) -> pd.DataFrame:
    """Intervals of the unique variance of each space (95 %, bootstrap over test images), a row for
    each region.

    Parameters
    ----------
    step : Statistics
    table : DataFrame
        Maps of the model, one row per voxel.
    regions : DataFrame
        Columns atlas and region.
    """
    import numpy as np
    import pandas as pd

    from phosphene.encoding.regions import labelled
    from phosphene.numerics import stats

    encoded = step.encode.artefact
    labels = dict(labelled(table, step.study.encode.atlases))
    members = np.array(
        [
            (labels[atlas] == region).to_numpy()
            for atlas, region in regions[["atlas", "region"]].itertuples(index=False)
        ]
    )
    draws = stats.unique_draws(
        encoded.array("prediction"),
        encoded.array("without"),
        step.measured.artefact.array("test"),
        members,
        n_bootstrap=step.study.encode.bootstrap,
        rng=rng(step.study.seed, step.subject, "images"),
    )
    low, high = np.quantile(draws, [0.025, 0.975], axis=1)
    ends = {"ci_low": low, "ci_high": high}
    return pd.DataFrame(
        {
            f"{end} unique {space}": values[k]
            for k, space in enumerate(step.model.spaces)
            for end, values in ends.items()
        }
    )


def _means(voxels: pd.DataFrame, model: Model) -> dict[str, float]:
    """More numbers of a region, means over voxels."""
    row = {}
    if "ceiling" in voxels:
        row["r_of_ceiling"] = float(voxels["r_of_ceiling"].mean())
    if len(model.spaces) > 1:
        for space in model.spaces:
            row[f"unique {space}"] = float(voxels[f"unique {space}"].mean())
    return row
