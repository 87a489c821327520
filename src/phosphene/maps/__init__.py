"""Maps of the encoding half: files that other programs read, and figures 6 to 9 of the paper.

Takes tables of voxels, as :func:`phosphene.steps.encode.maps` gives, and the subject's scans; needs
no torch and no Study. Figures are flat maps (:mod:`phosphene.maps.flatmap`), or slices, saying so,
of scans that no surface is known for.
"""

from phosphene.maps.figures import figure_of_accuracy, figure_of_best, figure_of_unique
from phosphene.maps.files import write_surface, write_volume
from phosphene.maps.panels import Look, best_layer
from phosphene.maps.places import transforms_of

__all__ = [
    "Look",
    "best_layer",
    "figure_of_accuracy",
    "figure_of_best",
    "figure_of_unique",
    "transforms_of",
    "write_surface",
    "write_volume",
]
