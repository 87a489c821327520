"""Networks ready to be asked, and the activations of some of their layers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.models import hub
from phosphene.models.judge.network import load_judge
from phosphene.models.perceptual import weights as files
from phosphene.models.perceptual.formulas import FORMULAS
from phosphene.reading import read_json

CLIP_PATCHES = "vision_model.embeddings.patch_embedding.weight"
CLIP_BLOCKS = "vision_model.encoder.layers."
# what transformers takes for sizes that a configuration does not name
CLIP_DEFAULTS = {"hidden_size": 768, "num_hidden_layers": 12, "patch_size": 32}
# heads of its training; none of its layers
UNUSED = {"swav_resnet50": ("projection_head.", "prototypes.", "fc.")}
ARCHITECTURES = {
    "alexnet": ("alexnet", {}),
    # what torchvision sets for its own weights: they were trained on pictures from -1 to 1, so
    # channels are rescaled
    "inception_v3": ("inception_v3", {"transform_input": True, "init_weights": False}),
    "efficientnet_b1_v1": ("efficientnet_b1", {}),
    "efficientnet_b1_v2": ("efficientnet_b1", {}),
    "swav_resnet50": ("resnet50", {}),
}


def network(name: str, weights: Path | None, device: str) -> nn.Module:
    """Load a network for evaluation; it is kept until its files change."""
    if name == "judge":
        judge = load_judge()
        return judge if torch.device(device).type == "cpu" else copy.deepcopy(judge).to(device)
    paths = files.found(name, weights)
    return _loaded(name, paths, files.digest(paths), device)


@lru_cache(maxsize=8)
def _loaded(name: str, paths: tuple[Path, ...], _digest: str, device: str) -> nn.Module:
    model = (
        _clip(paths) if name == "clip_vit_large_patch14" else _torchvision(name, paths[0]).float()
    )
    hub.refuse_not_finite(str(paths[-1]), model.state_dict())
    model = model.eval().requires_grad_(False).to(device)
    if name == "clip_vit_large_patch14":
        return model
    return model.to(memory_format=torch.channels_last)  # convolutions on the CPU are a third faster


def _torchvision(name: str, path: Path) -> nn.Module:
    from torchvision.models import get_model

    builder, settings = ARCHITECTURES[name]
    unused = UNUSED.get(name, ())
    with torch.device("meta"):  # no memory and no random numbers for what is replaced anyway
        model: nn.Module = get_model(builder, weights=None, **settings)
    if "fc." in unused:
        model.fc = nn.Identity()
    state = {key: value for key, value in files.read(path).items() if not key.startswith(unused)}
    own = model.state_dict()
    # counters of training steps are not in old files and play no part in evaluation
    lacking = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    strange = [k for k in state if k not in own or state[k].shape != own[k].shape]
    if lacking or strange:
        raise PhospheneError(
            f"{path}: does not hold the weights of {name}: of {len(own)} tensors {len(lacking)} "
            "are missing, and "
            f"{len(strange)} are unknown or of another shape "
            f"({', '.join((lacking + strange)[:2])}); get it again "
            f"from {files.wanted(name).address}."
        )
    model.load_state_dict(state, strict=False, assign=True)
    return model


def _clip(paths: tuple[Path, ...]) -> nn.Module:
    from transformers import CLIPVisionModelWithProjection

    _check_clip_sizes(paths)
    vision: Any = CLIPVisionModelWithProjection  # its types do not know of output_loading_info
    hub.refuse_other_files(paths[0].parent)
    try:
        # of CLIP's text model, which lies in the same file and is not wanted
        with (
            _quiet(),
            hub.offline(),
        ):
            model, said = vision.from_pretrained(
                paths[-1].parent,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=torch.float32,
                attn_implementation=hub.ATTENTION,
            )
    except (SafetensorError, RuntimeError, ValueError, OSError, KeyError, TypeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "mismatch" in str(error):  # the library points at a report that it would have printed
            why = f"some tensors have other sizes than {paths[0].name} says"
        raise PhospheneError(
            f"{paths[-1]}: cannot be read as CLIP's vision model ({why[:120]}); get it again from "
            f"{files.wanted('clip_vit_large_patch14').address}."
        ) from None
    lacking = sorted(said["missing_keys"])
    if lacking:
        raise PhospheneError(
            f"{paths[-1]}: does not hold CLIP's vision model: {len(lacking)} tensors are missing "
            f"({lacking[0]}); "
            f"get it again from {files.wanted('clip_vit_large_patch14').address}."
        )
    result: nn.Module = model
    return result


def _check_clip_sizes(paths: tuple[Path, ...]) -> None:
    """Refuse weights of CLIP beside the configuration of a CLIP of another size."""
    from safetensors import safe_open

    disk.check_file(paths[-1])
    config = read_json(paths[0])
    vision = config.get("vision_config", config) if isinstance(config, dict) else None
    if not isinstance(vision, dict):
        raise PhospheneError(f"{paths[0]}: expected a JSON object; get it again")
    try:
        with safe_open(paths[-1], "pt") as file:
            names = list(file.keys())
            if CLIP_PATCHES not in names:
                return  # what is missing is said when it is loaded
            patches = file.get_slice(CLIP_PATCHES).get_shape()
    except SafetensorError:
        return
    blocks = {name.split(".")[3] for name in names if name.startswith(CLIP_BLOCKS)}
    held = {"hidden_size": patches[0], "num_hidden_layers": len(blocks), "patch_size": patches[-1]}
    told = {name: vision.get(name, default) for name, default in CLIP_DEFAULTS.items()}
    if held != told:
        raise PhospheneError(
            f"{paths[-1]}: its vision model has {_sizes(held)}, but {paths[0].name} beside it says "
            f"{_sizes(told)}; get both again from "
            f"{files.wanted('clip_vit_large_patch14').address}."
        )


def _sizes(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    said: Any = logging  # untyped
    level = said.get_verbosity()
    bar = said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(level)
        if bar:
            said.enable_progress_bar()


def activations(
    model: nn.Module, name: str, layers: Sequence[str], batch: Tensor
) -> Mapping[str, NDArray[np.float32]]:
    """Run a batch through a network once and take what leaves some of its layers.

    Activations are copied the moment a layer gives them, before a later layer may work on them in
    place.

    Parameters
    ----------
    model : Module
    name : str
        Of the network.
    layers : sequence of str
        Names of modules; of CLIP ``hidden_states.6`` (what leaves its sixth block) and
        ``image_embeds`` (the projected embedding, of any length); of the judge ``judge-early`` and
        so on.
    batch : Tensor, (n, 3, height, width)

    Returns
    -------
    dict of str to ndarray of float32, (n, n_features)
    """
    caught: dict[str, NDArray[np.float32]] = {}
    handles = []
    for layer in layers:

        def keep(_module: nn.Module, _inputs: Any, output: Any, layer: str = layer) -> None:
            tensor = output if isinstance(output, Tensor) else output[0]
            caught[layer] = tensor.flatten(1).float().cpu().numpy().copy()

        handles.append(model.get_submodule(_path(name, layer)).register_forward_hook(keep))
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return caught


def _path(name: str, layer: str) -> str:
    if name == "judge":
        return layer.removeprefix("judge-")
    if layer == "image_embeds":
        return "visual_projection"
    if layer.startswith("hidden_states."):  # the first hidden state is what enters the first block
        return f"vision_model.encoder.layers.{int(layer.split('.')[1]) - 1}"
    return layer


def computed(layers: Sequence[str], batch: Tensor) -> Mapping[str, NDArray[np.float32]]:
    """Features that need no weights, of a batch (n, 3, side, side) from 0 to 1."""
    return {layer: FORMULAS[layer](batch).flatten(1).float().cpu().numpy() for layer in layers}
