"""A lab's own data: single-trial betas, trials and images in one folder."""

from phosphene.data.arrays.dataset import Arrays

__all__ = ["Arrays"]
