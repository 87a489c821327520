"""Noise schedules as data, and the sampler as a short function."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.models.diffusion.configuration import timesteps

Sampler = Literal["consistent", "paper"]

# what may stand in a scheduler's configuration; anything else would give other pictures than the
# model's own sampler
KNOWN: dict[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "trained_betas": (None,),
    "clip_sample": (False,),
    "thresholding": (False,),
    "rescale_betas_zero_snr": (False,),
}
# what diffusers takes for settings that a file does not name, and where its classes differ
DEFAULTS: dict[str, Any] = {
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "trained_betas": None,
    "clip_sample": False,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
}
_STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012}
DEFAULTS_OF: dict[str, dict[str, Any]] = {
    "HeunDiscreteScheduler": _STABLE_DIFFUSION,
    "KDPM2DiscreteScheduler": _STABLE_DIFFUSION,
    "KDPM2AncestralDiscreteScheduler": _STABLE_DIFFUSION,
    "DPMSolverSDEScheduler": _STABLE_DIFFUSION,
    "LCMScheduler": _STABLE_DIFFUSION | {"beta_schedule": "scaled_linear"},
    "TCDScheduler": _STABLE_DIFFUSION | {"beta_schedule": "scaled_linear"},
}
# samplers of models with other noise than that of Stable Diffusion 1.x and 2.x
OTHER_NOISE = re.compile(
    "Flow|EDM|Wuerstchen|CMStochastic|Cosine|Helios|LTX|UnCLIP|VQ|KarrasVe|ScoreSde|SCM|CogVideo"
)
# where a sampler looks, not how the model was trained
PREFERENCES = {
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
FEW_STEPS = ("LCMScheduler", "TCDScheduler")
MOST_TIMESTEPS = 100_000


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
    def from_config(
        cls, config: Mapping[str, Any], where: str | Path = "scheduler_config.json"
    ) -> NoiseSchedule:
        """Read a diffusers scheduler configuration (the fields of ``scheduler_config.json``).

        What it does not name is as in diffusers.

        Parameters
        ----------
        config : mapping
        where : str or Path
            What sentences begin with.

        Raises
        ------
        PhospheneError
            When its noise is not that of Stable Diffusion 1.x and 2.x.

        Warns
        -----
        UserWarning
            When preferences of another sampler are ignored.
        """
        sampler = str(config.get("_class_name", ""))
        if OTHER_NOISE.search(sampler) or not DEFAULTS.keys() & config.keys():
            what = f"a {sampler}" if sampler else "no setting of a noise schedule"
            raise PhospheneError(
                f"{where}: found {what}, expected one of Stable Diffusion 1.x or 2.x such as "
                "DDIMScheduler; use a model that has one."
            )
        settings = DEFAULTS | DEFAULTS_OF.get(sampler, {}) | dict(config)
        for name, known in KNOWN.items():
            if settings[name] not in known:
                raise PhospheneError(
                    f"{where}: found {name} {settings[name]!r}, expected "
                    f"{' or '.join(map(repr, known))} as in Stable Diffusion 1.x and 2.x; models "
                    "with another schedule cannot be sampled."
                )
        n, start, end, offset = _checked_numbers(settings, where)
        _note_preferences(config, sampler, where)
        root = 1 if settings["beta_schedule"] == "linear" else 2
        # diffusers computes the betas in float32; doing the same keeps our pictures equal to its
        # own
        roots = torch.linspace(start ** (1 / root), end ** (1 / root), n)
        alphas = torch.cumprod(1 - roots**root, dim=0).double()
        final = 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0])
        return cls(alphas, final, offset, settings["prediction_type"])

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
        timestep = self.first(steps, strength)
        return latents if timestep is None else self.add_noise(latents, noise, timestep)

    def first(self, steps: int, strength: float) -> int | None:
        """Timestep whose noise latents get before they are denoised; None where no step is made.

        Raises
        ------
        PhospheneError
            When it lies beyond the schedule.
        """
        visited = self.timesteps(steps, strength)
        if not visited:
            return None
        timestep = visited[0] + self.ahead * (len(self.alphas) // steps)
        if timestep >= len(self.alphas):
            raise PhospheneError(
                f"reconstruct.strength: found {strength}, which starts at the last of {steps} "
                "steps; sampler 'paper' "
                "adds the noise of one step before; take a smaller strength or sampler "
                "'consistent'."
            )
        return timestep

    def split(self, x: Tensor, predicted: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """Split noisy latents into picture and noise, as the network sees them."""
        alpha = float(self.alphas[timestep])
        if self.prediction == "v_prediction":
            picture = alpha**0.5 * x - (1 - alpha) ** 0.5 * predicted
            return picture, alpha**0.5 * predicted + (1 - alpha) ** 0.5 * x
        return (x - (1 - alpha) ** 0.5 * predicted) / alpha**0.5, predicted


def _checked_numbers(
    settings: Mapping[str, Any], where: str | Path
) -> tuple[int, float, float, int]:
    """Timesteps, first and last beta, and offset of a configuration."""
    n, start, end, offset = (
        settings[name] for name in ("num_train_timesteps", "beta_start", "beta_end", "steps_offset")
    )
    whole = [type(value) is int for value in (n, offset)]
    real = [type(value) in (int, float) for value in (start, end)]
    if not (
        all(whole + real) and 2 <= n <= MOST_TIMESTEPS and offset in (0, 1) and 0 < start <= end < 1
    ):
        raise PhospheneError(
            f"{where}: found num_train_timesteps {n!r:.20}, beta_start {start!r:.20}, beta_end "
            f"{end!r:.20} and steps_offset {offset!r:.20}, expected numbers such as 1000, 0.00085, "
            "0.012 and 1; download the model again."
        )
    return n, float(start), float(end), offset


def _note_preferences(config: Mapping[str, Any], sampler: str, where: str | Path) -> None:
    """Warn of settings that choose another sampler than ours and leave the model as it is."""
    ignored = [
        f"{name} {config[name]!r}"
        for name, usual in PREFERENCES.items()
        if config.get(name, usual) not in (usual, None)
    ]
    if sampler in FEW_STEPS:
        ignored.insert(0, sampler)
    if ignored:
        warnings.warn(
            f"{where}: {', '.join(ignored)} of its sampler ignored; pictures are sampled by DDIM "
            "with evenly spaced timesteps",
            stacklevel=3,
        )


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
