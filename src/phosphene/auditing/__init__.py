"""Sanity checks on the results of a study."""
