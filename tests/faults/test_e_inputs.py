"""A CLIP folder whose files do not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from phosphene.errors import PhospheneError
from phosphene.models.perceptual.networks import _clip


def clip_folder(folder: Path, layers: int = 2) -> tuple[Path, Path]:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder / "config.json", folder / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", 64), ("num_hidden_layers", 3), ("patch_size", 7)]
)
def test_e6_clip_of_another_size_is_named_with_sizes(tmp_path: Path, name: str, value: int) -> None:
    paths = clip_folder(tmp_path)
    _clip(paths)
    config = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps(config | {name: value}))
    with pytest.raises(PhospheneError) as error:
        _clip(paths)
    said = str(error.value)
    assert "model.safetensors: its vision model has hidden_size 32, num_hidden_layers 2" in said
    assert "config.json beside it says" in said and f"{name} {value}" in said
    assert "report" not in said and "openai/clip-vit-large-patch14" in said


def test_e6_other_tensors_of_another_size(tmp_path: Path) -> None:
    paths = clip_folder(tmp_path)
    config = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(PhospheneError, match="some tensors have other sizes than config.json"):
        _clip(paths)
    save_file({"x": torch.zeros(1)}, paths[1])
    with pytest.raises(PhospheneError, match="tensors are missing"):
        _clip(paths)
