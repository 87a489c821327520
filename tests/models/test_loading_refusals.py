"""Loading what is wrong: damaged, partial and foreign files are named in one sentence; no pickle is
executed.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from phosphene.errors import PhospheneError
from phosphene.models.diffusion import loading
from phosphene.models.diffusion.sources import network_key
from support.model_layouts import SMALL, Written

# names that only these families have
SDXL_BIAS = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
SD3_BIAS = "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias"


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    return Written(tmp_path_factory.mktemp("sd1"), "sd1")


def load(name) -> loading.Nets:
    return loading.nets(name, "cpu", torch.float32)


def cut(file: Path, target: Path) -> Path:
    target.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    return target


def test_damaged_and_foreign_files_are_named(sd1, tmp_path):
    def saved(tensors: dict) -> Path:
        path = tmp_path / f"wrong{len(list(tmp_path.iterdir()))}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        path.with_suffix(".phosphene.json").write_text(json.dumps(SMALL["sd1"]))
        return path

    state = sd1.state
    some = [key for key in state if "input_blocks.1.1" in key]
    one = "first_stage_model.decoder.conv_in.bias"
    garbage = tmp_path / "garbage.ckpt"
    garbage.write_bytes(b"this is no checkpoint")
    cases = [
        (cut(sd1.safetensors, tmp_path / "cut.safetensors"), "damaged or cut-off"),
        (cut(sd1.ckpt, tmp_path / "cut.ckpt"), "damaged or cut-off"),
        (garbage, "damaged or cut-off"),
        (tmp_path / "nowhere.safetensors", "found no folder or file"),
        (
            saved({k: v for k, v in state.items() if k not in some}),
            rf"its U-Net lacks {len(some)} tensors \(down_blocks.0.attentions.0.norm.bias, .*…\)",
        ),
        (
            saved({k: v for k, v in state.items() if k != one}),
            r"autoencoder lacks 1 tensors \(decoder.conv_in.bias\)",
        ),
        (
            saved({k: v for k, v in state.items() if not k.startswith("cond_stage")}),
            "without text encoder",
        ),
        (
            saved({k: v for k, v in state.items() if k.startswith("model.")}),
            "without text encoder .* and autoencoder",
        ),
        (saved(state | {one: torch.ones(5)}), r"conv_in.bias \(5,\), expected \(16,\)"),
        (saved({"lora_unet_down_blocks_0.lora_up.weight": torch.ones(2, 2)}), "a LoRA"),
        (saved({SDXL_BIAS: torch.ones(2)}), "SDXL"),
        (
            saved(
                {
                    SD3_BIAS: torch.ones(9216),
                    "model.diffusion_model.pos_embed": torch.ones(1, 36864, 2),
                }
            ),
            "Stable Diffusion 3",
        ),
        (saved({"x.weight": torch.ones(2)}), "unknown names"),
    ]
    for path, sentence in cases:
        with pytest.raises(PhospheneError, match=sentence) as caught:
            load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_and_foreign_folders_are_named(sd1, tmp_path):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(sd1.folder, tmp_path / name))

    weights = "unet/diffusion_pytorch_model.safetensors"
    partial, cut_off, empty, xl, third, broken, painting = map(copy, "abcdefg")
    state = load_file(partial / weights)
    save_file(
        {k: v for k, v in state.items() if "conv_out" not in k}, partial / weights, {"format": "pt"}
    )
    cut(sd1.folder / weights, cut_off / weights)
    (empty / weights).unlink()
    (xl / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    shutil.rmtree(third / "unet")
    (broken / "scheduler/scheduler_config.json").write_text("{")
    config = json.loads((painting / "unet/config.json").read_text()) | {"in_channels": 9}
    (painting / "unet/config.json").write_text(json.dumps(config))
    save_file(
        state | {"conv_in.weight": torch.ones(16, 9, 3, 3)}, painting / weights, {"format": "pt"}
    )
    for folder, sentence in (
        (partial, r"lacks 2 tensors \(conv_out.bias, conv_out.weight\)"),
        (cut_off, "damaged or cut-off"),
        (empty, "found no weights"),
        (xl, "is a StableDiffusionXLPipeline, which is not supported"),
        (third, "lacks unet/"),
        (broken, "scheduler_config.json: could not be read as JSON"),
        (painting, "9 input channels"),
    ):
        with pytest.raises(PhospheneError, match=sentence) as caught:
            load(folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


class Evil:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.system, (f"touch {self.made}",)


def test_nothing_in_a_pickle_is_executed(sd1, tmp_path):
    made = tmp_path / "made"
    torch.save({"state_dict": sd1.state, "extra": Evil(made)}, tmp_path / "zip.ckpt")
    torch.save(
        {"state_dict": Evil(made)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False
    )
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Evil(made), protocol=2))
    (tmp_path / "newer.ckpt").write_bytes(pickle.dumps(Evil(made), protocol=4))
    folder = Path(shutil.copytree(sd1.folder, tmp_path / "folder"))
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    torch.save({"x": Evil(made)}, folder / "vae/diffusion_pytorch_model.bin")
    for name in ("zip.ckpt", "old.ckpt", "plain.ckpt", "folder"):
        for use in (load, loading.describe):
            with pytest.raises(
                PhospheneError, match=r"Python objects \(\w+\.system\), which could run code"
            ):
                use(tmp_path / name)
        assert not made.exists()
    with pytest.raises(PhospheneError, match="damaged or cut-off file .Unsupported operand"):
        load(tmp_path / "newer.ckpt")
    assert not made.exists()
    pickle.loads((tmp_path / "plain.ckpt").read_bytes())
    assert made.exists()  # the pickle was indeed a trap


CODE = {
    "_attn_implementation": "org/kernel@main:attention",
    "attn_implementation": "org/kernel",
    "auto_map": {"AutoModel": "modeling.Model"},
    "quantization_config": {"quant_method": "bitsandbytes"},
    "transformers_weights": "other.safetensors",
}


@pytest.mark.parametrize("key", CODE)
def test_a_configuration_that_asks_for_code(sd1, tmp_path, key, monkeypatch):
    """No part of a model may name a kernel or a module; nothing is fetched, and nothing asked for
    it.
    """
    import huggingface_hub

    def fetched(*_, **__):
        raise AssertionError("the hub was asked")

    for name in ("hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, fetched)
    for file in ("text_encoder/config.json", "unet/config.json", "vae/config.json"):
        folder = Path(shutil.copytree(sd1.folder, tmp_path / file.split("/")[0]))
        config = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(config | {"nested": [{key: CODE[key]}]}))
        with pytest.raises(
            PhospheneError, match=f"config.json: {key} is .* which asks for code, kernels or"
        ):
            load(folder)
    shutil.copy(sd1.safetensors, tmp_path / "single.safetensors")
    settings = {
        **SMALL["sd1"],
        "text_encoder": SMALL["sd1"].get("text_encoder", {}) | {key: CODE[key]},
    }
    (tmp_path / "single.phosphene.json").write_text(json.dumps(settings))
    with pytest.raises(PhospheneError, match=f"single.phosphene.json: {key} is "):
        load(tmp_path / "single.safetensors")


def test_the_libraries_are_offline_while_a_model_loads(sd1, monkeypatch):
    from huggingface_hub import constants

    seen = []
    usual = loading._from_folder
    monkeypatch.setattr(
        loading, "_from_folder", lambda *a: seen.append(constants.HF_HUB_OFFLINE) or usual(*a)
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    nets = load(sd1.folder)
    assert seen == [True] * 3 and constants.HF_HUB_OFFLINE is False
    assert nets.text.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("key", ["vocab", "merges"])
def test_a_tokenizer_that_reads_other_files(sd1, tmp_path, key):
    """The library would open them, wherever they are, in place of those of the model."""
    folder = Path(shutil.copytree(sd1.folder, tmp_path / "model"))
    path = folder / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "/etc/passwd"}))
    with pytest.raises(
        PhospheneError, match=f'tokenizer_config.json: {key} is "/etc/passwd", which asks'
    ):
        load(folder)


def test_shards_that_are_not_hashed(sd1, tmp_path):
    """A list of shards decides what is loaded: it may name only the files that are hashed and
    checked.
    """
    folder = Path(shutil.copytree(sd1.folder, tmp_path / "model"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, folder / "unet" / "zzz.safetensors")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    names = list(load_file(weights))
    before = network_key(folder, "unet")
    index.write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "zzz.safetensors")})
    )
    for call in (load, lambda name: network_key(name, "unet"), loading.describe):
        with pytest.raises(
            PhospheneError, match="index.json: names weights in zzz.safetensors, expected one of"
        ):
            call(folder)
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, weights.name)}))
    load(folder)
    assert network_key(folder, "unet") != before
