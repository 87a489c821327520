"""The frozen latent diffusion model: loading, sampling, and recording what happens inside."""

from phosphene.models.diffusion.loading import BUNDLED, PARTS, describe, fingerprint
from phosphene.models.diffusion.model import (
    CPU_PIXELS,
    GPU_PIXELS_DENOISED,
    LatentDiffusion,
    resize,
)
from phosphene.models.diffusion.schedule import NoiseSchedule

__all__ = [
    "BUNDLED",
    "CPU_PIXELS",
    "GPU_PIXELS_DENOISED",
    "PARTS",
    "LatentDiffusion",
    "NoiseSchedule",
    "describe",
    "fingerprint",
    "resize",
]
