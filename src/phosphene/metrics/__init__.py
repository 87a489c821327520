"""Scores of reconstructions: presets of published work, picture files, published numbers."""
