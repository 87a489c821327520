"""Load the nets of a model, without running anything that comes with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phosphene.errors import PhospheneError
from phosphene.models import hub
from phosphene.models.diffusion import checkpoints
from phosphene.models.diffusion.configuration import architecture
from phosphene.models.diffusion.schedule import NoiseSchedule
from phosphene.models.diffusion.sources import (
    NETS,
    Source,
    find,
    read_config,
    read_json,
    scheduler_file,
    settings,
    weight_files,
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
    scheduler_file: Path
    source: str


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
    source = find(name)
    loaded: dict[str, Any] = {}
    with quiet(), hub.offline():
        for net in NETS:
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
        loaded["vae"],
        loaded["unet"],
        loaded["text_encoder"],
        tokenizer,
        scheduler,
        scheduler_file(source),
        _said(source),
    )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _said(source: Source) -> str:
    return "the bundled model" if source.kind == "bundled" else f"{source.kind} {source.path}"


def _from_file(path: Path, net: str, dtype: torch.dtype) -> Any:
    return checkpoints.build(net, path, dtype)


def _from_folder(folder: Path, net: str, dtype: torch.dtype) -> Any:
    import diffusers
    import transformers

    place = folder / net
    hub.refuse_other_files(place)
    read_config(place / "config.json")
    variant, files = weight_files(place)
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


def _tokenizer_and_scheduler(source: Source) -> tuple[Any, dict[str, Any]]:
    if source.kind == "file":
        config = settings(source.path)
        return checkpoints.tokenizer(config["tokenizer"]), config["scheduler"]
    import transformers

    place = source.path / "tokenizer"
    hub.refuse_other_files(place)
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(place, local_files_only=True)
    except Exception as error:  # the library's own errors are plain Exceptions
        raise PhospheneError(
            f"{place}: could not be read as CLIP's tokenizer ({_brief(error)}); download the "
            "model again."
        ) from error
    return tokenizer, read_json(scheduler_file(source))


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
    source = find(name)
    if source.kind == "file":
        state = checkpoints.read(source.path)
        checkpoints.refuse_other_models(source.path, state)
        config = settings(source.path)
        tensors = {net: checkpoints.part(net, state, config) for net in NETS}
    else:
        config = {net: read_config(source.path / net / "config.json") for net in NETS}
        config["scheduler"] = read_json(scheduler_file(source))
        files = {net: weight_files(source.path / net)[1] for net in NETS}
        tensors = {
            net: {k: v for f in files[net] for k, v in checkpoints.read(f).items()} for net in files
        }
    NoiseSchedule.from_config(config["scheduler"], scheduler_file(source))
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
            "architecture": architecture(config),
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
    except (LookupError, TypeError) as error:
        raise PhospheneError(
            f"{source.path}: its configuration lacks {error}; download the model again."
        ) from error


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
