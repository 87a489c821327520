"""Images to latents and back, captions to contexts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.models.diffusion.batching import (
    checked_finite,
    full_precision,
    in_blocks,
    not_finite,
)
from phosphene.models.diffusion.schedule import Sampler
from phosphene.models.preparing import resize

Rows = NDArray[np.float32]
Pictures = NDArray[np.uint8]


# Latent pixels and captions that go through a network together: on a CPU part of the results' bits,
# so no settings.
CPU_PIXELS = 2048
CAPTIONS = 8
# Of the autoencoder on a GPU.
GPU_PIXELS = 2 * 64 * 64


class Encoders:
    """The parts around the U-Net: images to latents and back, captions to contexts.

    Attributes
    ----------
    size : int
        Side of the pictures of the model, in pixels.
    context_shape : tuple of int
        (tokens, width) of a text context; Stable Diffusion 1.4: (77, 768).
    """

    def __init__(self, vae: Any, text: Any, tokenizer: Any, device: Any, latent_side: int) -> None:
        # Only the U-Net, where the time goes, may be of half precision: the autoencoders of some
        # models overflow in it, and z and c are what regressions aim at.
        self.device = device
        # the faster one; group norms of PyTorch rearrange channels_last on a GPU
        self._layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        self.vae = vae.float().to(memory_format=self._layout)
        self.text = text.float()
        self.tokenizer = tokenizer
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.size: int = latent_side * self.factor
        self.context_shape: tuple[int, int] = (
            text.config.max_position_embeddings,
            text.config.hidden_size,
        )

    def latent_shape(self, size: int = 0) -> tuple[int, int, int]:
        """Shape (channels, height, width) of the latent of a picture of side `size` (0: the model's
        own).
        """
        side = (size or self.size) // self.factor
        return self.vae.config.latent_channels, side, side

    def _block(self, shape: tuple[int, ...]) -> int:
        """Count the pictures, with latents of this shape, that always go through a network
        together.

        Memory is bounded so, and on a CPU results are equal bit by bit whatever the batch.
        """
        pixels = CPU_PIXELS if self.device.type == "cpu" else GPU_PIXELS
        return max(1, pixels // (shape[1] * shape[2]))

    def _tensor(self, rows: Rows, shape: tuple[int, ...]) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(rows, np.float32)).reshape(len(rows), *shape)
        # pinned, so that what is sent to a GPU need not wait for what it does
        return (
            values
            if self.device.type == "cpu"
            else values.pin_memory().to(self.device, non_blocking=True)
        )

    def _noise(self, seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
        """Draw noise, a seed for each picture, on the CPU: neither batch nor device changes it."""
        return self._tensor(
            np.stack(
                [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds]
            ),
            shape,
        )

    def _grid(self, z: Rows) -> tuple[int, int, int]:
        channels = int(self.vae.config.latent_channels)
        side = round((z.shape[1] / channels) ** 0.5)
        if channels * side * side != z.shape[1]:
            raise PhospheneError(
                f"latents: found rows of {z.shape[1]} numbers, expected {channels} x side x side "
                "for this model."
            )
        return channels, side, side

    @torch.inference_mode()
    def image_to_latent(
        self, images: Pictures, size: int = 0, sample_seeds: Sequence[int] | None = None
    ) -> Rows:
        """Encode photographs.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, height, width, 3)
            Resized (Lanczos) to `size` pixels first; 0 means the model's own side.
        sample_seeds : sequence of int, optional
            One for each image: a sample of the posterior, as in the paper's released code, in place
            of its mean.

        Returns
        -------
        ndarray of float32, shape (n, d)
            Posterior means, scaled by the model's scaling factor (paper, section B: d = 6,400 at
            320 pixels).
        """
        shape = self.latent_shape(size)
        pixels = torch.from_numpy(resize(images, size or self.size).copy()).to(self.device)
        z, deviation = in_blocks(self._moments, self._block(shape), pixels).chunk(2, dim=1)
        if sample_seeds is not None:
            z = z + deviation * self._noise(sample_seeds, shape)
        rows: Rows = (z * self.vae.config.scaling_factor).flatten(1).cpu().numpy()
        return checked_finite(rows, "the autoencoder gave latents")

    def _moments(self, pixels: Tensor) -> Tensor:
        x = (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=self._layout)
        with full_precision():
            posterior = self.vae.encode(x).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    @torch.inference_mode()
    def latent_to_image(self, z: Rows, sampler: Sampler = "consistent") -> Pictures:
        """Decode latents, float32 (n, d), to pictures, uint8 (n, height, width, 3).

        Grey levels are rounded to the nearest; with `sampler` "paper" down, as in the released
        code.
        """
        checked_finite(z, "found latents", "compute them again")
        return self._pictures(self._tensor(z, self._grid(z)), sampler)()

    def _pictures(self, latents: Tensor, sampler: Sampler) -> Callable[[], Pictures]:
        """Decode latents; what is returned waits for the pictures, so that a GPU can go on
        meanwhile.
        """
        finite = torch.ones((), dtype=torch.bool, device=self.device)

        def whole(some: Tensor) -> Tensor:
            decoded = self._decoded(some)
            finite.logical_and_(decoded.isfinite().all())  # NaN would become black
            grey = (decoded.clamp(-1, 1) + 1) * 127.5
            return (
                (grey if sampler == "paper" else grey.round()).to(torch.uint8).permute(0, 2, 3, 1)
            )

        pictures = in_blocks(whole, self._block(tuple(latents.shape[1:])), latents)

        def wait() -> Pictures:
            if not finite:
                checked_finite(latents.cpu().numpy(), "the U-Net gave latents")
                raise not_finite("the autoencoder gave pictures")
            shown: Pictures = pictures.cpu().numpy()
            return shown

        return wait

    def _decoded(self, latents: Tensor) -> Tensor:
        """Decode latents to pictures of -1 to 1."""
        x = latents.contiguous(memory_format=self._layout) / self.vae.config.scaling_factor
        decoded: Tensor = self.vae.decode(
            x
        ).sample  # TF32 on a GPU: what it changes is far below a grey level
        return decoded

    @torch.inference_mode()
    def text_to_context(self, captions: Sequence[Sequence[str]]) -> Rows:
        """Encode captions.

        Parameters
        ----------
        captions : sequence of sequence of str
            For each image its captions; their contexts are averaged (paper, section B).

        Returns
        -------
        ndarray of float32, shape (n, tokens * width)
            The text encoder's last hidden state, after its final layer norm.

        Raises
        ------
        PhospheneError
            When an image has no caption, or a text in place of a list of them.

        Warns
        -----
        UserWarning
            How many captions are longer than the encoder's window, which ignores their ends.
        """
        for k, group in enumerate(captions):
            if isinstance(group, str) or not len(group):
                raise PhospheneError(
                    f"captions: found {group!r} for image {k}, expected a list of one or more "
                    "sentences, such as "
                    '["a red cat"].'
                )
        flat = [caption for group in captions for caption in group]
        longer = sum(len(ids) > self.context_shape[0] for ids in self.token_ids(flat))
        if longer:
            warnings.warn(
                f"{longer} of {len(flat)} captions are longer than the {self.context_shape[0]} "
                "tokens that the text "
                "encoder of this model reads; what is beyond is ignored.",
                stacklevel=3,  # the call under torch's inference mode
            )
        ids = self.tokenizer(
            flat,
            padding="max_length",
            max_length=self.context_shape[0],
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(self.device)
        states = in_blocks(lambda some: self.text(some).last_hidden_state, CAPTIONS, ids)
        groups = torch.split(states, [len(c) for c in captions])
        rows: Rows = torch.stack([group.mean(0) for group in groups]).flatten(1).cpu().numpy()
        return checked_finite(rows, "the text encoder gave contexts")

    def token_ids(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of captions, with those of beginning and end, however many there are."""
        if not captions:
            return []
        ids: list[list[int]] = self.tokenizer(list(captions), verbose=False).input_ids
        return ids

    @cached_property
    def empty_context(self) -> Tensor:
        """The context of the empty prompt, (1, tokens, width): what guidance steers away from."""
        return self._tensor(self.text_to_context([[""]]), self.context_shape)
