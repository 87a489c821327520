"""Which features predict voxels together, and the shares of a joint penalty that are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.features.names import EMPTY, OTHER, OWN_NOISE, Feature, parsed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """Feature spaces that predict voxels together; one or several."""

    spaces: tuple[Feature, ...]

    @classmethod
    def of(cls, *names: str | Feature) -> Model:
        """Make a model of the names of its spaces."""
        spaces = tuple(parsed(names))
        if not spaces or len(set(spaces)) < len(spaces):
            raise PhospheneError(
                f"encode: found spaces {', '.join(map(str, names)) or 'none'}, expected each once."
            )
        return cls(spaces)

    def __str__(self) -> str:
        return " + ".join(map(str, self.spaces))


Named = Sequence[tuple[str, Model]]
"""Models, each with the name of its analysis."""


def asked(names: Sequence[str | Feature], joint: bool) -> list[Model]:
    """One model for each of these spaces, or one for all together."""
    names = parsed(names)
    return [Model.of(*names)] if joint else [Model.of(name) for name in names]


def mixes(n_spaces: int, n: int) -> Floats:
    """Shares of the spaces to try, (n_mixes, n_spaces), each row summing to one.

    One space: itself. Two: each alone, then `n` shares evenly spaced in log odds. More: each alone,
    all but one evenly, all evenly, then `n` drawn from Dirichlet distributions, always the same. A
    share of 0 leaves a space out, which is what unique variance is measured against.
    """
    if n_spaces == 1:
        return np.ones((1, 1))
    if n_spaces == 2:
        share = 1 / (1 + 10 ** np.linspace(-2, 2, n))
        return np.concatenate([np.eye(2), np.column_stack([share, 1 - share])])
    without = (1 - np.eye(n_spaces)) / (n_spaces - 1)
    random = np.random.default_rng(0)
    drawn = [random.dirichlet(np.full(n_spaces, 1.0 if k % 2 else 0.2)) for k in range(n)]
    return np.array([*np.eye(n_spaces), *without, np.full(n_spaces, 1 / n_spaces), *drawn])


def planned(
    analyses: Sequence[str],
    noise: Sequence[float],
    steps: Sequence[int],
    layers: Sequence[str],
    controls: Sequence[str],
    same_noise: bool,
) -> list[tuple[str, Model]]:
    """The models of some analyses (paper, section E), each with the name of its analysis.

    Parameters
    ----------
    analyses : sequence of {"features", "noise", "text", "steps", "layers"}
        "features": z, c, zc and the controls, each alone; "noise": z and zc together for every
        strength; "text": zc with the text of another picture and with empty text; "steps": z and
        zc together along the denoising; "layers": every layer of the U-Net at those steps.
    noise : sequence of float
        Strengths; all but "noise" take the highest.
    steps : sequence of int
        Denoising steps, from 1.
    layers, controls : sequence of str
        Layers of the U-Net, names of further features.
    same_noise : bool
        Models of "noise" are repeated with separate noise for each picture, as a control; without
        it there is no "text", which asks what one noise makes readable.
    """
    high = f"{max(noise):g}"
    models = {
        "features": [Model.of(name) for name in ("z", "c", f"zc@{high}", *controls)],
        "noise": [
            Model.of("z", f"{kind}@{strength:g}")
            for kind in (("zc", OWN_NOISE) if same_noise else ("zc",))
            for strength in noise
        ],
        "text": [
            Model.of("z", f"{OTHER}@{high}"),
            Model.of("z", f"{EMPTY}@{high}"),
            Model.of(f"{EMPTY}@{high}", f"zc@{high}"),
        ]
        if same_noise
        else [],
        "steps": [Model.of("z", f"zc@{high}/step={step}") for step in steps],
        "layers": [
            Model.of(f"unet/{layer}@{high}/step={step}") for step in steps for layer in layers
        ],
    }
    return [(analysis, model) for analysis in analyses for model in models[analysis]]
