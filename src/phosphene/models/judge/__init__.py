"""The judge: an independent classifier of drawn scenes, and its weights."""
