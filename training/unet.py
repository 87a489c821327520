"""The denoiser: a U-Net that is told by cross-attention what the picture shows."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from common import BUNDLED, Run, Scenes, rank
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from text import tokens
from transformers import CLIPTextModel, CLIPTokenizer


def build(config: dict[str, Any]) -> UNet2DConditionModel:
    part = config["unet"]
    return UNet2DConditionModel(
        sample_size=config["data"]["size"] // 4,
        down_block_types=part["down"],
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(part["down"])],
        block_out_channels=part["channels"],
        layers_per_block=1,
        cross_attention_dim=config["text"]["width"],
        attention_head_dim=part["heads"],
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)


def schedule() -> DDIMScheduler:
    """The noise schedule and DDIM configuration of Stable Diffusion 1.4."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def all_latents(vae: AutoencoderKL, scenes: Scenes) -> torch.Tensor:
    with torch.inference_mode():
        parts = [
            vae.encode(scenes.tensor(np.arange(i, min(i + 250, scenes.n_train)))).latent_dist.mean
            for i in range(0, scenes.n_train, 250)
        ]
    return torch.cat(parts).contiguous() * vae.config.scaling_factor


class Contexts:
    """Text states of captions, computed as they are needed by the frozen text encoder."""

    def __init__(self, scenes: Scenes, average: float, unconditional: float) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(BUNDLED / "tokenizer")
        self.model = CLIPTextModel.from_pretrained(BUNDLED / "text_encoder").float().eval()
        self.scenes = scenes
        self.average = average
        self.unconditional = unconditional
        self.empty = self._states([""])[0]

    @torch.no_grad()
    def _states(self, captions: list[str]) -> torch.Tensor:
        return self.model(tokens(self.tokenizer, captions)).last_hidden_state

    def of(self, ids: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """One context per picture: one caption's states, the mean over several, or now and then the
        empty prompt's.
        """
        counts = np.where(rng.random(len(ids)) < self.average, rng.integers(2, 6, len(ids)), 1)
        chosen = [rng.choice(5, count, replace=False) for count in counts]
        states = self._states(
            [self.scenes.captions[i][k] for i, ks in zip(ids, chosen, strict=True) for k in ks]
        )
        contexts = torch.stack([group.mean(0) for group in states.split(counts.tolist())])
        contexts[torch.from_numpy(rng.random(len(ids)) < self.unconditional)] = self.empty
        return contexts


def train(config: dict[str, Any]) -> None:
    scenes = Scenes(config)
    part = config["unet"]
    torch.manual_seed(config["seed"] + 3)
    vae = (
        AutoencoderKL.from_pretrained(BUNDLED / "vae")
        .float()
        .eval()
        .to(memory_format=torch.channels_last)
    )
    latents = all_latents(vae, scenes)
    contexts = Contexts(scenes, part["average"], part["unconditional"])
    model = build(config)
    smooth = build(config).requires_grad_(False)
    smooth.load_state_dict(model.state_dict())
    run = Run("unet", config["folder"], {"unet": model, "ema": smooth}, part["rate"])
    noises = schedule()
    recent = deque(maxlen=200)
    ratio = noises.alphas_cumprod / (1 - noises.alphas_cumprod)
    weights = torch.minimum(ratio, torch.tensor(5.0)) / ratio  # min-SNR weighting, Hang et al. 2023
    while run.spent < 60 * part["minutes"]:
        rng = np.random.default_rng([config["seed"], 4, run.step, rank()])
        ids = rng.integers(scenes.n_train, size=part["batch"])
        x = latents[torch.from_numpy(ids)].contiguous(memory_format=torch.channels_last)
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        t = torch.from_numpy(rng.integers(0, 1000, size=len(ids)))
        said = model(noises.add_noise(x, noise, t), t, contexts.of(ids, rng)).sample
        loss = (weights[t] * (said - noise).square().mean(dim=(1, 2, 3))).mean()
        run.advance(loss, run.spent / (60 * part["minutes"]))
        keep = min(part["ema"], (1 + run.step) / (10 + run.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(smooth.parameters()), list(model.parameters()), 1 - keep)
        recent.append(float(loss.detach()))
        if run.step % 200 == 0:
            run.say(loss=float(np.mean(recent)))
    run.save()
    if not rank():
        save(smooth)


def save(model: UNet2DConditionModel) -> None:
    model.half().save_pretrained(BUNDLED / "unet")
    schedule().save_pretrained(BUNDLED / "scheduler")
