"""A frozen latent diffusion model: photographs to z, captions to c, and (z, c) back to pictures.

The same code drives the small model that ships with the package and Stable Diffusion 1.4, because both are the same
diffusers and transformers classes. Latents and contexts go in and out as plain rows, float32 (n, d).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.ldm.sampling import NoiseSchedule, ddim

BUNDLED = Path(__file__).parent / "bundled"
PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")

Rows = NDArray[np.float32]
Pictures = NDArray[np.uint8]


def resize(pictures: Pictures, side: int, how: Image.Resampling = Image.Resampling.LANCZOS) -> Pictures:
    """Resize pictures, uint8 (n, height, width, 3), to squares of `side` pixels."""
    if pictures.shape[1:3] == (side, side):
        return pictures
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), how)) for p in pictures])


def _source(name: str | Path) -> Path:
    folder = BUNDLED if str(name) == "bundled" else Path(name).expanduser()
    if not folder.is_dir():
        raise PhospheneError(
            f"model.name: found no folder {str(folder)!r}, expected 'bundled' or a folder in diffusers' format; "
            "check the path."
        )
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise PhospheneError(
            f"{folder}: lacks {', '.join(part + '/' for part in missing)}, expected a diffusers model folder with "
            f"{', '.join(PARTS)}; point model.name at such a folder."
        )
    return folder


class LatentDiffusion:
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

    def __init__(self, vae: Any, unet: Any, text: Any, tokenizer: Any, schedule: NoiseSchedule) -> None:
        self.vae, self.unet, self.text, self.tokenizer, self.schedule = vae, unet, text, tokenizer, schedule
        self.device, self.dtype = unet.device, unet.dtype
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.size: int = unet.config.sample_size * self.factor
        self.context_shape: tuple[int, int] = (text.config.max_position_embeddings, text.config.hidden_size)

    @classmethod
    def load(cls, name: str | Path = "bundled", device: str = "auto") -> LatentDiffusion:
        """Load a model.

        Parameters
        ----------
        name : str or Path
            "bundled", or a folder in diffusers' format (vae/, unet/, text_encoder/, tokenizer/, scheduler/).
        device : str
            "auto" takes a GPU when there is one; else any torch device. On a GPU weights are float16.

        Raises
        ------
        PhospheneError
            When the folder is missing or incomplete.
        """
        folder = _source(name)
        where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            return cls(*_nets(folder, where))
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            raise PhospheneError(
                f"{folder}: could not be loaded on device {where!r} ({str(error).splitlines()[0]}); "
                "check the folder's files and --device."
            ) from error

    def latent_shape(self, size: int = 0) -> tuple[int, int, int]:
        """Shape (channels, height, width) of the latent of a picture of side `size` (0: the model's own)."""
        side = (size or self.size) // self.factor
        return self.vae.config.latent_channels, side, side

    def _tensor(self, rows: Rows, shape: tuple[int, ...]) -> Tensor:
        return (
            torch.from_numpy(np.ascontiguousarray(rows, np.float32))
            .reshape(len(rows), *shape)
            .to(self.device, self.dtype)
        )

    def _grid(self, z: Rows) -> tuple[int, int, int]:
        channels = int(self.vae.config.latent_channels)
        side = round((z.shape[1] / channels) ** 0.5)
        if channels * side * side != z.shape[1]:
            raise PhospheneError(
                f"latents: found rows of {z.shape[1]} numbers, expected {channels} x side x side for this model."
            )
        return channels, side, side

    @torch.inference_mode()
    def image_to_latent(self, images: Pictures, size: int = 0) -> Rows:
        """Encode photographs.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, height, width, 3)
            Resized (Lanczos) to `size` pixels first; 0 means the model's own side.

        Returns
        -------
        ndarray of float32, shape (n, d)
            Posterior means, scaled by the model's scaling factor (paper, section B: d = 6,400 at 320 pixels).
        """
        pixels = torch.from_numpy(resize(images, size or self.size).copy()).permute(0, 3, 1, 2)
        x = (pixels.to(self.device, self.dtype) / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        z = self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor
        rows: Rows = z.flatten(1).float().cpu().numpy()
        return rows

    @torch.inference_mode()
    def latent_to_image(self, z: Rows) -> Pictures:
        """Decode latents, float32 (n, d), to pictures, uint8 (n, height, width, 3)."""
        return self._pictures(self._tensor(z, self._grid(z)))

    def _pictures(self, latents: Tensor) -> Pictures:
        x = self.vae.decode(
            latents.contiguous(memory_format=torch.channels_last) / self.vae.config.scaling_factor
        ).sample
        pixels = ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        pictures: Pictures = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return pictures

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
        """
        flat = [caption for group in captions for caption in group]
        ids = self.tokenizer(
            flat, padding="max_length", max_length=self.context_shape[0], truncation=True, return_tensors="pt"
        )
        states = self.text(ids.input_ids.to(self.device)).last_hidden_state.float()
        return torch.stack([g.mean(0) for g in states.split([len(c) for c in captions])]).flatten(1).cpu().numpy()

    @cached_property
    def empty_context(self) -> Tensor:
        """The context of the empty prompt, (1, tokens, width): what guidance steers away from."""
        return self._tensor(self.text_to_context([[""]]), self.context_shape)

    @torch.inference_mode()
    def denoise(self, z: Rows | None, c: Rows, *, strength: float = 0.8, steps: int = 50, guidance: float = 5.0,
                seeds: Sequence[int]) -> Pictures:  # fmt: skip
        """Turn latents and contexts into pictures (paper, section C, steps 2 and 3).

        Parameters
        ----------
        z : ndarray of float32, shape (n, d), or None
            Latents at the model's own size; None starts from pure noise (mode ``c``).
        c : ndarray of float32, shape (n, tokens * width)
        strength : float
            Share of the `steps` that are noised and denoised again; ignored when `z` is None.
        guidance : float
            Weight of the context against the empty prompt (classifier-free guidance).
        seeds : sequence of int
            One per picture; a picture depends on its own seed alone, not on its neighbours in the batch.

        Returns
        -------
        ndarray of uint8, shape (n, size, size, 3)
        """
        shape = self.latent_shape()
        noise = self._tensor(
            np.stack([np.random.default_rng(s).standard_normal(shape, np.float32) for s in seeds]), shape
        )
        share = 1.0 if z is None else strength
        visited = self.schedule.timesteps(steps, share)
        x = noise if z is None else self._tensor(z, shape)
        if z is not None and visited:
            x = self.schedule.add_noise(x, noise, visited[0])
        return self._pictures(
            ddim(self._guided(self._tensor(c, self.context_shape), guidance), x, self.schedule, steps, share)
        )

    def _guided(self, context: Tensor, guidance: float) -> Callable[[Tensor, int], Tensor]:
        """Predict noise with and without the context in one call, and step past the difference."""
        both = torch.cat([self.empty_context.expand_as(context), context])

        def predict(x: Tensor, t: int) -> Tensor:
            twice = torch.cat([x, x]).contiguous(memory_format=torch.channels_last)
            without, with_context = self.unet(twice, t, both).sample.chunk(2)
            guided: Tensor = without + guidance * (with_context - without)
            return guided

        return predict


def _nets(folder: Path, device: str) -> tuple[Any, Any, Any, Any, NoiseSchedule]:
    """Load the parts of a model: autoencoder, U-Net, text encoder, tokenizer, noise schedule."""
    import diffusers
    import transformers

    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    kinds: tuple[tuple[Any, str], ...] = (
        (diffusers.AutoencoderKL, "vae"),
        (diffusers.UNet2DConditionModel, "unet"),
        (transformers.CLIPTextModel, "text_encoder"),
    )
    with _quiet():
        vae, unet, text = (
            kind.from_pretrained(folder / part, local_files_only=True, use_safetensors=True)
            .to(device=device, dtype=dtype)
            .eval()
            .requires_grad_(False)
            for kind, part in kinds
        )
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    schedule = NoiseSchedule.from_config(json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))
    fast = torch.channels_last
    return vae.to(memory_format=fast), unet.to(memory_format=fast), text, tokenizer, schedule


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' loading chatter off a user's screen."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loggings = (diffusers.utils.logging, transformers.utils.logging)
    before = [log.get_verbosity() for log in loggings]
    for log in loggings:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, level in zip(loggings, before, strict=True):
            log.set_verbosity(level)


def fingerprint(name: str | Path) -> str:
    """Identify a model's files, wherever they lie."""
    folder = _source(name)
    return disk.fingerprint("model", folder, (file for part in PARTS for file in (folder / part).rglob("*")))
