"""LAION-fMRI."""

from phosphene.data.laion.dataset import LaionFMRI

__all__ = ["LaionFMRI"]
