"""Frozen networks: the diffusion model, perceptual networks, and the judge of drawn scenes."""
