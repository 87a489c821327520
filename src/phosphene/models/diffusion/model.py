"""A frozen latent diffusion model: photographs to z, captions to c, and (z, c) back to pictures.

The same code drives the small model that ships with the package and Stable Diffusion 1.4, because
both are the same diffusers and transformers classes. Latents and contexts go in and out as plain
rows, float32 (n, d).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.models.diffusion.batching import (
    checked_finite,
    fitting,
    in_blocks,
    own_device,
)
from phosphene.models.diffusion.encoders import Encoders, Pictures, Rows
from phosphene.models.diffusion.loading import nets
from phosphene.models.diffusion.schedule import NoiseSchedule, Sampler, ddim

# Latent pixels that are denoised together on a GPU, at most.
GPU_PIXELS_DENOISED = 32 * 64 * 64


class LatentDiffusion(Encoders):
    """A latent diffusion model that is only ever used, never trained.

    Make one with :meth:`load`.

    Attributes
    ----------
    size : int
        Side of the pictures it makes, in pixels.
    context_shape : tuple of int
        (tokens, width) of a text context; Stable Diffusion 1.4: (77, 768).
    schedule : NoiseSchedule
    """

    def __init__(
        self, vae: Any, unet: Any, text: Any, tokenizer: Any, schedule: NoiseSchedule
    ) -> None:
        super().__init__(vae, text, tokenizer, unet.device, unet.config.sample_size)
        self.dtype = unet.dtype
        self.unet = unet.to(memory_format=self._layout)
        self.schedule = schedule

    @classmethod
    def load(cls, name: str | Path = "bundled", device: str = "auto") -> LatentDiffusion:
        """Load a model.

        Parameters
        ----------
        name : str or Path
            "bundled", a folder in diffusers' format, a hub id in the local Hugging Face cache (such
            as "CompVis/stable-diffusion-v1-4"), or a .safetensors or .ckpt file of Stable Diffusion
            1.x or 2.x.
        device : str
            "auto" takes a GPU when there is one; else any torch device. Worker processes share out
            several GPUs (:func:`~phosphene.models.diffusion.batching.own_device`). On a GPU the
            U-Net is float16, all else float32.

        Raises
        ------
        PhospheneError
            When the model is missing, incomplete, damaged, unsafe or of another kind.
        """
        where = own_device(device)
        found = nets(name, where, torch.float16 if where.startswith("cuda") else torch.float32)
        schedule = NoiseSchedule.from_config(found.scheduler_config, found.scheduler_file)
        return cls(found.vae, found.unet, found.text, found.tokenizer, schedule)

    def compile(self) -> None:
        """Let torch compile the U-Net: minutes at the first call, then faster on a GPU; the last
        bits change.
        """
        if self.unet._compiled_call_impl is None:
            self.unet.compile()

    def batch(self, wanted: int = 0) -> int:
        """Count the pictures to denoise together: on a CPU always the same; on a GPU `wanted`, or
        what fits (0).
        """
        if self.device.type == "cpu":
            return self._block(self.latent_shape())
        return wanted or self._fitting

    @cached_property
    def _fitting(self) -> int:
        z, c = (
            np.zeros((1, int(np.prod(shape))), np.float32)
            for shape in (self.latent_shape(), self.context_shape)
        )
        most = GPU_PIXELS_DENOISED // int(np.prod(self.latent_shape()[1:]))
        return fitting(
            self.device, max(most, 1), lambda: self._sampled(z, c, 1.0, 1, 5.0, [0], "consistent")
        )

    def denoise(
        self,
        z: Rows | None,
        c: Rows,
        *,
        strength: float = 0.8,
        steps: int = 50,
        guidance: float = 5.0,
        seeds: Sequence[int],
        sampler: Sampler = "consistent",
    ) -> Pictures:
        """Turn latents and contexts into pictures (paper, section C, steps 2 and 3).

        Parameters
        ----------
        z : ndarray of float32, shape (n, d), or None
            Latents at the model's own size; None starts from pure noise (mode ``c``).
        c : ndarray of float32, shape (n, tokens * width)
            Decoded contexts, or those of prompts: ``text_to_context([[prompt], ...])``.
        strength : float
            Share of the `steps` that are noised and denoised again; ignored when `z` is None.
        guidance : float
            Weight of the context against the empty prompt (classifier-free guidance).
        seeds : sequence of int
            One per picture; a picture depends on its own seed alone, not on its neighbours in the
            batch.
        sampler : str
            "consistent", or "paper": noise and rounding as in the released code
            (:meth:`NoiseSchedule.of`).

        Returns
        -------
        ndarray of uint8, shape (n, size, size, 3)

        Examples
        --------
        Mode ``text``: a prompt, such as a decoded caption, for each image, from noise (`z` None) or
        from latents.

        >>> c = model.text_to_context([["a red cat"], ["a blue house"]])  # doctest: +SKIP
        >>> pictures = model.denoise(z, c, strength=0.8, seeds=[1, 2])  # doctest: +SKIP
        """
        settings: dict[str, Any] = {"strength": strength, "steps": steps, "guidance": guidance}
        return self.denoise_later(z, c, **settings, seeds=seeds, sampler=sampler)()

    @torch.inference_mode()
    def denoise_later(
        self,
        z: Rows | None,
        c: Rows,
        *,
        strength: float = 0.8,
        steps: int = 50,
        guidance: float = 5.0,
        seeds: Sequence[int],
        sampler: Sampler = "consistent",
    ) -> Callable[[], Pictures]:
        """Start :meth:`denoise`: a GPU goes on by itself; calling what is returned waits for the
        pictures.
        """
        checked_finite(c, "found contexts", "compute them again")
        if z is not None:
            checked_finite(z, "found latents", "compute them again")
        return self._pictures(
            self._sampled(z, c, strength, steps, guidance, seeds, sampler), sampler
        )

    @torch.inference_mode()
    def _sampled(
        self,
        z: Rows | None,
        c: Rows,
        strength: float,
        steps: int,
        guidance: float,
        seeds: Sequence[int],
        sampler: Sampler,
    ) -> Tensor:
        """Noise latents and denoise them, (n, channels, height, width)."""
        if not len(seeds) == len(c) == len(c if z is None else z):
            raise PhospheneError(
                f"denoise: found {len(seeds)} seeds for {len(c)} contexts, expected one for each "
                "row."
            )
        schedule = self.schedule.of(sampler)
        shape = self.latent_shape()
        x = self._noise(seeds, shape)
        share = 1.0 if z is None else strength
        if z is not None:
            x = schedule.begin(self._tensor(z, shape), x, steps, strength)

        def run(x: Tensor, context: Tensor) -> Tensor:
            return ddim(self._guided(context, guidance), x, schedule, steps, share)

        # on a GPU all rows together: a full block where few are left would cost time and win
        # nothing
        size = self._block(shape) if self.device.type == "cpu" else 0
        return in_blocks(run, size, x, self._tensor(c, self.context_shape))

    def _guided(self, context: Tensor, guidance: float) -> Callable[[Tensor, int], Tensor]:
        """Predict with and without the context in one call, and step past the difference; guidance
        1 needs no other.
        """
        contexts = [context] if guidance == 1 else [self.empty_context.expand_as(context), context]
        together = torch.cat(contexts).to(self.dtype)

        def predict(x: Tensor, t: int) -> Tensor:
            repeated = torch.cat([x] * len(contexts)).to(self.dtype, memory_format=self._layout)
            # a tensor, since compiled code would be made anew for every number; filled on the
            # device, which goes on
            timestep = torch.full((), t, dtype=torch.int64, device=self.device)
            predicted: Tensor = self.unet(repeated, timestep, together).sample.float()
            if guidance == 1:
                return predicted
            without, with_context = predicted.chunk(2)
            return without + guidance * (with_context - without)

        return predict
