"""Single files of Stable Diffusion (.safetensors, CompVis .ckpt): read without running anything,
built into nets.

A file holds weights alone. The sizes of the nets and CLIP's vocabulary are facts that ship in
``configs/``; a JSON file next to the checkpoint (``model.phosphene.json`` for
``model.safetensors``) may change them, for instance ``{"scheduler": {"prediction_type":
"epsilon"}}``. Key names are translated by diffusers' own converters.
"""

from __future__ import annotations

import gzip
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.models import hub, tensor_files
from phosphene.models.diffusion.sources import BESIDE, CONFIGS, NETS, settings

PREFIXES = {
    "unet": "model.diffusion_model.",
    "text_encoder": "cond_stage_model.",
    "vae": "first_stage_model.",
}
OTHERS = {
    "xl_base": "SDXL",
    "xl_refiner": "SDXL",
    "xl_inpaint": "SDXL",
    "sd3": "Stable Diffusion 3",
    "sd35_medium": "Stable Diffusion 3.5",
    "sd35_large": "Stable Diffusion 3.5",
}
IN_WORDS = {"unet": "U-Net", "text_encoder": "text encoder", "vae": "autoencoder"}

State = dict[str, Tensor]
Config = dict[str, Any]


class _Ignored:
    """Stands for the training's bookkeeping in a checkpoint; takes what the pickle gives it and
    does nothing.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


# What lightning wrote next to the weights, in sd-v1-4.ckpt too. The names are read as _Ignored:
# nothing of lightning or numpy is called, or need be installed. Any other name in a pickle is
# refused.
_BOOKKEEPING = [
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
]


def read(path: Path) -> State:
    """Map a file's tensors into memory by name; a tensor is read when it is used.

    Raises
    ------
    PhospheneError
        When the file is damaged, or a pickle that holds more than tensors.
    """
    try:
        with torch.serialization.safe_globals([(_Ignored, name) for name in _BOOKKEEPING]):
            state = tensor_files.read(path)
    except PhospheneError:
        raise
    except Exception as error:  # arbitrary bytes make the readers raise almost anything
        objects = (
            re.search(r"GLOBAL ([\w.]+)", str(error))
            if isinstance(error, pickle.UnpicklingError)
            else None
        )
        if objects:
            raise PhospheneError(
                f"{path}: found a pickle with Python objects ({objects[1]}), which could run code "
                "when opened, "
                "expected tensors alone; it was not opened: use a .safetensors file of this model."
            ) from error
        reason = (
            " ".join(str(error).split("WeightsUnpickler error: ")[-1].split())[:120]
            or type(error).__name__
        )
        raise PhospheneError(
            f"{path}: found a damaged or cut-off file ({reason}), expected a checkpoint; copy or "
            "download it again."
        ) from error
    # trainers put the weights under this name; not for ever, a dictionary may hold itself
    for _ in range(2):
        state = state.get("state_dict", state) if isinstance(state, dict) else state
    return (
        {key: value for key, value in state.items() if isinstance(value, Tensor)}
        if isinstance(state, dict)
        else {}
    )


def refuse_other_models(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise with a word for what the file is, when it is not Stable Diffusion 1.x or 2.x in one
    piece.
    """
    from diffusers.loaders import single_file_utils

    library: Any = single_file_utils
    try:
        kind = library.infer_diffusers_model_type(dict(state))
    except Exception:  # it looks at shapes, and is not made for shapes that no model has
        kind = "unknown"
    held = [net for net, prefix in PREFIXES.items() if any(key.startswith(prefix) for key in state)]
    if any("lora" in key.lower() for key in state):
        found = "a LoRA (changes to a model, not a model)"
    elif kind not in ("v1", "v2"):
        found = f"a model of another kind ({OTHERS.get(kind, kind)})"
    elif len(held) == len(NETS):
        return
    elif held:
        gone = [net for net in NETS if net not in held]
        found = (
            "a part of a model, without "
            f"{' and '.join(f'{IN_WORDS[n]} ({PREFIXES[n]}*)' for n in gone)}"
        )
    else:
        found = (
            f"{len(state)} tensors with unknown names ({', '.join(sorted(state)[:3])})"
            if state
            else "no tensors"
        )
    raise PhospheneError(
        f"{path}: found {found}, expected Stable Diffusion 1.x or 2.x with U-Net, text encoder "
        "and autoencoder in one "
        "file; give model.name such a file."
    )


def part(net: str, state: State, config: Config) -> State:
    """Pick one net's tensors from a file and name them as diffusers and transformers do."""
    from diffusers.loaders import single_file_utils

    convert: Any = single_file_utils
    if net == "unet":
        return dict(convert.convert_ldm_unet_checkpoint(state, config["unet"]))
    if net == "vae":
        return dict(convert.convert_ldm_vae_checkpoint(state, config["vae"]))
    text = convert.convert_ldm_clip_checkpoint(state)
    if not text:
        shape = SimpleNamespace(
            config=SimpleNamespace(hidden_size=config["text_encoder"]["hidden_size"])
        )
        text = convert.convert_open_clip_checkpoint(shape, state)
    # transformers dropped the prefix in 5.6; positions are 0, 1, 2, …; the projection is for
    # comparing with pictures
    text = {key.removeprefix("text_model."): value for key, value in text.items()}
    return {
        k: v
        for k, v in text.items()
        if not k.endswith("position_ids") and k != "text_projection.weight"
    }


def build(net: str, path: Path, dtype: torch.dtype) -> Any:
    """Build one net of a file.

    The net is made without memory of its own and takes the tensors, cast one by one; the file is
    mapped anew for each net, so that the pages of one are let go before the next is read.
    """
    import diffusers
    import transformers

    state = read(path)
    refuse_other_models(path, state)
    config = settings(path)
    tensors = part(net, state, config)
    kind: Any = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}.get(net)
    text = {"attn_implementation": hub.ATTENTION}
    net_config = transformers.CLIPTextConfig(**config[net] | text) if kind is None else config[net]
    with torch.device("meta"):
        empty = (
            transformers.CLIPTextModel(net_config) if kind is None else kind.from_config(net_config)
        )
    shapes = {
        key.removeprefix("text_model."): value.shape for key, value in empty.state_dict().items()
    }
    _compare(path, net, shapes, tensors)
    for key in list(tensors):  # copies, so that nothing depends on the file any more
        tensors[key] = tensors[key].to(dtype, copy=True)
    # through the library, which also makes what no checkpoint holds (the positions)
    if kind is None:
        return transformers.CLIPTextModel.from_pretrained(
            None, config=net_config, state_dict=tensors, dtype=dtype
        )
    empty.load_state_dict(tensors, assign=True)
    return empty


def _compare(
    path: Path, net: str, expected: Mapping[str, torch.Size], found: Mapping[str, Tensor]
) -> None:
    where = f"{path}: its {IN_WORDS[net]}"
    refuse_missing(where, [key for key in expected if key not in found])
    odd = [key for key in found if key not in expected or found[key].shape != expected[key]]
    if odd:
        key = odd[0]
        wanted = tuple(expected[key]) if key in expected else "no such tensor"
        raise PhospheneError(
            f"{where} has {len(odd)} tensors of another shape or name, such as {key} "
            f"{tuple(found[key].shape)}, "
            f"expected {wanted}; for a net of other sizes give them in {path.with_suffix(BESIDE)}."
        )


def refuse_missing(where: str, missing: Collection[str]) -> None:
    """Raise when tensors are missing, with the first few names, in the words of diffusers and
    transformers.
    """
    if missing:
        names = ", ".join(sorted(missing)[:3]) + (", …" if len(missing) > 3 else "")
        raise PhospheneError(
            f"{where} lacks {len(missing)} tensors ({names}); use the complete file."
        )


def tokenizer(config: Mapping[str, Any]) -> Any:
    """Build CLIP's tokenizer from the merges that ship.

    Parameters
    ----------
    config : mapping
        "pad_token" ("<|endoftext|>" in Stable Diffusion 1.x, "!", number 0, in 2.x) and
        "model_max_length".
    """
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel

    lines = gzip.decompress((CONFIGS / "clip_merges.txt.gz").read_bytes()).decode().splitlines()
    # CLIP numbers the bytes in the order of the characters that stand for them
    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *(s + "</w>" for s in symbols), *(line.replace(" ", "") for line in lines)]
    vocabulary = {
        word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])
    }
    merges: Any = [tuple(line.split()) for line in lines]
    return transformers.CLIPTokenizer(vocabulary, merges, **config)
