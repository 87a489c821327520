"""Whose evaluation: which pictures go through which network, out of which layer, and how they are
compared.

Data only. A number without its preset is meaningless: the same metric's name stands for other
pictures, layers and directions in every group's scripts. Read from these scripts:

takagi2023
    ``codes/utils/img2feat_decoded.py`` and ``identification.py`` of
    yu-takagi/StableDiffusionReconstruction. Pictures pass as Pillow images: shorter edge to the
    side wanted, centre crop. One input of 299 pixels serves Inception and AlexNet; CLIP has its
    processor's bicubic 224. Its ``image_embeds`` have length one, which correlation does not see.
braindiffuser
    ``scripts/eval_extract_features.py`` and ``evaluate_reconstruction.py`` of
    ozcelikfu/brain-diffuser, with torchvision 0.13.1, Pillow 9.2 and scikit-image 0.17.2 (its
    ``environment.yml``). Every picture is squeezed into 224 x 224 by Pillow, bilinear. PixCorr and
    SSIM resize by Pillow's default instead, which is bicubic. ``efficientnet_b1(weights=True)`` is
    the first set of weights (``IMAGENET1K_V1``).
mindeye
    ``src/Reconstruction_Metrics.py`` of MedARC-AI/fMRI-reconstruction-NSD and
    ``src/final_evaluations.ipynb`` of MedARC-AI/MindEyeV2. Float tensors, all resized to 256 x 256
    first. The notebook's stored output shows torchvision 0.15 or 0.16 at work, where tensors are
    resized without antialiasing; so they are here. EfficientNet has its second set of weights
    (``DEFAULT``). They run CLIP in half precision on the GPU; here all is float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from phosphene.models.perceptual.spaces import COLOUR, GABOR, JUDGE, PIXELS, Space
from phosphene.models.preparing import CLIP, IMAGENET, Preparation, Resize
from phosphene.numerics.directions import Direction

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["two-way", "pixcorr", "ssim", "distance"]
Selection = Literal["mean", "single"]


@dataclass(frozen=True)
class Metric:
    """One measure.

    Attributes
    ----------
    name : str
        As its authors print it: "Alex(2)", "PixCorr".
    kind : {"two-way", "pixcorr", "ssim", "distance"}
        Two-way identification, correlation of pixels, structural similarity, or correlation
        distance of features.
    space : Space or None
        Where the features come from; None for PixCorr and SSIM, which have a `preparation` instead.
    direction : {"takagi2023", "braindiffuser"} or None
        Of two-way identification: what the distractors are.
    preparation : Preparation or None
        Of the pictures of PixCorr and SSIM.
    columns : bool
        SSIM of every column of pixels by itself instead of 11 x 11 windows. That is what
        scikit-image up to 0.19 makes of ``multichannel=True`` for a gray picture: it takes the
        columns for channels. Brain-Diffuser's scripts say so and pin 0.17.2. MindEye 2 says so too,
        but names 0.22, which ignores the word.
    """

    name: str
    kind: Kind
    space: Space | None = None
    direction: Direction | None = None
    preparation: Preparation | None = None
    columns: bool = False

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which end of the scale is the good one."""
        return "lower" if self.kind == "distance" else "higher"


@dataclass(frozen=True)
class Preset:
    """Whose evaluation, in one line, which of several samples of a picture it scores, and its
    measures.
    """

    name: str
    source: str
    selection: Selection
    metrics: tuple[Metric, ...]


KEYS = ["preset", "metric", "direction"]  # columns that say which measure a score is of
DIRECTIONS: dict[str, str] = {
    "takagi2023": "the original is fixed, the distractors are the other reconstructions",
    "braindiffuser": "the reconstruction is fixed, the distractors are the other originals",
}


def _takagi2023() -> Preset:
    at_299 = Preparation((Resize(299, shorter_edge=True),), "round", IMAGENET)
    clip = Preparation((Resize(224, "bicubic", shorter_edge=True),), "floor", CLIP)
    measures = [
        ("AlexNet early", "alexnet", "features.5", at_299),
        ("AlexNet mid", "alexnet", "features.12", at_299),
        ("AlexNet late", "alexnet", "classifier.5", at_299),
        # flattened: dropout in between does nothing at test time
        (
            "Inception",
            "inception_v3",
            "avgpool",
            at_299,
        ),
        ("CLIP early", "clip_vit_large_patch14", "hidden_states.6", clip),
        ("CLIP mid", "clip_vit_large_patch14", "hidden_states.12", clip),
        ("CLIP late", "clip_vit_large_patch14", "image_embeds", clip),
    ]
    metrics = tuple(
        Metric(
            name, "two-way", Space(f"takagi2023/{name}", network, layer, preparation), "takagi2023"
        )
        for name, network, layer, preparation in measures
    )
    return Preset("takagi2023", "Takagi & Nishimoto 2023, released code", "mean", metrics)


def _brain_to_picture(
    preset: str, efficientnet: str, sides: dict[str, tuple[Resize, ...]]
) -> tuple[Metric, ...]:
    """The six measures on features that Brain-Diffuser began and MindEye took over, for pictures of
    these sizes.
    """
    measures: list[tuple[str, Kind, str, str]] = [
        ("Alex(2)", "two-way", "alexnet", "features.4"),
        ("Alex(5)", "two-way", "alexnet", "features.11"),
        ("Inc", "two-way", "inception_v3", "avgpool"),
        ("CLIP", "two-way", "clip_vit_large_patch14", "image_embeds"),
        ("Eff", "distance", efficientnet, "avgpool"),
        ("SwAV", "distance", "swav_resnet50", "avgpool"),
    ]
    metrics = []
    for name, kind, network, layer in measures:
        preparation = Preparation(sides[name], normalisation=CLIP if name == "CLIP" else IMAGENET)
        space = Space(f"{preset}/{name}", network, layer, preparation)
        metrics.append(Metric(name, kind, space, "braindiffuser" if kind == "two-way" else None))
    return tuple(metrics)


def _braindiffuser() -> Preset:
    at_224 = (Resize(224),)
    low = Preparation((Resize(425, "bicubic"),))
    features = _brain_to_picture(
        "braindiffuser",
        "efficientnet_b1_v1",
        dict.fromkeys(("Alex(2)", "Alex(5)", "Inc", "CLIP", "Eff", "SwAV"), at_224),
    )
    pixels = (
        Metric("PixCorr", "pixcorr", preparation=low),
        Metric("SSIM", "ssim", preparation=low, columns=True),
    )
    return Preset(
        "braindiffuser", "Ozcelik & VanRullen 2023, released code", "single", pixels + features
    )


def _mindeye() -> Preset:
    first = Resize(256, by="tensor")

    def then(side: int) -> tuple[Resize, ...]:
        return (first, Resize(side, by="tensor"))

    features = _brain_to_picture(
        "mindeye",
        "efficientnet_b1_v2",
        {
            "Alex(2)": (first,),
            "Alex(5)": (first,),
            "Inc": then(342),
            "CLIP": then(224),
            "Eff": then(255),
            "SwAV": then(224),
        },
    )
    low = Preparation(then(425))
    pixels = (
        Metric("PixCorr", "pixcorr", preparation=low),
        Metric("SSIM", "ssim", preparation=low),
    )
    return Preset(
        "mindeye", "Scotti et al. 2023 and 2024, released code", "single", pixels + features
    )


def _both_directions(spaces: tuple[Space, ...]) -> tuple[Metric, ...]:
    return tuple(
        Metric(space.name, "two-way", space, direction)
        for direction in get_args(Direction)
        for space in spaces
    )


def _scenes() -> Preset:
    return Preset(
        "scenes", "phosphene: the judge of drawn scenes", "mean", _both_directions((*JUDGE, PIXELS))
    )


def _pixel() -> Preset:
    low = Preparation((Resize(425, "bicubic"),))
    pixels = (
        Metric("PixCorr", "pixcorr", preparation=low),
        Metric("SSIM", "ssim", preparation=low),
    )
    spaces = (PIXELS, GABOR, COLOUR)
    return Preset(
        "pixel", "phosphene: no network at all", "mean", pixels + _both_directions(spaces)
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (_takagi2023(), _braindiffuser(), _mindeye(), _scenes(), _pixel())
}


def own_selection(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows whose rule for choosing among samples is their preset's own."""
    own = table["preset"].map({name: preset.selection for name, preset in PRESETS.items()})
    return table[table["selection"] == own]
