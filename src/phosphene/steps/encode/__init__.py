"""The encoding half: features of the diffusion model predict every voxel (paper, section E).

``factors`` what depends on a model's features alone · ``models`` all voxels, block by block ·
``maps`` what came out, voxel by voxel · ``measured`` what models are tested on · ``statistics``
regions, intervals and permutations · ``contrast`` two models compared · ``analyses`` all models of
a study · ``cost`` what they will take.

A model is one feature space or several together, each with a penalty of its own (banded ridge). One
decomposition for every mix of the spaces is made once and shared by all blocks of voxels.

Trials of one picture are averaged first and their rows multiplied with the square root of their
number: the normal equations are those of single trials, which the paper fits, with a third of the
rows. Means are those of all training trials, so no intercept is fitted. A space is centred and
scaled as a whole, never column by column: that would make every principal component equally
important.
"""

from phosphene.steps.encode.analyses import (
    agreement,
    analyse,
    clear,
    differences,
    finished,
    permuted_p,
    planned,
    preferences,
    regions,
)
from phosphene.steps.encode.contrast import contrast
from phosphene.steps.encode.factors import factors, factors_recipe
from phosphene.steps.encode.maps import maps
from phosphene.steps.encode.measured import measured
from phosphene.steps.encode.models import encode, encode_recipe
from phosphene.steps.encode.statistics import statistics

__all__ = [
    "agreement",
    "analyse",
    "clear",
    "contrast",
    "differences",
    "encode",
    "encode_recipe",
    "factors",
    "factors_recipe",
    "finished",
    "maps",
    "measured",
    "permuted_p",
    "planned",
    "preferences",
    "regions",
    "statistics",
]
