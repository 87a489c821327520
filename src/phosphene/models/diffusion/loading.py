"""Find a model by name and load its nets, without the network and without running anything that
comes with it.

A name is "bundled", a folder in diffusers' format, a hub id that lies in the local Hugging Face
cache, or a single ``.safetensors`` or CompVis ``.ckpt`` file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.models import hub
from phosphene.models.diffusion import checkpoints

BUNDLED = Path(__file__).parent / "bundled"
PARTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(\.fp16)?(?:-\d+-of-\d+)?\.(safetensors|bin)"
)


@dataclass(frozen=True)
class Nets:
    """The parts of a latent diffusion model, on their device, for use only.

    ``scheduler_config`` has the fields of diffusers' ``scheduler_config.json``; ``source`` says
    what was loaded.
    """

    vae: Any
    unet: Any
    text: Any
    tokenizer: Any
    scheduler_config: dict[str, Any]
    source: str


@dataclass(frozen=True)
class _Source:
    kind: str  # bundled | folder | hub | file
    path: Path


def _source(name: str | Path) -> _Source:
    path = Path(name).expanduser()
    if str(name) == "bundled":
        return _Source("bundled", _complete(BUNDLED, "reinstall phosphene"))
    if path.is_file():
        return _Source("file", path)
    if path.is_dir():
        return _Source("folder", _complete(path, "point model.name at such a folder"))
    if _HUB_ID.fullmatch(str(name)) and path.suffix not in (".safetensors", ".ckpt"):
        return _Source(
            "hub", _complete(_cached(str(name)), f"get the rest with `hf download {name}`")
        )
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
        raise PhospheneError(
            f"model.name: found no {hub_id!r} in the local Hugging Face cache, and nothing is "
            "downloaded here; get it "
            f"with `hf download {hub_id}`, or give model.name a folder or a .safetensors or .ckpt "
            "file."
        ) from error


def _complete(folder: Path, remedy: str) -> Path:
    index = folder / "model_index.json"
    pipeline = str(_json(index).get("_class_name", "")) if index.is_file() else ""
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


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PhospheneError(
            f"{path}: could not be read as JSON ({error}); copy or download it again."
        ) from error
    if not isinstance(value, dict):
        raise PhospheneError(
            f"{path}: found {type(value).__name__}, expected a JSON object; copy or download it "
            "again."
        )
    return value


def _weights(folder: Path) -> tuple[str | None, list[Path]]:
    """Choose a net's weight files: safetensors before pickles, full precision before the variant
    "fp16".
    """
    named = [
        (m, folder / m[0])
        for m in (_WEIGHTS.fullmatch(file.name) for file in sorted(folder.iterdir()))
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
    for index in folder.glob(f"*{ending}"):
        shards = _json(index).get("weight_map", {})
        others = (
            set(map(str, shards.values())) - known if isinstance(shards, dict) else {str(shards)}
        )
        if others:
            raise PhospheneError(
                f"{index}: names weights in {min(others)}, expected one of "
                f"{', '.join(sorted(known))}; download the "
                "model again, or remove this file."
            )


def nets(name: str | Path, device: str, dtype: torch.dtype) -> Nets:
    """Load a model.

    Parameters
    ----------
    name : str or Path
        "bundled", a folder in diffusers' format, a hub id, or a .safetensors or .ckpt file of
        Stable Diffusion 1.x or 2.x (see :mod:`phosphene.models.diffusion.checkpoints`).
    device : str
        Any torch device.
    dtype : torch.dtype
        Of the U-Net in memory, whatever it is on disk. The autoencoder and the text encoder are
        always float32.

    Raises
    ------
    PhospheneError
        In one sentence: what is missing, damaged, unsafe or of another kind.
    """
    source = _source(name)
    loaded: dict[str, Any] = {}
    with quiet(), hub.offline():
        for net in checkpoints.NETS:
            cast = dtype if net == "unet" else torch.float32
            try:
                model = (_from_file if source.kind == "file" else _from_folder)(
                    source.path, net, cast
                )
                hub.refuse_not_finite(
                    f"{source.path}: its {checkpoints.IN_WORDS[net]}", model.state_dict()
                )
                loaded[net] = model.eval().requires_grad_(False).to(device)
            except PhospheneError:
                raise
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RuntimeError,
                AssertionError,
            ) as error:
                raise PhospheneError(
                    f"{source.path}: its {net} could not be loaded on device {device!r} "
                    f"({_brief(error)}); check the "
                    "model's files and --device."
                ) from error
        tokenizer, scheduler = _tokenizer_and_scheduler(source)
    return Nets(
        loaded["vae"], loaded["unet"], loaded["text_encoder"], tokenizer, scheduler, _said(source)
    )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _said(source: _Source) -> str:
    return "the bundled model" if source.kind == "bundled" else f"{source.kind} {source.path}"


def _from_file(path: Path, net: str, dtype: torch.dtype) -> Any:
    return checkpoints.build(net, path, dtype)


def _from_folder(folder: Path, net: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    place = folder / net
    hub.refuse_code(place / "config.json")
    variant, files = _weights(place)
    # only mapped: a damaged file or a pickle with objects in it is named before the library looks
    for file in files:
        checkpoints.read(file)
    kind, cast = {
        "vae": (diffusers.AutoencoderKL, "torch_dtype"),
        "unet": (diffusers.UNet2DConditionModel, "torch_dtype"),
        "text_encoder": (transformers.CLIPTextModel, "dtype"),
    }[net]
    attention = {"attn_implementation": hub.ATTENTION} if net == "text_encoder" else {}
    model, info = kind.from_pretrained(
        place,
        variant=variant,
        use_safetensors=files[0].suffix == ".safetensors",
        local_files_only=True,
        output_loading_info=True,
        **{cast: dtype},
        **attention,
    )
    checkpoints.refuse_missing(
        f"{place}: {', '.join(file.name for file in files)}", info["missing_keys"]
    )
    _usual(place, model)
    return model


def _usual(place: Path, net: Any) -> None:
    """Refuse nets that need more than a latent, a time and a text: inpainting, depth, SDXL."""
    inputs = getattr(net.config, "in_channels", 0), getattr(net.config, "out_channels", 0)
    extra = getattr(net.config, "addition_embed_type", None)
    if place.name == "unet" and (inputs[0] != inputs[1] or extra is not None):
        raise PhospheneError(
            f"{place}: found a U-Net with {inputs[0]} input channels, {inputs[1]} output channels "
            "and "
            f"addition_embed_type {extra!r}, expected a text-to-image model of Stable Diffusion "
            "1.x or 2.x; use one."
        )


def _tokenizer_and_scheduler(source: _Source) -> tuple[Any, dict[str, Any]]:
    if source.kind == "file":
        config = checkpoints.configuration(source.path, checkpoints.read(source.path))
        return checkpoints.tokenizer(config["tokenizer"]), config["scheduler"]
    import transformers

    place = source.path / "tokenizer"
    hub.refuse_code(place / "tokenizer_config.json")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(place, local_files_only=True)
    except Exception as error:  # the library's own errors are plain Exceptions
        raise PhospheneError(
            f"{place}: could not be read as CLIP's tokenizer ({_brief(error)}); download the "
            "model again."
        ) from error
    return tokenizer, _json(source.path / "scheduler" / "scheduler_config.json")


def describe(name: str | Path) -> dict[str, Any]:
    """Describe a model by its configuration and tensors, which are read but not loaded; refuse
    spoilt weights.

    Returns
    -------
    dict
        source (bundled, folder, hub or file), path, architecture, parameters (per net),
        latent_channels, size (pixels), context_shape (tokens, width), prediction_type, dtype (on
        disk).
    """
    source = _source(name)
    if source.kind == "file":
        state = checkpoints.read(source.path)
        config = checkpoints.configuration(source.path, state)
        tensors = {net: checkpoints.part(net, state, config) for net in checkpoints.NETS}
    else:
        config = {net: _json(source.path / net / "config.json") for net in checkpoints.NETS}
        config["scheduler"] = _json(source.path / "scheduler" / "scheduler_config.json")
        files = {net: _weights(source.path / net)[1] for net in checkpoints.NETS}
        tensors = {
            net: {k: v for f in files[net] for k, v in checkpoints.read(f).items()} for net in files
        }
    for net, held in tensors.items():
        hub.refuse_not_finite(f"{source.path}: its {checkpoints.IN_WORDS[net]}", held)
    weights = {
        net: [t for t in held.values() if t.is_floating_point()] for net, held in tensors.items()
    }
    try:
        latent_side = config["unet"]["sample_size"]
        return {
            "source": source.kind,
            "path": str(source.path),
            "architecture": _architecture(config),
            "parameters": {net: sum(t.numel() for t in held) for net, held in weights.items()},
            "latent_channels": config["vae"]["latent_channels"],
            "size": latent_side * 2 ** (len(config["vae"]["block_out_channels"]) - 1),
            "context_shape": [
                config["text_encoder"][k] for k in ("max_position_embeddings", "hidden_size")
            ],
            "prediction_type": config["scheduler"].get("prediction_type", "epsilon"),
            "dtype": ", ".join(
                sorted(
                    {str(t.dtype).removeprefix("torch.") for held in weights.values() for t in held}
                )
            ),
        }
    except (KeyError, TypeError) as error:
        raise PhospheneError(
            f"{source.path}: its configuration lacks {error}; download the model again."
        ) from error


def _architecture(config: dict[str, Any]) -> str:
    """Name the family whose U-Net and text encoder have these sizes."""
    for family in ("sd1", "sd2"):
        known = json.loads((checkpoints.CONFIGS / f"{family}.json").read_text())
        if all(
            config[net].get(key) == known[net][key]
            for net, key in (
                ("unet", "block_out_channels"),
                ("unet", "cross_attention_dim"),
                ("text_encoder", "num_hidden_layers"),
            )
        ):
            return f"Stable Diffusion {family[2]}.x"
    return "other"


def fingerprint(name: str | Path) -> str:
    """Identify a model by the whole contents of the files that are used, wherever they are
    stored.
    """
    source = _source(name)
    if source.kind != "file":
        parts = [file for part in PARTS[3:] for file in (source.path / part).rglob("*")]
        for net in checkpoints.NETS:
            parts += [*(source.path / net).glob("*.json"), *_weights(source.path / net)[1]]
        return disk.fingerprint("model", source.path, parts)
    beside = source.path.with_suffix(checkpoints.BESIDE)
    family = checkpoints.family(source.path, checkpoints.read(source.path))
    contents = disk.content_hashes([source.path, *([beside] if beside.is_file() else [])])
    return hashlib.blake2b(
        "\0".join(["model file", family, *contents]).encode(), digest_size=16
    ).hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' loading chatter off a user's screen."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loggings = (diffusers.utils.logging, transformers.utils.logging)
    before = [log.get_verbosity() for log in loggings]
    for log in loggings:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, level in zip(loggings, before, strict=True):
            log.set_verbosity(level)
