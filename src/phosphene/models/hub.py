"""Models of other people are data: nothing that comes with one is run, and nothing is fetched for
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.reading import read_json

if TYPE_CHECKING:
    from torch import Tensor

CODE = ("auto_map", "quantization_config", "custom_pipelines", "trust_remote_code")
# name files to be read in place of the usual ones
PATHS = (
    "transformers_weights",
    "gguf_file",
    "vocab",
    "merges",
    "vocab_file",
    "merges_file",
    "tokenizer_file",
    "added_tokens_file",
    "init_inputs",
)
ADAPTER = "adapter_config.json"  # transformers loads what it names on top of the weights
ATTENTION = "sdpa"  # PyTorch's own; a configuration may name a kernel of the hub in its place


def refuse_code(path: Path) -> None:
    """Raise when a model's configuration (a JSON file) asks, at any depth, for code, kernels or
    other files.

    A file that is missing or no JSON is left to whoever loads the model.
    """
    try:
        config = read_json(path)
    except (OSError, PhospheneError):
        return
    for key, value in _entries(config):
        text = isinstance(value, str)
        is_path = text or (key == "init_inputs" and bool(value))
        kernel = "implementation" in key and text and ("/" in value or ":" in value)
        if kernel or (key in CODE and value) or (key in PATHS and is_path):
            raise PhospheneError(
                f"{path}: {key} is {json.dumps(value)[:80]}, which asks for code, kernels or "
                "other files; remove "
                "this entry if the weights are plain ones, or use another copy of the model."
            )


def refuse_other_files(folder: Path) -> None:
    """Refuse every configuration of a folder that asks for code or other files, and adapters, whose
    weights would be loaded without being part of any key.
    """
    for path in disk.list_files(folder, "*.json"):
        if path.name == ADAPTER:
            raise PhospheneError(
                f"{path}: adapters are not read; merge it into the weights, or remove it"
            )
        refuse_code(path)


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(config, dict):
        yield from config.items()
    for value in (
        config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    ):
        yield from _entries(value)


def refuse_not_finite(where: str, weights: Mapping[str, Tensor]) -> None:
    """Raise when a weight is NaN or infinite: pictures and scores would look like those of any
    other model.
    """
    import torch

    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PhospheneError(
                f"{where} has NaN or infinite weights ({name}); copy or download the model again."
            )


@contextmanager
def offline() -> Iterator[None]:
    """Keep the libraries of Hugging Face off the network, whatever a model asks of them."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
