"""The judge: what a drawn scene shows, and three feature spaces in which pictures are compared.

It is a small network trained apart from the generating model (``training/judge.py``), so that no
picture is measured by what made it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from phosphene.models.judge.labels import CATEGORIES, COLOURS, JUDGE_FILE, PLACES
from phosphene.models.preparing import AT_64, Pictures, picture_at, prepare

BATCH = 64


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class Judge(nn.Module):
    """Says what a drawn scene shows: which of 18 categories and 9 colours are present, and which of
    9 places it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early = _stage(3, 24)
        self.middle = nn.Sequential(_stage(24, 48), _stage(48, 96))
        self.late = nn.Sequential(
            nn.Conv2d(96, 128, 3, padding=1),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            _stage(128, 128),
            nn.Flatten(),
            nn.Linear(128 * 16, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict(
            {
                "category": nn.Linear(128, len(CATEGORIES)),
                "colour": nn.Linear(128, len(COLOURS)),
                "place": nn.Linear(128, len(PLACES)),
            }
        )

    def layers(self, pictures: Tensor) -> dict[str, Tensor]:
        """Activations of `pictures`, float (n, 3, 64, 64) from 0 to 1, at the three depths."""
        early = self.early(2 * pictures - 1)
        middle = self.middle(early)
        return {"judge-early": early, "judge-middle": middle, "judge-late": self.late(middle)}

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits of category (n, 18), colour (n, 9) and place (n, 9)."""
        late = self.layers(pictures)["judge-late"]
        return {name: head(late) for name, head in self.heads.items()}


@cache
def load_judge() -> Judge:
    """Load the judge that ships with the package, ready to be asked."""
    judge = Judge()
    judge.load_state_dict(load_file(JUDGE_FILE))
    return judge.eval().float().requires_grad_(False)


def judge_labels(pictures: Pictures) -> dict[str, NDArray[np.float32]]:
    """Ask the judge what pictures show.

    Returns
    -------
    dict of str to ndarray of float32
        Logits of ``category`` (n, 18), ``colour`` (n, 9) and ``place`` (n, 9), in the order of this
        module's tuples.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {"category": [], "colour": [], "place": []}
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            some = range(start, min(start + BATCH, len(pictures)))
            x = torch.stack([prepare(picture_at(pictures, k), AT_64) for k in some])
            for name, logits in load_judge()(x).items():
                parts[name].append(logits.numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}
