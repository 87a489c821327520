"""Simulated data: drawn scenes, and a known brain that looks at them."""
