"""Sampling against diffusers' pipeline and scheduler, and against the paper's released code written
out in float64.
"""

import copy
import json

import numpy as np
import pytest
import torch

from phosphene.errors import PhospheneError
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.schedule import NoiseSchedule, ddim
from phosphene.models.diffusion.sources import BUNDLED
from phosphene.seeds import rng
from phosphene.steps.noise import latent_seeds
from phosphene.steps.reconstruct import Reconstruct, _sample
from phosphene.study import Compute, Study

# that of Stable Diffusion 1.4
CONFIG = json.loads((BUNDLED / "scheduler/scheduler_config.json").read_text())
CONFIGS = {
    "1.x": CONFIG,
    "2.x": CONFIG | {"prediction_type": "v_prediction"},
    "linear": CONFIG | {"beta_schedule": "linear"},
    "to one": CONFIG | {"set_alpha_to_one": True, "steps_offset": 0},
}
PROMPTS = ["a red cat in the snow", "a blue house on the beach", "a cup"]


@pytest.fixture(scope="module")
def bundled():
    return LatentDiffusion.load("bundled", "cpu")


@pytest.fixture(scope="module", params=["1.x", "2.x"])
def small(request):
    """A small model of the kind of Stable Diffusion 1.x or 2.x, random weights, and the pipeline of
    diffusers.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionImg2ImgPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    second = request.param == "2.x"
    width = 48 if second else 32
    heads = (
        {"attention_head_dim": (2, 4), "use_linear_projection": True}
        if second
        else {"attention_head_dim": 4}
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=width,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **heads,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=16,
    )
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED / "tokenizer", local_files_only=True)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=821,
            hidden_size=width,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=24,
            hidden_act="gelu" if second else "quick_gelu",
            bos_token_id=819,
            eos_token_id=820,
            pad_token_id=820,
        )
    )
    vae, unet, text = (net.eval().requires_grad_(False) for net in (vae, unet, text))
    scheduler = DDIMScheduler.from_config(CONFIGS[request.param])
    pipe = StableDiffusionImg2ImgPipeline(
        vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    schedule = NoiseSchedule.from_config(CONFIGS[request.param])
    nets = (copy.deepcopy(net) for net in (vae, unet, text))  # ours are laid out channels last
    return LatentDiffusion(*nets, tokenizer, schedule), pipe


@pytest.mark.parametrize(("steps", "strength"), [(50, 0.8), (7, 0.5)])
def test_pictures_equal_the_pipeline_of_diffusers(small, monkeypatch, steps, strength):
    model, pipe = small
    shape = model.latent_shape()
    seeds = [3, 4, 5]
    noise = np.stack([np.random.default_rng(s).standard_normal(shape, np.float32) for s in seeds])
    z = np.random.default_rng(0).standard_normal((3, int(np.prod(shape))), np.float32)
    place = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor"
    monkeypatch.setattr(place, lambda *_, **__: torch.from_numpy(noise))
    latents = []

    def see(pipe, step, timestep, given):
        latents.append(given["latents"])
        return {}

    decoded = pipe(
        PROMPTS,
        image=torch.from_numpy(z).reshape(3, *shape),
        strength=strength,
        num_inference_steps=steps,
        guidance_scale=5.0,
        callback_on_step_end=see,
        output_type="pt",
    ).images

    c = model.text_to_context([[prompt] for prompt in PROMPTS])
    ours = model._sampled(z, c, strength, steps, 5.0, seeds, "consistent")
    assert len(latents) == int(steps * strength)
    torch.testing.assert_close(ours, latents[-1], rtol=0, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(
            (model._decoded(ours) / 2 + 0.5).clamp(0, 1), decoded, rtol=0, atol=1e-4
        )
    assert decoded.std() > 0.05  # neither black nor white all over
    if steps < 50:
        pictures = model.denoise(z, c, strength=strength, steps=steps, guidance=5.0, seeds=seeds)
        assert (
            np.abs(pictures / 255 - decoded.permute(0, 2, 3, 1).numpy()).max() <= 0.5 / 255 + 1e-4
        )


def test_prompts_from_noise_equal_the_pipeline_of_diffusers(small):
    """Mode `text`: contexts of prompts in place of decoded ones, without z."""
    from diffusers import StableDiffusionPipeline

    model, pipe = small
    parts = pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler
    generate = StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
    generate.set_progress_bar_config(disable=True)
    noise = np.stack(
        [
            np.random.default_rng(s).standard_normal(model.latent_shape(), np.float32)
            for s in range(3)
        ]
    )
    theirs = generate(
        PROMPTS,
        latents=torch.from_numpy(noise),
        num_inference_steps=10,
        guidance_scale=5.0,
        height=16,
        width=16,
        output_type="np",
    ).images
    ours = model.denoise(
        None, model.text_to_context([[p] for p in PROMPTS]), steps=10, seeds=range(3)
    )
    assert np.abs(ours / 255 - theirs).max() <= 0.5 / 255 + 1e-4


def scheduler(name):
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(CONFIGS[name])


def made_up(x, t):
    """What a network could say, so that only the sampler is compared; float64, so that rounding
    cannot hide a slip.
    """
    return torch.sin(3 * x) + 0.001 * t * x


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("steps", "strength"), [(50, 0.8), (7, 1.0)])
def test_ddim_equals_the_scheduler_of_diffusers(name, steps, strength):
    theirs = scheduler(name)
    ours = NoiseSchedule.from_config(CONFIGS[name])
    start = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theirs.set_timesteps(steps)
    x = start
    visited = theirs.timesteps[steps - int(steps * strength) :]
    assert ours.timesteps(steps, strength) == visited.tolist()
    for t in visited:
        x = theirs.step(made_up(x, int(t)), t, x, eta=0.0).prev_sample
    torch.testing.assert_close(ddim(made_up, start, ours, steps, strength), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_noise_is_added_as_diffusers_does(name):
    x, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = NoiseSchedule.from_config(CONFIGS[name])
    for t in (1, 381, 781, 981):
        torch.testing.assert_close(
            ours.add_noise(x, noise, t), scheduler(name).add_noise(x, noise, torch.tensor([t]))
        )
    first = ours.timesteps(50, 0.8)[0]
    assert torch.equal(ours.begin(x, noise, 50, 0.8), ours.add_noise(x, noise, first))


def test_timesteps_are_those_of_stable_diffusion():
    schedule = NoiseSchedule.from_config(CONFIG)
    assert schedule.timesteps(50)[:2] == [981, 961] and schedule.timesteps(50)[-1] == 1
    assert schedule.timesteps(50, 0.8)[0] == 781 and len(schedule.timesteps(50, 0.8)) == 40
    assert schedule.timesteps(50, 0.0) == []


def released(predict, x0, noise, t_enc=40):
    """The released code's sampler from the formulas of DDIM (Song et al. 2021, eta 0), all in
    float64.

    Timesteps 1, 21, ..., 981; noise with the alpha of index 40; steps from index 39 down; the alpha
    before the step of index 0 is that of timestep 0 (paper, section C).
    """
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    cumulative = np.cumprod(1.0 - betas)
    timesteps = np.arange(0, 1000, 20) + 1
    alphas = cumulative[timesteps]
    alphas_before = np.append(cumulative[0], cumulative[timesteps[:-1]])
    x = np.sqrt(alphas[t_enc]) * x0 + np.sqrt(1.0 - alphas[t_enc]) * noise
    for index in reversed(range(t_enc)):
        e = predict(x, timesteps[index])
        clean = (x - np.sqrt(1.0 - alphas[index]) * e) / np.sqrt(alphas[index])
        x = np.sqrt(alphas_before[index]) * clean + np.sqrt(1.0 - alphas_before[index]) * e
    return x


@pytest.mark.parametrize("name", ["1.x", "to one"])
def test_sampler_paper_equals_the_released_code(name):
    x0, noise = torch.randn(
        2, 2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    schedule = NoiseSchedule.from_config(CONFIGS[name]).of("paper")
    ours = ddim(made_up, schedule.begin(x0, noise, 50, 0.8), schedule, 50, 0.8)
    theirs = torch.from_numpy(
        released(
            lambda x, t: made_up(torch.from_numpy(x), int(t)).numpy(), x0.numpy(), noise.numpy()
        )
    )
    # our betas are float32, as those of diffusers
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    consistent = NoiseSchedule.from_config(CONFIGS[name])
    other = ddim(made_up, consistent.begin(x0, noise, 50, 0.8), consistent, 50, 0.8)
    assert (other - theirs).abs().max() > 1e-2  # the step of difference is seen


def test_pictures_of_sampler_paper_equal_the_released_code(bundled):
    """All of it with the bundled model in float64, pictures cut to 8 bits as the released code
    does.
    """
    z = bundled.image_to_latent(
        np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    )
    c = bundled.text_to_context([PROMPTS[:1]])
    unet = copy.deepcopy(bundled.unet).double()
    vae = copy.deepcopy(bundled.vae).double()
    both = torch.cat(
        [
            bundled.empty_context.double(),
            torch.from_numpy(c).double().reshape(1, *bundled.context_shape),
        ]
    )

    def predict(x, t):
        one = torch.from_numpy(x)
        without, given = unet(torch.cat([one, one]), int(t), both).sample.chunk(2)
        return (without + 5.0 * (given - without)).numpy()

    noise = np.random.default_rng(7).standard_normal((1, *bundled.latent_shape()), np.float32)
    with torch.inference_mode():
        x = released(predict, z.reshape(noise.shape).astype(float), noise.astype(float))
        pixels = vae.decode(torch.from_numpy(x) / vae.config.scaling_factor).sample
    theirs = (
        (255.0 * ((pixels + 1) / 2).clamp(0, 1))
        .permute(0, 2, 3, 1)
        .numpy()
        .astype(np.uint8)
        .astype(int)
    )
    ours = bundled.denoise(
        z, c, strength=0.8, steps=50, guidance=5.0, seeds=[7], sampler="paper"
    ).astype(int)
    assert np.abs(ours - theirs).max() <= 1 and (ours == theirs).mean() > 0.99


def test_sampler_paper_needs_a_step_before_the_first():
    schedule = NoiseSchedule.from_config(CONFIG).of("paper")
    x = torch.zeros(1, 4, 8, 8)
    with pytest.raises(PhospheneError, match="strength: found 1.0"):
        schedule.begin(x, x, 50, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beta_schedule", "squaredcos_cap_v2"),
        ("prediction_type", "sample"),
        ("clip_sample", True),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_other_schedules_are_refused(name, value):
    with pytest.raises(PhospheneError, match=f"found {name} {value!r}"):
        NoiseSchedule.from_config(CONFIG | {name: value})


# The reconstruct stage


def test_new_settings_leave_old_names_valid():
    def settings(study, mode):
        return Reconstruct(study, "subj01", mode).settings()

    study = Study()
    always = {"seed": 0, "size": 64}
    assert settings(study, "zc") == {"mode": "zc", **always}
    paper = study.replace("reconstruct.sampler", "paper")
    assert settings(paper, "z") == {"mode": "z", "sampler": "paper", **always}
    sample = study.replace("model.latent", "sample")
    assert settings(sample, "zc") == {"mode": "zc", "latent": "sample", **always}
    assert settings(sample, "c") == settings(study, "c")


def test_seeds_of_latents_belong_to_their_pictures():
    keys = [("subj01", 3, 0), ("subj01", 4, 0)]
    assert latent_seeds(Study(), keys) is None
    sample = Study().replace("model.latent", "sample")
    one, other = latent_seeds(sample, keys)
    assert one != other and latent_seeds(sample, keys[::-1]) == [other, one]


def test_the_stage_draws_every_sample_once(bundled, monkeypatch):
    """In batches of three, the last one short; every picture is what its own seed gives."""
    monkeypatch.setattr(type(bundled), "batch", lambda self, wanted=0: 3)
    study = Study.from_dict({"reconstruct": {"samples": 2, "steps": 3}})
    c = bundled.text_to_context([["a cat"], ["a house"]])
    found = {}

    def write(made, drawn):
        found.update(zip(drawn, made(), strict=True))

    keys = [("subj01", 5, 0), ("subj01", 9, 0)]
    _sample(bundled, study, None, c, keys, Compute(), write)
    assert list(found) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    seed = int(rng(0, "subj01", 9, 0, 1).integers(2**62))
    assert np.array_equal(found[1, 1], bundled.denoise(None, c[1:], steps=3, seeds=[seed])[0])


def test_a_picture_that_cannot_be_written_ends_the_part(bundled):
    def write(made, drawn):
        raise OSError("disk full")

    study = Study.from_dict({"reconstruct": {"samples": 1, "steps": 2}})
    with pytest.raises(OSError, match="disk full"):
        _sample(
            bundled,
            study,
            None,
            bundled.text_to_context([["a cat"]]),
            [("s", 0, 0)],
            Compute(),
            write,
        )
