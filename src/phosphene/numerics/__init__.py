"""Regression, statistics, identification and principal components: arrays in, arrays out."""
