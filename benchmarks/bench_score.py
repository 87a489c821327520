"""How long `phosphene score` takes on two folders of 982 pictures at 512 x 512, and how much
memory.

Weight-free measures (`pixel`) and Brain-Diffuser's two layers of an AlexNet with random weights;
pictures are smooth random fields in a temporary folder. Prints JSON. Arguments: number of pictures,
side.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from common import machine_facts, peak_memory
from PIL import Image

from phosphene.cli import score
from phosphene.models.perceptual.weights import wanted


def field(random: np.random.Generator, side: int) -> np.ndarray:
    """A smooth random picture with a little grain, so that PNG files have the size of
    photographs'.
    """
    coarse = random.integers(0, 256, (9, 9, 3), np.uint8)
    smooth = np.asarray(
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    ).astype(np.int16)
    return np.clip(smooth + random.integers(-6, 7, smooth.shape, np.int16), 0, 255).astype(np.uint8)


def write(root: Path, n: int, side: int) -> None:
    """Originals, reconstructions (half original, half something else) and weights."""
    for name in ("recons", "originals", "weights"):
        (root / name).mkdir()
    random = np.random.default_rng(0)
    for k in range(n):
        original = field(random, side)
        other = field(random, side)
        Image.fromarray(original).save(root / "originals" / f"{k:04d}.png", compress_level=1)
        mixed = (original.astype(np.uint16) + other) // 2
        Image.fromarray(mixed.astype(np.uint8)).save(
            root / "recons" / f"{k:04d}.png", compress_level=1
        )
    torch.manual_seed(0)
    torch.save(
        torchvision.models.alexnet(weights=None).state_dict(),
        root / "weights" / wanted("alexnet").files[0][0],
    )


def main() -> None:
    n, side = (int(word) for word in (sys.argv[1:] + ["982", "512"])[:2])
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(root, n, side)
        megabytes = sum(path.stat().st_size for path in root.glob("*/*.png")) / 1e6
        said = io.StringIO()
        began = time.perf_counter()
        with peak_memory() as memory, contextlib.redirect_stdout(said):
            score.score(
                root / "recons",
                root / "originals",
                preset="pixel,braindiffuser",
                weights=root / "weights",
                csv=root / "scores.csv",
                html=root / "scores.html",
                device="cpu",
                as_json=True,
                verbose=True,
            )
        seconds = time.perf_counter() - began
    found = json.loads(said.getvalue())
    values = {
        f"{s['preset']}/{s['metric']}/{s['direction']}": round(s["value"], 4)
        for s in found["scores"]
    }
    print(
        json.dumps(
            {
                "pictures": n,
                "side": side,
                "png megabytes": round(megabytes),
                "seconds": round(seconds, 1),
                "memory MiB": memory,
                "values": values,
                "absent": [row["measure"] for row in found["absent"]],
                "threads": torch.get_num_threads(),
                "machine": machine_facts("torch", "torchvision", "numpy", "pillow"),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
