"""What goes on inside a model while it denoises: latents and activations of U-Net blocks at chosen
steps.

Activations are narrowed as soon as a block has given them, so that those of one batch are all that
is ever held at full width (:mod:`phosphene.models.diffusion.configuration` says how wide they are).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.models.diffusion.configuration import LATENT
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.schedule import Sampler, ddim
from phosphene.seeds import rng

Rows = NDArray[np.float32]
Moment = tuple[str, int]
"""A place (:data:`LATENT` or a layer) and a step, counted from 1 among those that are made."""


@dataclass(frozen=True)
class Denoising:
    """How latents are noised and denoised again; see
    :meth:`phosphene.models.diffusion.model.LatentDiffusion.denoise`.
    """

    strength: float = 0.8
    steps: int = 50
    guidance: float = 5.0
    sampler: Sampler = "consistent"


def _blocks(model: LatentDiffusion) -> dict[str, Any]:
    downs = {f"down{k}": block for k, block in enumerate(model.unet.down_blocks)}
    ups = {f"up{k}": block for k, block in enumerate(model.unet.up_blocks)}
    return {**downs, "mid": model.unet.mid_block, **ups}


@torch.inference_mode()
def record(
    model: LatentDiffusion,
    z: Rows,
    c: Rows,
    seeds: Sequence[int],
    how: Denoising,
    wanted: Collection[Moment],
    keep: int,
) -> dict[Moment, Rows]:
    """Noise latents, denoise them with contexts, and note what was there at some moments.

    Parameters
    ----------
    model : LatentDiffusion
    z : ndarray of float32, shape (n, d)
        Latents at the model's own size; ``model.batch()`` rows at a time are what memory was
        measured for.
    c : ndarray of float32, shape (n, tokens * width)
    seeds : sequence of int
        One per picture, as ``LatentDiffusion.denoise`` takes them: equal seeds, equal noise.
    how : Denoising
    wanted : collection of (str, int)
        ``("latent", k)`` is the latent after step k, ``("mid", k)`` what that block gives in step k
        for the context (of the two halves of guidance the conditional one). Steps after the last
        one wanted are not made.
    keep : int
        Wider rows are narrowed to `keep` numbers (:func:`narrow`).

    Returns
    -------
    dict
        Moment -> ndarray of float32, shape (n, min(width, keep)).
    """
    n = len(z)
    schedule = model.schedule.of(how.sampler)
    # always as many rows, as in `denoise`: the last bits of sums depend on their number
    if model.device.type == "cpu":
        filled = np.arange(max(n, model.batch())).clip(max=n - 1)
        z = z[filled]
        c = c[filled]
        seeds = [seeds[k] for k in filled]
    shape = model.latent_shape()
    noise = model._noise(seeds, shape)
    start = schedule.begin(model._tensor(z, shape), noise, how.steps, how.strength)
    predict = model._guided(model._tensor(c, model.context_shape), how.guidance)
    found: dict[Moment, Rows] = {}
    wanted = set(wanted)
    step = 0

    def note(place: str, values: Tensor) -> None:
        if (place, step) in wanted:
            conditional = values[-len(z) :][:n]  # it comes last; a latent has no other half
            # a copy: what the network gave may be changed in place, and would be kept whole
            found[place, step] = narrow(conditional.flatten(1).float(), keep).cpu().numpy().copy()

    def watched(x: Tensor, t: int) -> Tensor:
        nonlocal step
        note(LATENT, x)  # the latent after a step is what the next one starts from
        if len(found) == len(wanted):
            raise _Enough
        step += 1
        return predict(x, t)

    with _watching(model, {place for place, _ in wanted} - {LATENT}, note):
        try:
            note(LATENT, ddim(watched, start, schedule, how.steps, how.strength))
        except _Enough:
            pass
    return found


class _Enough(Exception):
    """All that is wanted was seen; the sampler need not go on."""


@contextmanager
def _watching(
    model: LatentDiffusion, places: Collection[str], note: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Tell `note` what blocks of the U-Net give, as long as the block lasts."""

    def hook(
        place: str,
    ) -> Callable[[Any, Any, Any], None]:  # down blocks give their skip connections as well
        return lambda module, given, output: note(
            place, output[0] if isinstance(output, tuple) else output
        )

    blocks = _blocks(model)
    compiled = model.unet._compiled_call_impl
    model.unet._compiled_call_impl = None  # compiled code may have been made without these hooks
    handles = [blocks[place].register_forward_hook(hook(place)) for place in places]
    try:
        yield
    finally:
        model.unet._compiled_call_impl = compiled
        for handle in handles:
            handle.remove()


def narrow(values: Tensor, keep: int) -> Tensor:
    """Narrow rows to `keep` numbers whose dot products are, up to one factor, close to those of the
    whole rows.

    Every number is the sum of about d / keep numbers of the row with random signs, divided by
    sqrt(d / keep): a sparse random projection (Charikar et al. 2002, with buckets of equal size).
    The dot product of two rows a and b, times d / keep, is right on average and has a standard
    deviation of about ``|a| |b| / sqrt(keep)``: 0.4 % at 65,536. Draws depend on d and `keep`
    alone, so that all pictures, subjects and machines have the same.

    Parameters
    ----------
    values : Tensor of float32, shape (n, d)

    Returns
    -------
    Tensor, shape (n, min(d, keep))
        `values` themselves when they are not wider.
    """
    n, d = values.shape
    if d <= keep:
        return values
    order, signs = _draw(d, keep, str(values.device))
    # one by one: no second copy of a batch at full width
    rows = [(row.index_select(0, order) * signs).reshape(-1, keep).sum(0) for row in values]
    narrowed: Tensor = torch.stack(rows) * (keep / d) ** 0.5
    return narrowed


@lru_cache(maxsize=16)
def _draw(d: int, keep: int, device: str) -> tuple[Tensor, Tensor]:
    """Order in which numbers are dealt to sums, and their signs; 0 where they do not come out
    even.
    """
    draw = rng(0, "narrow", d, keep)
    padded = -(-d // keep) * keep
    order = np.zeros(padded, np.int32)
    signs = np.zeros(padded, np.float32)
    order[:d] = draw.permutation(d)
    signs[:d] = draw.choice(np.array([-1, 1], np.float32), d)
    return torch.from_numpy(order).to(device), torch.from_numpy(signs).to(device)
