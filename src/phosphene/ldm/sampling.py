"""Noise schedules as data, and the sampler as a short function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phosphene.errors import PhospheneError


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of the picture is left at each step of the diffusion.

    ``alphas`` holds the cumulative products (often written alpha bar) at the training timesteps, float64 (1000,);
    ``final_alpha`` is what the last denoising step aims at; ``offset`` shifts the timesteps that are visited.
    """

    alphas: Tensor
    final_alpha: float
    offset: int = 1

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Read a diffusers scheduler configuration (the fields of ``scheduler_config.json``)."""
        if config.get("beta_schedule") != "scaled_linear" or config.get("prediction_type", "epsilon") != "epsilon":
            raise PhospheneError(
                f"scheduler_config.json: found beta_schedule {config.get('beta_schedule')!r} and prediction_type "
                f"{config.get('prediction_type')!r}, expected 'scaled_linear' and 'epsilon' as in Stable Diffusion 1.x."
            )
        n = int(config.get("num_train_timesteps", 1000))
        # diffusers computes the betas in float32; doing the same keeps our pictures equal to its own
        roots = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, n, dtype=torch.float32)
        alphas = torch.cumprod(1 - roots**2, dim=0).double()
        final = 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0])
        return cls(alphas, final, int(config.get("steps_offset", 0)))

    def timesteps(self, steps: int, strength: float = 1.0) -> list[int]:
        """Timesteps to visit, the noisiest first: the last ``int(steps * strength)`` of `steps` evenly spaced ones.

        With 50 steps these are 981, 961, …, 1, and with strength 0.8 they start at 781 (paper, section C).
        """
        if not 1 <= steps <= len(self.alphas) // 2:
            raise PhospheneError(f"steps: found {steps}, expected 1 to {len(self.alphas) // 2}.")
        stride = len(self.alphas) // steps
        every = (np.arange(steps)[::-1] * stride + self.offset).tolist()
        return [int(t) for t in every[steps - min(int(steps * strength), steps) :]]

    def add_noise(self, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return latents as they are at `timestep`."""
        alpha = float(self.alphas[timestep])
        noisy: Tensor = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
        return noisy


def ddim(
    predict_noise: Callable[[Tensor, int], Tensor], x: Tensor, schedule: NoiseSchedule, steps: int, strength: float
) -> Tensor:
    """Denoise `x` deterministically (DDIM with eta 0; Song et al. 2021).

    Parameters
    ----------
    predict_noise : callable
        ``predict_noise(x, timestep)`` gives the noise in `x`, guidance already applied.
    x : Tensor, shape (n, channels, height, width)
        Latents with the noise that belongs to the first visited timestep.
    """
    visited = schedule.timesteps(steps, strength)
    stride = len(schedule.alphas) // steps
    for t in visited:
        alpha = float(schedule.alphas[t])
        before = float(schedule.alphas[t - stride]) if t >= stride else schedule.final_alpha
        noise = predict_noise(x, t)
        clean = (x - (1 - alpha) ** 0.5 * noise) / alpha**0.5
        x = before**0.5 * clean + (1 - before) ** 0.5 * noise
    return x
