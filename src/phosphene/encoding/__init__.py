"""Which features of the diffusion model predict which voxels.

``models`` which features predict together · ``design`` features as the regression sees them ·
``fitting`` one block of voxels · ``regions`` the atlases of a table of voxels.
"""

from phosphene.encoding.models import Model, asked, mixes

__all__ = ["Model", "asked", "mixes"]
