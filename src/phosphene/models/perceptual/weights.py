"""Where the weights of networks lie on this machine. Nothing is ever fetched.

Looked at in this order: the folder given, that of ``PHOSPHENE_WEIGHTS``, the checkpoints of torch
hub, and for CLIP the cache of Hugging Face. Files are tensors alone, so that opening one runs no
code of its own.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.models import tensor_files

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "PHOSPHENE_WEIGHTS"
# of its own hubconf.py
SWAV_ADDRESS = "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"
CLIP_REPOSITORY = "openai/clip-vit-large-patch14"
CLIP_FILES = ("config.json", "model.safetensors")
TORCHVISION = "https://download.pytorch.org/models/"
FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "inception_v3": "inception_v3_google-0cc3c7bd.pth",
    "efficientnet_b1_v1": "efficientnet_b1_rwightman-bac287d4.pth",
    "efficientnet_b1_v2": "efficientnet_b1-c27df63c.pth",
}
"""Networks whose weights torchvision names: their files."""


@dataclass(frozen=True)
class Wanted:
    """The files of a network: any of the tuples `files` will do; its address, in words."""

    network: str
    files: tuple[tuple[str, ...], ...]
    address: str


@lru_cache
def wanted(network: str) -> Wanted:
    """Which files hold a network's weights."""
    if network == "clip_vit_large_patch14":
        folder = CLIP_REPOSITORY.split("/")[1]
        return Wanted(
            network,
            (tuple(f"{folder}/{name}" for name in CLIP_FILES),),
            f"{CLIP_REPOSITORY} (Hugging Face)",
        )
    address = SWAV_ADDRESS if network == "swav_resnet50" else TORCHVISION + FILES[network]
    name = PurePosixPath(address).name
    stem = name.removesuffix(".tar").removesuffix(".pth")
    return Wanted(network, ((name,), (f"{stem}.safetensors",)), address)


def places(weights: Path | None) -> list[Path]:
    """Folders where weights may lie, first choice first."""
    named = [weights] if weights is not None else []
    if os.environ.get(VARIABLE):
        named.append(disk.expand_home(os.environ[VARIABLE]))
    return [*named, _torch_hub() / "checkpoints"]


def _torch_hub() -> Path:
    """The folder of torch hub, as torch derives it from the environment."""
    if "TORCH_HOME" in os.environ:
        return disk.expand_home(os.environ["TORCH_HOME"]) / "hub"
    return disk.cache_folder().parent / "torch" / "hub"


def find(network: str, weights: Path | None) -> tuple[Path, ...] | None:
    """Find the files of a network, or None."""
    for place in places(weights):
        for names in wanted(network).files:
            paths = tuple(place / name for name in names)
            if all(disk.exists(path) and path.is_file() for path in paths):
                return paths
    return _in_hugging_face_cache() if network == "clip_vit_large_patch14" else None


def _in_hugging_face_cache() -> tuple[Path, ...] | None:
    from huggingface_hub import try_to_load_from_cache

    # looks at the disk only
    found = [try_to_load_from_cache(CLIP_REPOSITORY, name) for name in CLIP_FILES]
    paths = tuple(Path(path) for path in found if isinstance(path, str))
    # files of two different snapshots do not belong together
    return (
        paths
        if len(paths) == len(CLIP_FILES) and len({path.parent for path in paths}) == 1
        else None
    )


def why_missing(network: str, weights: Path | None) -> str | None:
    """One sentence on a network whose weights are not there, None when they are."""
    if find(network, weights) is not None:
        return None
    need = wanted(network)
    names = " and ".join(need.files[0]) + (" (or .safetensors)" if len(need.files) > 1 else "")
    looked = [_displayed(place) for place in places(weights)]
    cache = ", nor in the cache of Hugging Face" if network == "clip_vit_large_patch14" else ""
    return (
        f"{network}: found no {names} in {', '.join(looked)}{cache}; take it from {need.address} "
        "and put it into "
        f"{looked[0]}, or name the folder where it lies by --weights, `weights` of the study, or "
        f"{VARIABLE}."
    )


def _displayed(path: Path) -> str:
    """A path without the user's name in it: these sentences are kept in results and reports."""
    try:
        inside = path.absolute().relative_to(Path.home())
    except (RuntimeError, ValueError):
        return str(path)
    return str(Path("~", inside))


def found(network: str, weights: Path | None) -> tuple[Path, ...]:
    """Find the files of a network; refused in one sentence where there are none."""
    paths = find(network, weights)
    if paths is None:
        raise PhospheneError(str(why_missing(network, weights)))
    return paths


def digest(paths: tuple[Path, ...]) -> str:
    """Hash of the files' whole contents."""
    return "".join(disk.content_hashes(paths))


def read(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors, ``.pth`` or ``.safetensors``; names lose the ``module.`` of
    parallel training.

    Raises
    ------
    PhospheneError
        When the file is damaged or holds anything but tensors.
    """
    import torch
    from safetensors import SafetensorError

    try:
        state = tensor_files.read(path, mapped=False)
    except PhospheneError:
        raise
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        OSError,
    ) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PhospheneError(
            f"{path}: cannot be read as tensors ({why[:120]}); it is damaged or no file of "
            "weights, get it again."
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise PhospheneError(
            f"{path}: found {type(state).__name__}, expected named tensors and nothing else."
        )
    return {str(name).removeprefix("module."): value for name, value in state.items()}
