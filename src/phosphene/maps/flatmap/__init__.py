"""From the scan's voxels to a map of flattened cortex.

A volume (X, Y, Z) is sampled at three depths of the subject's own cortex, carried to fsaverage and
drawn on the flat fsaverage5 mesh that nilearn ships; NSD's transform files say where each vertex
lies in the scan. A scan without them is drawn as slices: its header does not register it with any
surface, so a map made from it would be wrong.
"""

from phosphene.maps.flatmap.flat import draw, flat_mesh
from phosphene.maps.flatmap.pycortex import Pycortex, draw_pycortex, pycortex_ground
from phosphene.maps.flatmap.sampling import (
    GRIDS,
    HEMISPHERES,
    N_FSAVERAGE,
    N_FSAVERAGE5,
    Transforms,
    Vertices,
    read_transforms,
    to_fsaverage,
    to_fsaverage5,
    to_native,
    to_volume,
    transform_paths,
)
from phosphene.maps.flatmap.show import show
from phosphene.maps.flatmap.slices import draw_slices
from phosphene.maps.flatmap.style import Scale

__all__ = [
    "GRIDS",
    "HEMISPHERES",
    "N_FSAVERAGE",
    "N_FSAVERAGE5",
    "Pycortex",
    "Scale",
    "Transforms",
    "Vertices",
    "draw",
    "draw_pycortex",
    "draw_slices",
    "flat_mesh",
    "pycortex_ground",
    "read_transforms",
    "show",
    "to_fsaverage",
    "to_fsaverage5",
    "to_native",
    "to_volume",
    "transform_paths",
]
