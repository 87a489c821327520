"""The encoding half: features of the diffusion model predict every voxel (paper, section E).

``factors`` what depends on a model's features alone · ``models`` all voxels, block by block ·
``maps`` what came out, voxel by voxel · ``measured`` what models are tested on · ``statistics``
regions, intervals and permutations · ``contrast`` two models compared · ``analyses`` all models of
a study.

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
    differences,
    model_steps,
    permuted_p,
    planned,
    preferences,
    regions,
)
from phosphene.steps.encode.contrast import Contrast
from phosphene.steps.encode.factors import Factors
from phosphene.steps.encode.maps import maps
from phosphene.steps.encode.measured import Measured
from phosphene.steps.encode.models import Encode
from phosphene.steps.encode.statistics import Statistics

__all__ = [
    "Contrast",
    "Encode",
    "Factors",
    "Measured",
    "Statistics",
    "agreement",
    "model_steps",
    "differences",
    "maps",
    "permuted_p",
    "planned",
    "preferences",
    "regions",
]
