"""Noise schedules as data, and the sampler as a short function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.models.diffusion.configuration import timesteps

Sampler = Literal["consistent", "paper"]

# what may stand in a scheduler's configuration; anything else would give other pictures than the
# model's own sampler
KNOWN: dict[str, tuple[Any, ...]] = {
    "beta_schedule": ("scaled_linear", "linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading",),
    "trained_betas": (None,),
    "clip_sample": (False,),
    "thresholding": (False,),
    "rescale_betas_zero_snr": (False,),
}


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of the picture is left at each step of the diffusion, and what the network predicts.

    Attributes
    ----------
    alphas : Tensor, float64, shape (n_train_timesteps,)
        Cumulative products, often written alpha bar.
    final_alpha : float
        What the last denoising step aims at.
    offset : int
        Shifts the timesteps that are visited.
    prediction : str
        "epsilon": the network predicts the noise; "v_prediction": sqrt(alpha) noise - sqrt(1 -
        alpha) picture.
    ahead : int
        How many steps noisier latents are made than the timestep at which denoising starts.
    """

    alphas: Tensor
    final_alpha: float
    offset: int = 1
    prediction: str = "epsilon"
    ahead: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Read a diffusers scheduler configuration (the fields of ``scheduler_config.json``)."""
        for name, known in KNOWN.items():
            if (found := config.get(name, known[0])) not in known:
                raise PhospheneError(
                    f"scheduler_config.json: found {name} {found!r}, expected "
                    f"{' or '.join(map(repr, known))} as in "
                    "Stable Diffusion 1.x and 2.x; models with another schedule cannot be sampled."
                )
        n = int(config.get("num_train_timesteps", 1000))
        root = 1 if config.get("beta_schedule") == "linear" else 2
        # diffusers computes the betas in float32; doing the same keeps our pictures equal to its
        # own
        roots = torch.linspace(
            config["beta_start"] ** (1 / root), config["beta_end"] ** (1 / root), n
        )
        alphas = torch.cumprod(1 - roots**root, dim=0).double()
        final = 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0])
        return cls(
            alphas,
            final,
            int(config.get("steps_offset", 0)),
            config.get("prediction_type", "epsilon"),
        )

    def of(self, sampler: Sampler) -> NoiseSchedule:
        """Return this schedule for "consistent", and for "paper" with the details of the released
        code.

        Those are (paper, section C): timesteps 1, 21, ..., 981; z is noised one step further than
        denoising starts, at timestep 801 for a start at 781; the last step aims at the alpha of
        timestep 0.
        """
        return (
            replace(self, final_alpha=float(self.alphas[0]), offset=1, ahead=1)
            if sampler == "paper"
            else self
        )

    def timesteps(self, steps: int, strength: float = 1.0) -> list[int]:
        """Timesteps to visit (:func:`phosphene.models.diffusion.configuration.timesteps`)."""
        return timesteps(len(self.alphas), self.offset, steps, strength)

    def add_noise(self, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return latents as they are at `timestep`."""
        alpha = float(self.alphas[timestep])
        noisy: Tensor = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
        return noisy

    def begin(self, latents: Tensor, noise: Tensor, steps: int, strength: float) -> Tensor:
        """Return latents with the noise from which :func:`ddim` starts; unchanged where no step is
        made.
        """
        visited = self.timesteps(steps, strength)
        if not visited:
            return latents
        timestep = visited[0] + self.ahead * (len(self.alphas) // steps)
        if timestep >= len(self.alphas):
            raise PhospheneError(
                f"reconstruct.strength: found {strength}, which starts at the last of {steps} "
                "steps; sampler 'paper' "
                "adds the noise of one step before; take a smaller strength or sampler "
                "'consistent'."
            )
        return self.add_noise(latents, noise, timestep)

    def split(self, x: Tensor, predicted: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """Split noisy latents into picture and noise, as the network sees them."""
        alpha = float(self.alphas[timestep])
        if self.prediction == "v_prediction":
            picture = alpha**0.5 * x - (1 - alpha) ** 0.5 * predicted
            return picture, alpha**0.5 * predicted + (1 - alpha) ** 0.5 * x
        return (x - (1 - alpha) ** 0.5 * predicted) / alpha**0.5, predicted


def ddim(
    predict: Callable[[Tensor, int], Tensor],
    x: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    strength: float,
) -> Tensor:
    """Denoise `x` deterministically (DDIM with eta 0; Song et al. 2021).

    Parameters
    ----------
    predict : callable
        ``predict(x, timestep)`` gives what the network says about `x`, guidance already applied.
    x : Tensor, shape (n, channels, height, width)
        Latents with noise (:meth:`NoiseSchedule.begin`).
    """
    visited = schedule.timesteps(steps, strength)
    stride = len(schedule.alphas) // steps
    for t in visited:
        before = float(schedule.alphas[t - stride]) if t >= stride else schedule.final_alpha
        picture, noise = schedule.split(x, predict(x, t), t)
        x = before**0.5 * picture + (1 - before) ** 0.5 * noise
    return x
