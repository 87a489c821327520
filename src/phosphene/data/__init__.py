"""Measured brains and what they saw: one shape for every data source."""

from phosphene.data.dataset import Dataset
from phosphene.data.sources import open_dataset

__all__ = ["Dataset", "open_dataset"]
