"""Measure the bundled model on held-out scenes; writes ``figures.json`` and the model card."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import BUNDLED, Scenes
from judge import measure as measure_judge
from judge import right
from PIL import Image

from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.models.diffusion.sources import PARTS
from phosphene.models.judge.labels import JUDGE_FILE
from phosphene.models.judge.network import judge_labels, load_judge

CARD = """# The bundled model

A small latent diffusion model of drawn scenes (`phosphene.data.simulated.scenes`), made by
`training/train.py` on 2 CPU cores from the configuration `training/config.toml`. The same classes
as Stable Diffusion 1.4: AutoencoderKL, UNet2DConditionModel with cross-attention, CLIPTextModel,
CLIP's tokenizer format, and the same noise schedule. Pictures are {side}x{side}, latents {latent},
contexts {context}. Weights are float16 safetensors.

It knows 18 kinds of object, 9 colours and 9 places and nothing else; it is for demonstrations,
tests and teaching.
The judge (`phosphene/judge`) was trained apart, on scenes alone, and has no part in any picture.

| on held-out scenes | |
|---|---|
{rows}
"""


def generated(model: LatentDiffusion, scenes: Scenes, count: int = 200) -> dict[str, float]:
    """Have the judge look at pictures made from captions of single-object scenes (guidance 5, 50
    steps).
    """
    ids = [i for i in scenes.held_out if len(scenes.scenes[i].things) == 1][:count]
    pictures = []
    for start in range(0, count, 50):
        some = ids[start : start + 50]
        contexts = model.text_to_context([[scenes.captions[i][0]] for i in some])
        pictures.append(model.denoise(None, contexts, steps=50, guidance=5.0, seeds=some))
    made = np.concatenate(pictures)
    rows = [np.concatenate(list(made[k : k + 12]), axis=1) for k in range(0, 96, 12)]
    Image.fromarray(np.concatenate(rows)).save(scenes.file.with_name("generated.png"))
    said = judge_labels(made)
    return {
        f"generated_{name}": right(torch.from_numpy(said[name]), scenes.labels[name][ids])
        for name in said
    }


def psnr(model: LatentDiffusion, scenes: Scenes) -> float:
    """Mean peak signal-to-noise ratio in decibel after encoding and decoding, of 8-bit pictures as
    users get them.
    """
    pictures = np.array(scenes.pictures[scenes.held_out.start :])
    out = np.concatenate(
        [model.latent_to_image(model.image_to_latent(p)) for p in np.array_split(pictures, 20)]
    )
    error = ((out.astype(float) - pictures) ** 2).mean(axis=(1, 2, 3))
    return float((10 * np.log10(255**2 / error)).mean())


def measure(config: dict[str, Any]) -> None:
    scenes = Scenes(config)
    model = LatentDiffusion.load("bundled", "cpu")
    files = [f for part in PARTS for f in (BUNDLED / part).rglob("*.safetensors")] + [JUDGE_FILE]
    figures = {
        "psnr_db": psnr(model, scenes),
        **measure_judge(load_judge(), scenes),
        **generated(model, scenes),
    }
    figures["weights_mb"] = sum(f.stat().st_size for f in files) / 1e6
    z = model.image_to_latent(np.array(scenes.pictures[:8]))
    c = model.text_to_context(scenes.captions[:8])
    started = time.monotonic()
    model.denoise(z, c, strength=0.8, steps=50, seeds=range(8))
    figures["seconds_8_pictures_40_steps"] = time.monotonic() - started
    figures = {name: round(value, 4) for name, value in figures.items()}
    Path(__file__).with_name("figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    shape = "x".join(map(str, model.latent_shape()))
    card = CARD.format(
        side=model.size, latent=shape, context="x".join(map(str, model.context_shape)), rows=rows
    )
    (BUNDLED / "README.md").write_text(card)
    print(json.dumps(figures, indent=1))
