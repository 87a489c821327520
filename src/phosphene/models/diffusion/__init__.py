"""The frozen latent diffusion model.

``sources`` where a model is stored, and keys of its networks · ``configuration`` its sizes, without
torch · ``loading`` and ``checkpoints`` its nets · ``model`` images to latents, captions to
contexts, and back to pictures · ``schedule`` and ``batching`` how it samples · ``activations`` what
happens inside · ``captions`` what its text encoder's window leaves.
"""
