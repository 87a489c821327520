"""Which features of the diffusion model predict which voxels: models and their arithmetic."""

from phosphene.encoding.models import Model, asked, denoised, mixes, planned

__all__ = ["Model", "asked", "denoised", "mixes", "planned"]
