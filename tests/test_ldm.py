"""The latent diffusion model: sampling against diffusers' own scheduler, invariances, and refusals."""

import json

import numpy as np
import pytest
import torch

from phosphene import ldm
from phosphene.errors import PhospheneError
from phosphene.ldm.sampling import NoiseSchedule, ddim


@pytest.fixture(scope="session")
def model():
    return ldm.LatentDiffusion.load("bundled", "cpu")


@pytest.fixture(scope="session")
def scheduler():
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_pretrained(ldm.BUNDLED / "scheduler")


@pytest.fixture(scope="session")
def schedule():
    return NoiseSchedule.from_config(json.loads((ldm.BUNDLED / "scheduler/scheduler_config.json").read_text()))


def photographs(n: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def test_timesteps_are_those_of_stable_diffusion(schedule):
    assert schedule.timesteps(50)[:2] == [981, 961] and schedule.timesteps(50)[-1] == 1
    assert schedule.timesteps(50, 0.8)[0] == 781 and len(schedule.timesteps(50, 0.8)) == 40
    assert schedule.timesteps(50, 0.0) == []


@pytest.mark.parametrize("steps", [50, 20, 7])
def test_timesteps_equal_diffusers(schedule, scheduler, steps):
    scheduler.set_timesteps(steps)
    assert schedule.timesteps(steps) == scheduler.timesteps.tolist()


def test_noise_is_added_as_diffusers_does(schedule, scheduler):
    x, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    for t in (1, 381, 781, 981):
        torch.testing.assert_close(schedule.add_noise(x, noise, t), scheduler.add_noise(x, noise, torch.tensor([t])))


def test_ddim_equals_the_scheduler_of_diffusers(schedule, scheduler):
    """A made-up noise predictor, so that only the sampler is compared; float64, so that rounding cannot hide a slip."""

    def predict(x, t):
        return torch.sin(3 * x) + 0.001 * t * x

    start = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = ddim(predict, start, schedule, 50, 0.8)
    scheduler.set_timesteps(50)
    x = start
    for t in scheduler.timesteps[10:]:
        x = scheduler.step(predict(x, int(t)), t, x, eta=0.0).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-6)


def test_denoising_equals_a_loop_written_with_diffusers(model, scheduler):
    z = model.image_to_latent(photographs(2))
    c = model.text_to_context([["a red cat in the snow"], ["a blue house on the beach"]])
    ours = model.denoise(z, c, strength=0.5, steps=10, guidance=3.0, seeds=[5, 6])

    scheduler.set_timesteps(10)
    noise = np.stack([np.random.default_rng(s).standard_normal(model.latent_shape(), np.float32) for s in (5, 6)])
    visited = scheduler.timesteps[5:]
    shape = (2, *model.latent_shape())
    x = scheduler.add_noise(torch.from_numpy(z).reshape(shape), torch.from_numpy(noise), visited[:1])
    length = model.context_shape[0]
    tokens = model.tokenizer([""], padding="max_length", max_length=length, return_tensors="pt").input_ids
    with torch.inference_mode():
        empty = model.text(tokens).last_hidden_state.expand(2, -1, -1)
        context = torch.from_numpy(c).reshape(2, *model.context_shape)
        for t in visited:
            without, given = model.unet(x, t, empty).sample, model.unet(x, t, context).sample
            x = scheduler.step(without + 3.0 * (given - without), t, x).prev_sample
        pixels = model.vae.decode(x / model.vae.config.scaling_factor).sample
    theirs = ((pixels.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(theirs - ours).max() <= 1


def test_a_picture_does_not_depend_on_its_batch(model):
    z = model.image_to_latent(photographs(3))
    c = model.text_to_context([["a red cat"], ["a blue house"], ["a cup"]])
    together = model.denoise(z, c, steps=5, seeds=[1, 2, 3]).astype(int)
    alone = [model.denoise(z[k : k + 1], c[k : k + 1], steps=5, seeds=[k + 1])[0] for k in range(3)]
    assert np.abs(together - np.stack(alone)).max() <= 1  # the last bit of float sums may round a grey level
    other = model.denoise(z[:1], c[:1], steps=5, seeds=[9])[0].astype(int)
    assert np.abs(other - together[0]).max() > 5


def test_no_noise_gives_the_autoencoder_back(model):
    z = model.image_to_latent(photographs(1))
    c = model.text_to_context([["a cup"]])
    assert np.array_equal(model.denoise(z, c, strength=0.0, seeds=[0]), model.latent_to_image(z))


def test_latents_and_contexts_are_rows(model):
    assert model.image_to_latent(photographs(2, 80)).shape == (2, int(np.prod(model.latent_shape())))
    assert model.image_to_latent(photographs(1), 32).shape == (1, int(np.prod(model.latent_shape(32))))
    two = model.text_to_context([["a cat", "a house"], ["a cat"]])
    one = model.text_to_context([["a house"]])
    assert two.dtype == np.float32 and two.shape == (2, int(np.prod(model.context_shape)))
    np.testing.assert_allclose(two[0], (two[1] + one[0]) / 2, atol=1e-5)


def test_wrong_models_are_refused(tmp_path, model):
    with pytest.raises(PhospheneError, match="found no folder"):
        ldm.LatentDiffusion.load(tmp_path / "nowhere")
    (tmp_path / "vae").mkdir()
    with pytest.raises(PhospheneError, match="lacks unet/, text_encoder/"):
        ldm.LatentDiffusion.load(tmp_path)
    with pytest.raises(PhospheneError, match="rows of 7 numbers"):
        model.latent_to_image(np.zeros((1, 7), np.float32))
    with pytest.raises(PhospheneError, match="scaled_linear"):
        NoiseSchedule.from_config({"beta_schedule": "linear", "prediction_type": "epsilon"})


def test_a_fingerprint_follows_the_files(tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(ldm.BUNDLED, copy)
    assert ldm.fingerprint(copy) == ldm.fingerprint("bundled")
    with (copy / "tokenizer/merges.txt").open("a") as file:
        file.write("x y\n")
    assert ldm.fingerprint(copy) != ldm.fingerprint("bundled")
