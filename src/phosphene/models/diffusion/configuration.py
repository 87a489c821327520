"""What is known of a diffusion model from its configuration alone; needs no torch.

The numbers that a block of the U-Net gives follow from its channels and the side of the latent. In
Stable Diffusion 1.4 at 512 x 512 pixels, per picture and step:

=======  ===============  =========    =====  ===============  =========
down0    320 x 32 x 32      327,680    up0    1280 x 16 x 16     327,680
down1    640 x 16 x 16      163,840    up1    1280 x 32 x 32   1,310,720
down2    1280 x 8 x 8        81,920    up2    640 x 64 x 64    2,621,440
down3    1280 x 8 x 8        81,920    up3    320 x 64 x 64    1,310,720
mid      1280 x 8 x 8        81,920
=======  ===============  =========    =====  ===============  =========
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from phosphene.errors import PhospheneError
from phosphene.models.diffusion.sources import (
    CONFIGS,
    NETS,
    find,
    read_config,
    read_json,
    scheduler_file,
    settings,
)

LATENT = "latent"
# what diffusers and transformers take for settings that a file does not name
DEFAULTS = {
    "unet": {"block_out_channels": [320, 640, 1280, 1280]},
    "vae": {"block_out_channels": [64], "latent_channels": 4},
    "text_encoder": {"max_position_embeddings": 77, "hidden_size": 512},
    "scheduler": {"num_train_timesteps": 1000},
}


@dataclass(frozen=True)
class Configuration:
    """Sizes of a latent diffusion model.

    Attributes
    ----------
    settings : dict
        For "unet", "vae", "text_encoder" and "scheduler" what their configuration files say.

    Examples
    --------
    >>> model = Configuration.of("bundled")
    >>> model.size, model.latent_shape(), model.context_shape
    (64, (4, 16, 16), (24, 128))
    >>> model.layers
    ['down0', 'down1', 'down2', 'mid', 'up0', 'up1', 'up2']
    """

    settings: dict[str, Any]

    @classmethod
    def of(cls, name: str | Path) -> Configuration:
        """Read the configuration of a model.

        Parameters
        ----------
        name : str or Path
            As :func:`phosphene.models.diffusion.sources.find` takes it.

        Raises
        ------
        PhospheneError
            When there is no such model, or its configuration cannot be read.
        """
        source = find(name)
        if source.kind == "file":
            files = settings(source.path)
        else:
            files = {net: read_config(source.path / net / "config.json") for net in NETS}
            files["scheduler"] = read_json(scheduler_file(source))
        known = cls({part: DEFAULTS[part] | files[part] for part in DEFAULTS})
        try:
            known.latent_shape(), known.context_shape, known.widths, known.n_train
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise PhospheneError(
                f"{source.path}: the sizes in its configuration cannot be read "
                f"({type(error).__name__}: {error}); download the model again."
            ) from error
        return known

    @cached_property
    def factor(self) -> int:
        """Pixels per latent pixel."""
        return int(2 ** (len(self.settings["vae"]["block_out_channels"]) - 1))

    @property
    def size(self) -> int:
        """Side of the pictures that the model makes, in pixels."""
        return int(self.settings["unet"]["sample_size"]) * self.factor

    def latent_shape(self, size: int = 0) -> tuple[int, int, int]:
        """Shape (channels, height, width) of the latent of a picture of side `size` (0: the model's
        own).
        """
        side = (size or self.size) // self.factor
        return int(self.settings["vae"]["latent_channels"]), side, side

    @property
    def context_shape(self) -> tuple[int, int]:
        """(tokens, width) of a text context."""
        text = self.settings["text_encoder"]
        return int(text["max_position_embeddings"]), int(text["hidden_size"])

    @property
    def layers(self) -> list[str]:
        """Blocks of the U-Net in the order in which they work."""
        return [place for place in self.widths if place != LATENT]

    @cached_property
    def widths(self) -> dict[str, int]:
        """Numbers per picture that the latent, and every block of the U-Net, has at one step."""
        channels = [int(c) for c in self.settings["unet"]["block_out_channels"]]
        latent = self.latent_shape()
        sides = [latent[1]]
        for _ in channels[1:]:
            sides.append(-(-sides[-1] // 2))
        # all but the last block of the way down halve the side, all but the last of the way up
        # double it
        down = [*sides[1:], sides[-1]]
        up = [*sides[-2::-1], sides[0]]
        last = len(channels) - 1
        return {
            LATENT: prod(latent),
            **{f"down{k}": channels[k] * down[k] ** 2 for k in range(last + 1)},
            "mid": channels[last] * sides[last] ** 2,
            **{f"up{k}": channels[last - k] * up[k] ** 2 for k in range(last + 1)},
        }

    @property
    def n_train(self) -> int:
        """Timesteps that the model was trained with."""
        return int(self.settings["scheduler"]["num_train_timesteps"])

    def n_steps(self, steps: int, strength: float = 1.0) -> int:
        """Denoising steps that are made of `steps`, from this strength on."""
        return len(timesteps(self.n_train, 0, steps, strength))


def timesteps(n_train: int, offset: int, steps: int, strength: float = 1.0) -> list[int]:
    """Timesteps to visit, the noisiest first: the last ``int(steps * strength)`` of `steps` evenly
    spaced ones.

    With 50 steps of 1,000 and an offset of 1 these are 981, 961, …, 1, and with strength 0.8 they
    start at 781 (paper, section C).

    Parameters
    ----------
    n_train : int
        Timesteps that the model was trained with.
    offset : int
        Shifts all of them.
    steps : int
    strength : float

    Examples
    --------
    >>> timesteps(1000, 1, 50, 0.8)[:2]
    [781, 761]
    """
    if not 1 <= steps <= n_train // 2:
        raise PhospheneError(f"steps: found {steps}, expected 1 to {n_train // 2}.")
    stride = n_train // steps
    every = [k * stride + offset for k in reversed(range(steps))]
    return every[steps - min(int(steps * strength), steps) :]


def architecture(config: dict[str, Any]) -> str:
    """Name the family whose U-Net and text encoder have these sizes."""
    for family in ("sd1", "sd2"):
        known = json.loads((CONFIGS / f"{family}.json").read_text())
        if all(
            config[net].get(key) == known[net][key]
            for net, key in (
                ("unet", "block_out_channels"),
                ("unet", "cross_attention_dim"),
                ("text_encoder", "num_hidden_layers"),
            )
        ):
            return f"Stable Diffusion {family[2]}.x"
    return "other"
