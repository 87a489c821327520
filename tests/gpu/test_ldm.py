"""The diffusion model on a GPU: the contexts, latents and pictures of the CPU, within rounding.

Tolerances. On a GPU the text encoder and the autoencoder are float32 and the U-Net is float16. By
default PyTorch multiplies matrices in full float32, but lets cuDNN round the inputs of float32
convolutions to TF32 (10 bits of mantissa), which phosphene forbids in the autoencoder. Hence
contexts and latents agree to 1e-4. On the CPU a float16 U-Net changes pictures by 0.02 to 0.05 grey
levels on average and by 4 at most, a bfloat16 U-Net by 0.2 to 0.5 and 18 (bundled model, 5 to 50
steps); GREY_MEAN allows what bfloat16 does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from phosphene.models.diffusion.activations import Denoising, record
from phosphene.models.diffusion.configuration import Configuration
from phosphene.models.diffusion.encoders import CPU_PIXELS
from phosphene.models.diffusion.model import GPU_PIXELS_DENOISED, LatentDiffusion

CAPTIONS = [
    ["a red cat in the snow"],
    ["a blue boat on the sea"],
    ["a green car", "a car on a road"],
]
SEEDS = [1, 2, 3]
STEPS = 10
GREY_MEAN = 0.5
GREY_99_PERCENT = 4.0

Pictures = NDArray[np.uint8]
Rows = NDArray[np.float32]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def reference() -> LatentDiffusion:
    return LatentDiffusion.load("bundled", "cpu")


@pytest.fixture(scope="module")
def model(device: str) -> LatentDiffusion:
    return LatentDiffusion.load("bundled", device)


@pytest.fixture(scope="module")
def contexts(reference: LatentDiffusion) -> Rows:
    return reference.text_to_context(CAPTIONS)


@pytest.fixture(scope="module")
def pictures(reference: LatentDiffusion, contexts: Rows) -> Pictures:
    return reference.denoise(None, contexts, steps=STEPS, seeds=SEEDS)


@pytest.fixture(scope="module")
def latents(reference: LatentDiffusion, pictures: Pictures) -> Rows:
    return reference.image_to_latent(pictures)


def relative_error(values: Rows, reference: Rows) -> float:
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))


def assert_similar(pictures: Pictures, reference: Pictures, record_property: Record) -> None:
    difference = np.abs(pictures.astype(int) - reference.astype(int))
    record_property("grey_mean", float(difference.mean()))
    record_property("grey_max", int(difference.max()))
    assert pictures.dtype == np.uint8
    assert pictures.shape == reference.shape
    assert difference.mean() <= GREY_MEAN
    assert np.percentile(difference, 99) <= GREY_99_PERCENT


def test_precision_of_the_nets(model: LatentDiffusion, device: str) -> None:
    is_gpu = model.device.type == "cuda"
    assert str(model.device).startswith(device)
    assert model.dtype == (torch.float16 if is_gpu else torch.float32)
    assert model.vae.dtype == model.text.dtype == torch.float32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_text_to_context(model: LatentDiffusion, contexts: Rows, record_property: Record) -> None:
    error = relative_error(model.text_to_context(CAPTIONS), contexts)
    record_property("relative_error", error)
    assert error < 1e-4


def test_image_to_latent(
    model: LatentDiffusion, pictures: Pictures, latents: Rows, record_property: Record
) -> None:
    error = relative_error(model.image_to_latent(pictures), latents)
    record_property("relative_error", error)
    assert error < 1e-4


def test_samples_of_the_posterior(
    reference: LatentDiffusion, model: LatentDiffusion, pictures: Pictures
) -> None:
    expected = reference.image_to_latent(pictures, sample_seeds=SEEDS)
    assert relative_error(model.image_to_latent(pictures, sample_seeds=SEEDS), expected) < 1e-4


def test_latent_to_image(
    reference: LatentDiffusion, model: LatentDiffusion, latents: Rows, record_property: Record
) -> None:
    assert_similar(
        model.latent_to_image(latents), reference.latent_to_image(latents), record_property
    )


def test_denoise_from_noise(
    model: LatentDiffusion, contexts: Rows, pictures: Pictures, record_property: Record
) -> None:
    assert_similar(
        model.denoise(None, contexts, steps=STEPS, seeds=SEEDS), pictures, record_property
    )


@pytest.mark.parametrize("sampler", ["consistent", "paper"])
def test_denoise_from_latents(
    reference: LatentDiffusion,
    model: LatentDiffusion,
    latents: Rows,
    contexts: Rows,
    sampler: str,
    record_property: Record,
) -> None:
    expected = reference.denoise(latents, contexts, steps=STEPS, seeds=SEEDS, sampler=sampler)
    denoised = model.denoise(latents, contexts, steps=STEPS, seeds=SEEDS, sampler=sampler)
    assert_similar(denoised, expected, record_property)


def test_denoise_later_keeps_batches_apart(
    model: LatentDiffusion, latents: Rows, contexts: Rows, record_property: Record
) -> None:
    """Both batches are started before either is fetched, as in the stage reconstruct."""
    waiting = [
        model.denoise_later(latents, contexts, steps=STEPS, seeds=SEEDS),
        model.denoise_later(latents, contexts, steps=STEPS, seeds=SEEDS[::-1]),
    ]
    second = waiting[1]()
    first = waiting[0]()
    expected = model.denoise(latents, contexts, steps=STEPS, seeds=SEEDS)
    record_property("identical", bool(np.array_equal(first, expected)))
    assert_similar(first, expected, record_property)
    assert not np.array_equal(first, second)


def test_a_picture_does_not_depend_on_its_batch(
    model: LatentDiffusion, latents: Rows, contexts: Rows, record_property: Record
) -> None:
    together = model.denoise(latents, contexts, steps=STEPS, seeds=SEEDS)
    alone = model.denoise(latents[1:2], contexts[1:2], steps=STEPS, seeds=SEEDS[1:2])
    assert_similar(alone, together[1:2], record_property)


def test_automatic_batch(model: LatentDiffusion, contexts: Rows, record_property: Record) -> None:
    """The batch that is chosen fits in memory and gives the pictures of a small batch."""
    is_gpu = model.device.type == "cuda"
    pixels = int(np.prod(model.latent_shape()[1:]))
    n = model.batch()
    record_property("batch", n)
    assert 1 <= n <= (GPU_PIXELS_DENOISED if is_gpu else CPU_PIXELS) // pixels
    assert model.batch(3) == (3 if is_gpu else n)
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(model.device)
    denoised = model.denoise(None, np.repeat(contexts[:1], n, axis=0), steps=2, seeds=range(n))
    if is_gpu:
        record_property("peak_mib", torch.cuda.max_memory_allocated(model.device) / 2**20)
    few = model.denoise(None, np.repeat(contexts[:1], 2, axis=0), steps=2, seeds=range(2))
    assert_similar(denoised[:2], few, record_property)


def test_activations(
    reference: LatentDiffusion,
    model: LatentDiffusion,
    latents: Rows,
    contexts: Rows,
    record_property: Record,
) -> None:
    """float16 changes activations by 1e-3 of their norm, bfloat16 by 8e-3 (measured on the CPU)."""
    moments = [(name, 2) for name in Configuration.of("bundled").widths]
    how = Denoising(steps=STEPS)
    expected = record(reference, latents, contexts, SEEDS, how, moments, keep=1000)
    recorded = record(model, latents, contexts, SEEDS, how, moments, keep=1000)
    errors = {moment: relative_error(recorded[moment], expected[moment]) for moment in moments}
    record_property("largest_relative_error", max(errors.values()))
    assert max(errors.values()) < 8e-3
