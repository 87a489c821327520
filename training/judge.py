"""The judge: a small network, trained apart from the generator, that says what is seen, in which
colour and where.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import Run, Scenes, rank
from safetensors.torch import save_file

from phosphene.models.judge.labels import JUDGE_FILE
from phosphene.models.judge.network import Judge


def disturb(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blur, noise and contrast of random strength, so that the judge reads a picture rather than
    its pixels.
    """
    if rng.random() < 0.3:
        small = F.interpolate(
            pictures, scale_factor=float(rng.uniform(0.5, 0.9)), mode="bilinear", antialias=True
        )
        pictures = F.interpolate(small, size=pictures.shape[-2:], mode="bilinear")
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32)) * float(
        rng.uniform(0, 0.12)
    )
    return (
        pictures * float(rng.uniform(0.85, 1.1)) + float(rng.uniform(-0.08, 0.08)) + noise
    ).clamp(-1, 1)


def loss_of(said: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> torch.Tensor:
    return (
        4 * F.binary_cross_entropy_with_logits(said["category"], truth["category"])
        + 4 * F.binary_cross_entropy_with_logits(said["colour"], truth["colour"])
        + 0.3 * F.cross_entropy(said["place"], truth["place"].argmax(1))
    )


def right(said: torch.Tensor, truth: np.ndarray) -> float:
    """Share of pictures whose k true labels are the k that the judge thinks likeliest."""
    ranked = np.argsort(-said.numpy(), axis=1, kind="stable")
    return float(
        np.mean([truth[i, ranked[i, : int(truth[i].sum())]].all() for i in range(len(truth))])
    )


def measure(judge: Judge, scenes: Scenes) -> dict[str, float]:
    ids = np.array(scenes.held_out)
    with torch.inference_mode():
        said = judge((scenes.tensor(ids) + 1) / 2)
    return {f"judge_{name}": right(said[name], scenes.labels[name][ids]) for name in said}


def train(config: dict[str, Any]) -> None:
    scenes = Scenes(config)
    part = config["judge"]
    torch.manual_seed(config["seed"] + 2)
    judge = Judge().to(memory_format=torch.channels_last)
    run = Run("judge", config["folder"], {"judge": judge}, part["rate"])
    while run.step < part["steps"]:
        rng = np.random.default_rng([config["seed"], 3, run.step, rank()])
        ids = np.sort(rng.integers(scenes.n_train, size=part["batch"]))
        said = judge((disturb(scenes.tensor(ids), rng) + 1) / 2)
        truth = {name: torch.from_numpy(table[ids]) for name, table in scenes.labels.items()}
        loss = loss_of(said, truth)
        run.advance(loss, run.step / part["steps"])
        if run.step % 200 == 0:
            run.say(
                loss=float(loss.detach()),
                **{name: right(said[name].detach(), truth[name].numpy()) for name in said},
            )
    run.save()
    if rank():
        return
    JUDGE_FILE.parent.mkdir(parents=True, exist_ok=True)
    small = {k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file({k: v.contiguous() for k, v in small.items()}, JUDGE_FILE)
