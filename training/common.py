"""What every part of the training shares: the configuration, the drawn scenes, checkpoints,
learning rates.
"""

from __future__ import annotations

import math
import os
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from phosphene.data.simulated.scenes import (
    CATEGORIES,
    COLOURS,
    PLACES,
    Scene,
    captions,
    render,
    sample_scene,
)

BUNDLED = Path(__file__).parents[1] / "src/phosphene/models/diffusion/bundled"


def scene(seed: int, index: int) -> Scene:
    return sample_scene(np.random.default_rng([seed, index]))


def _render_many(job: tuple[int, int, int, int]) -> np.ndarray:
    seed, start, stop, size = job
    return np.stack([render(scene(seed, i), size) for i in range(start, stop)])


class Scenes:
    """The drawn scenes of a configuration: pictures painted once and kept on disk, words and
    labels.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.seed = config["seed"]
        self.size = config["data"]["size"]
        self.n_train = config["data"]["train"]
        self.n_held_out = config["data"]["held_out"]
        self.file = Path(config["folder"]) / "scenes.npy"

    def paint(self) -> None:
        """Paint all pictures, on all cores, unless that was done before."""
        if self.file.exists():
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        total = self.n_train + self.n_held_out
        jobs = [(self.seed, i, min(i + 500, total), self.size) for i in range(0, total, 500)]
        with ProcessPoolExecutor() as pool:
            pictures = np.concatenate(list(pool.map(_render_many, jobs)))
        temporary = self.file.with_suffix(".tmp.npy")
        np.save(temporary, pictures)
        os.replace(temporary, self.file)

    @cached_property
    def pictures(self) -> np.ndarray:
        """Pictures as uint8 (n, size, size, 3): those to learn from first, then the held-out
        ones.
        """
        return np.load(self.file, mmap_mode="r")

    @cached_property
    def scenes(self) -> list[Scene]:
        return [scene(self.seed, i) for i in range(self.n_train + self.n_held_out)]

    @cached_property
    def held_out(self) -> range:
        return range(self.n_train, self.n_train + self.n_held_out)

    def tensor(self, ids: Any) -> torch.Tensor:
        """Pictures as float32 (n, 3, size, size) from -1 to 1."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.pictures[ids]))
        return (
            pixels.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float() / 127.5
            - 1
        )

    @cached_property
    def captions(self) -> list[list[str]]:
        return [captions(s) for s in self.scenes]

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """What is in each picture: 0/1 tables (n, kinds) of its categories, colours and place."""
        tables = {
            name: np.zeros((len(self.scenes), len(kinds)), np.float32)
            for name, kinds in (("category", CATEGORIES), ("colour", COLOURS), ("place", PLACES))
        }
        for i, s in enumerate(self.scenes):
            tables["place"][i, PLACES.index(s.place)] = 1
            for thing in s.things:
                tables["category"][i, CATEGORIES.index(thing.category)] = 1
                tables["colour"][i, COLOURS.index(thing.colour)] = 1
        return tables


def load_config(path: str | Path) -> dict[str, Any]:
    return tomllib.loads(Path(path).read_text())


def rank() -> int:
    """Number of this worker, from 0: workers draw different pictures and average their
    gradients.
    """
    return dist.get_rank() if dist.is_initialized() else 0


def warm_cosine(share: float, warm: float = 0.03) -> float:
    """Learning-rate factor after `share` (0..1) of the training: a short warm-up, then half a
    cosine.
    """
    return (
        share / warm
        if share < warm
        else 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warm) / (1 - warm)))) + 0.002
    )


class Run:
    """A training loop that survives being killed: checkpoints every few minutes, resumes by
    itself.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        modules: dict[str, torch.nn.Module],
        rate: float,
        every: float = 240,
    ) -> None:
        self.name = name
        self.file = Path(folder) / f"{name}.pt"
        self.modules = modules
        self.rate = rate
        parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            parameters, lr=rate, weight_decay=1e-3, betas=(0.9, 0.98), fused=True
        )
        self.step = 0
        self.spent = 0.0
        self.every = every
        if self.file.exists():
            state = torch.load(self.file, weights_only=True)
            for key, module in modules.items():
                module.load_state_dict(state["modules"][key])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]
            self.spent = state["spent"]
        self._clock = self._saved = time.monotonic()

    def advance(self, loss: torch.Tensor, share: float) -> None:
        """Take one optimiser step at the learning rate that belongs to `share` of the training."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * warm_cosine(share)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.optimiser.param_groups[0]["params"], 1.0)
        self.optimiser.step()
        self.step += 1
        if time.monotonic() - self._saved > self.every:
            self.save()

    def _average_gradients(self) -> None:
        """Average gradients over the workers, and the time spent too, so that all of them stop at
        the same step.
        """
        now = time.monotonic()
        self.spent += now - self._clock
        self._clock = now
        if not dist.is_initialized():
            return
        gradients = [p.grad for p in self.optimiser.param_groups[0]["params"] if p.grad is not None]
        flat = torch.cat([torch.tensor([self.spent]), *(g.flatten() for g in gradients)])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        self.spent = float(flat[0])
        for g, mean in zip(gradients, flat[1:].split([g.numel() for g in gradients]), strict=True):
            g.copy_(mean.view_as(g))

    def save(self) -> None:
        self._saved = time.monotonic()
        if rank():
            return
        state = {
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "step": self.step,
            "optimiser": self.optimiser.state_dict(),
            "spent": self.spent,
        }
        temporary = self.file.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.file)

    def say(self, **figures: float) -> None:
        words = " ".join(f"{k} {v:.4f}" for k, v in figures.items())
        if not rank():
            print(f"{self.name} step {self.step} after {self.spent:.0f} s: {words}", flush=True)
