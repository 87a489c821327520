"""Models with random weights, written in the layouts in which people have them: what the tests of
loading read.
"""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from phosphene.models.diffusion import checkpoints
from phosphene.models.diffusion.sources import CONFIGS

# what a small model changes of the shipped configurations; also what stands in the JSON file next
# to a single file
UNET = {
    "block_out_channels": [16, 16, 32],
    "norm_num_groups": 8,
    "sample_size": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
VAE = {
    "block_out_channels": [8, 8, 16],
    "norm_num_groups": 4,
    "sample_size": 32,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}
TEXT = {"intermediate_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
SMALL = {
    "sd1": {
        "unet": UNET | {"cross_attention_dim": 16},
        "vae": VAE,
        "text_encoder": TEXT | {"hidden_size": 16},
    },
    "sd2": {
        "unet": UNET | {"cross_attention_dim": 24, "attention_head_dim": [2, 2, 4]},
        "vae": VAE,
        "text_encoder": TEXT | {"hidden_size": 24},
    },
}
NETS = ("unet", "vae", "text_encoder")


def shipped(family: str) -> dict:
    return json.loads((CONFIGS / f"{family}.json").read_text())


def empty_nets(config: dict) -> dict:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel.from_config(config["unet"]),
            "vae": AutoencoderKL.from_config(config["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**config["text_encoder"])),
        }


def random_states(config: dict, std: float, dtype=torch.float32) -> dict:
    """Random weights of the right names and shapes, all different, so that a swapped pair cannot go
    unnoticed.
    """
    make = torch.Generator().manual_seed(0)
    return {
        name: {
            key: (
                torch.randn(t.shape, generator=make) * std
                + (t.ndim == 1 and key.endswith("weight"))
            ).to(dtype)
            for key, t in net.state_dict().items()
        }
        for name, net in empty_nets(config).items()
    }


# The CompVis layout, written from the module names of the original code
# (ldm/modules/diffusionmodules): an oracle for the converters that the package uses.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def compvis_unet_key(key: str, config: dict) -> str:
    per_level = config["layers_per_block"] + 1
    stem, _, end = key.rpartition(".")
    if stem in UNET_ENDS:
        return f"{UNET_ENDS[stem]}.{end}"
    if m := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", stem):
        place = 2 * int(m[2]) if m[1] == "resnets" else 1
        return f"middle_block.{place}.{RESNET.get(m[3], m[3])}.{end}"
    m = re.fullmatch(
        r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", stem
    )
    level = int(m[2])
    kind = m[3]
    layer = int(m[4])
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * per_level}.0.op.{end}"
    if kind == "upsamplers":
        after = 2 if config["up_block_types"][level].startswith("CrossAttn") else 1
        return f"output_blocks.{level * per_level + per_level - 1}.{after}.conv.{end}"
    block = level * per_level + layer
    side = f"input_blocks.{block + 1}" if m[1] == "down" else f"output_blocks.{block}"
    return f"{side}.0.{RESNET[m[5]]}.{end}" if kind == "resnets" else f"{side}.1.{m[5]}.{end}"


def compvis_vae_key(key: str, levels: int) -> str:
    key = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", key).replace(
        "down_blocks.", "down."
    )
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    table = {
        "mid_block.attentions.0": "mid.attn_1",
        ".resnets.": ".block.",
        "downsamplers.0": "downsample",
        "upsamplers.0": "upsample",
        "conv_shortcut": "nin_shortcut",
        "conv_norm_out": "norm_out",
        "group_norm": "norm",
        "to_q": "q",
        "to_k": "k",
        "to_v": "v",
        "to_out.0": "proj_out",
    }
    for ours, theirs in table.items():
        key = key.replace(ours, theirs)
    return key


def open_clip_state(state: dict) -> dict:
    """The text transformer as open_clip names it: q, k and v in one matrix, and a last block that
    is not used.
    """
    table = {
        "encoder.layers.": "transformer.resblocks.",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "fc1": "c_fc",
        "fc2": "c_proj",
        "self_attn": "attn",
        "final_layer_norm": "ln_final",
        "embeddings.token_embedding": "token_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
    }
    found = {}
    for key, value in state.items():
        for ours, theirs in table.items():
            key = key.replace(ours, theirs)
        found[key] = value
    for key in [key for key in found if ".q_proj." in key]:
        stem, _, end = key.partition("q_proj.")
        found[f"{stem}in_proj_{end}"] = torch.cat(
            [found.pop(f"{stem}{x}_proj.{end}") for x in "qkv"]
        )
    last = {
        k.replace("resblocks.1.", "resblocks.23."): v * 3
        for k, v in found.items()
        if "resblocks.1." in k
    }
    width = found["ln_final.weight"].shape[0]
    return (
        found
        | last
        | {"text_projection": torch.ones(width, width), "logit_scale": torch.tensor(4.6)}
    )


def compvis_state(states: dict, config: dict, family: str) -> dict:
    levels = len(config["vae"]["block_out_channels"])
    out = {
        f"model.diffusion_model.{compvis_unet_key(k, config['unet'])}": v
        for k, v in states["unet"].items()
    }
    for key, value in states["vae"].items():
        # 1 x 1 convolutions in the original
        conv = re.search(r"attentions\.0\.to_\w+\.(?:0\.)?weight", key)
        out[f"first_stage_model.{compvis_vae_key(key, levels)}"] = (
            value[:, :, None, None] if conv else value
        )
    if family == "sd1":
        text = {
            f"transformer.text_model.{key}": value for key, value in states["text_encoder"].items()
        }
        text["transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    else:
        text = {
            f"model.{key}": value for key, value in open_clip_state(states["text_encoder"]).items()
        }
    out |= {f"cond_stage_model.{key}": value for key, value in text.items()}
    return {k: v.contiguous() for k, v in out.items()} | {
        "betas": torch.ones(1000),
        "model_ema.decay": torch.ones(1),
    }


def lightning_checkpoint(state: dict, path: Path) -> None:
    """Write what pytorch_lightning wrote, as sd-v1-4.ckpt has it: its own class is a key of the
    callbacks.
    """
    name = "pytorch_lightning.callbacks.model_checkpoint"
    modules = {
        part: types.ModuleType(part) for part in (name.split(".")[0], name.rpartition(".")[0], name)
    }
    kind = modules[name].ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    sys.modules.update(modules)
    try:
        extra = {
            "epoch": 5,
            "global_step": 470000,
            "callbacks": {kind: {"monitor": "val", "best": np.float64(0.5)}},
        }
        torch.save({"state_dict": state, **extra}, path)
    finally:
        for module in modules:
            del sys.modules[module]


def write_folder(folder: Path, states: dict, config: dict) -> Path:
    names = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    for net in NETS:
        (folder / net).mkdir(parents=True)
        facts = {"_class_name": names[net]} if net in names else {"model_type": "clip_text_model"}
        (folder / net / "config.json").write_text(json.dumps(config[net] | facts))
        # so it stands in every published text encoder
        prefix = "text_model." if net == "text_encoder" else ""
        file = "model.safetensors" if prefix else "diffusion_pytorch_model.safetensors"
        save_file(
            {prefix + k: v for k, v in states[net].items()}, folder / net / file, {"format": "pt"}
        )
    checkpoints.tokenizer(config["tokenizer"]).save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config["scheduler"]))
    return folder


class Written:
    """A small model in every layout: .folder, .safetensors, .ckpt, and its weights as they were."""

    def __init__(self, root: Path, family: str) -> None:
        config = shipped(family)
        for part, own in SMALL[family].items():
            config[part] |= own
        self.config = config
        self.states = random_states(config, 0.2)
        self.folder = write_folder(root / "folder", self.states, config)
        self.state = compvis_state(self.states, config, family)
        self.safetensors = root / "model.safetensors"
        self.ckpt = root / "model.ckpt"
        save_file(self.state, self.safetensors)
        lightning_checkpoint(self.state, self.ckpt)
        (root / "model.phosphene.json").write_text(json.dumps(SMALL[family]))
