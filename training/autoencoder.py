"""The autoencoder: 64x64 pictures to 4x16x16 latents and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import BUNDLED, Run, Scenes, rank
from diffusers import AutoencoderKL


def build(config: dict[str, Any]) -> AutoencoderKL:
    part = config["autoencoder"]
    levels = len(config["autoencoder"]["channels"])
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=part["channels"],
        layers_per_block=1,
        latent_channels=part["latent_channels"],
        norm_num_groups=8,
        sample_size=config["data"]["size"],
    ).to(memory_format=torch.channels_last)


def loss_of(
    model: AutoencoderKL, pictures: torch.Tensor, kl: float, blend: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reconstruction error; for some batches also of blended latents against the blended
    pictures.
    """
    posterior = model.encode(pictures).latent_dist
    z = posterior.sample()
    out = model.decode(z).sample
    error = F.mse_loss(out, pictures)
    loss = (
        error
        + 0.1 * F.l1_loss(out, pictures)
        + kl * 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    )
    if blend:
        mixed, wanted = blends(posterior.mean, pictures)
        loss = loss + 0.5 * F.mse_loss(model.decode(mixed).sample, wanted)
    return loss, error


def blends(z: torch.Tensor, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend latents and pictures alike: half with another of the batch, half with its mean, more
    here and less there.

    A linear map from a noisy brain predicts the average of all latents that fit. An autoencoder
    trained on pictures alone decodes such an average to false colours; trained on blends, to the
    average of those pictures.
    """
    half = len(z) // 2
    share = torch.rand(len(z), 1, 4, 4)
    blended = []
    for x in (z, pictures):
        other = torch.cat([x.roll(1, 0)[:half], x.mean(0, keepdim=True).expand_as(x)[half:]])
        weight = F.interpolate(share, size=x.shape[-2:], mode="bilinear")
        blended.append(torch.lerp(other, x, weight))
    return blended[0], blended[1]


def train(config: dict[str, Any]) -> None:
    scenes = Scenes(config)
    part = config["autoencoder"]
    torch.manual_seed(config["seed"])
    model = build(config)
    run = Run("autoencoder", config["folder"], {"vae": model}, part["rate"])
    while run.step < part["steps"]:
        rng = np.random.default_rng([config["seed"], 1, run.step, rank()])
        pictures = scenes.tensor(rng.integers(scenes.n_train, size=part["batch"]))
        loss, error = loss_of(model, pictures, part["kl"], rng.random() < part["blend"])
        run.advance(loss, run.step / part["steps"])
        if run.step % 200 == 0:
            run.say(psnr=float(10 * torch.log10(4 / error.detach())))
    run.save()
    if rank():
        return
    with torch.inference_mode():
        latents = torch.cat(
            [
                model.encode(scenes.tensor(np.arange(i, i + 100))).latent_dist.mean
                for i in range(0, 2000, 100)
            ]
        )
    model.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
    model.half().save_pretrained(BUNDLED / "vae")
