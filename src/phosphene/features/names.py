"""Names of features, and the one parser of them.

``z``, ``c``, ``c:category``, ``z:segmentation``, ``zc@0.5``, ``zc@0.8/step=20``,
``unet/mid@0.8/step=20``. The number after ``@`` is the strength, the share of the noise schedule
that is run; ``step`` counts the denoising steps that are made, from 1: with 50 steps a strength of
0.8 makes 40. Controls of zc: ``zc:empty@0.8`` (empty text), ``zc:other@0.8`` (text of another
picture), ``zc:own-noise@0.8`` (separate noise for each picture).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from phosphene.errors import PhospheneError

PLAIN = ("z", "c", "c:category", "z:segmentation")
EMPTY = "zc:empty"
OTHER = "zc:other"
OWN_NOISE = "zc:own-noise"
_NAME = re.compile(
    r"((?P<kind>zc(:empty|:other|:own-noise)?)|unet/(?P<layer>down\d+|mid|up\d+))"
    r"@(?P<strength>\d+\.?\d*|\.\d+)(/step=(?P<step>\d+))?",
    re.ASCII,
)
_KNOWN = (
    f"expected {', '.join(PLAIN)}, zc@0.5, zc@0.8/step=20 (also zc:empty, zc:other, "
    "zc:own-noise), or "
    "unet/LAYER@0.8/step=20 with down0, down1, ..., mid, up0, up1, ... as LAYER, a strength above "
    "0 and up to 1, and "
    "steps counted from 1."
)


@dataclass(frozen=True)
class Feature:
    """What a feature's name says; ``str`` gives the name back.

    Attributes
    ----------
    kind : str
        "z", "c", "c:category", "z:segmentation", "zc", "zc:empty", "zc:other", "zc:own-noise" or
        "unet".
    strength : float or None
        Of every "zc" and of "unet": more than 0, at most 1.
    step : int or None
        Counted from 1; "zc" without one is the latent after the last step.
    layer : str
        Of "unet": "down0", ..., "mid", "up0", ...
    """

    kind: str
    strength: float | None = None
    step: int | None = None
    layer: str = ""

    def __post_init__(self) -> None:
        found = _NAME.fullmatch(str(self))
        named = (
            self.kind in PLAIN and (self.strength, self.step) == (None, None) or found is not None
        )
        fits = bool(self.layer) == (self.kind == "unet") and not (self.layer and self.step is None)
        if (
            not (named and fits)
            or self.step == 0
            or (self.strength is not None and not 0 < self.strength <= 1)
        ):
            raise PhospheneError(f"feature {str(self)!r}: no such name; {_KNOWN}")

    @classmethod
    def parse(cls, name: str) -> Feature:
        """Read a name; `PhospheneError` says what is possible."""
        if name in PLAIN:
            return cls(name)
        found = _NAME.fullmatch(name)
        if not found:
            raise PhospheneError(f"feature {name!r}: no such name; {_KNOWN}")
        layer = found["layer"] or ""
        step = found["step"]
        return cls(
            found["kind"] or "unet", float(found["strength"]), int(step) if step else None, layer
        )

    def __str__(self) -> str:
        place = f"unet/{self.layer}" if self.kind == "unet" else self.kind
        if self.strength is not None:
            digits = f"{Decimal(repr(float(self.strength))):f}"  # never 1e-05
            place += f"@{digits.rstrip('0').rstrip('.') if '.' in digits else digits}"
        return place + ("" if self.step is None else f"/step={self.step}")


def parsed(names: Sequence[str | Feature]) -> list[Feature]:
    """Read several names, which come in a list: a text alone would be read letter by letter."""
    if isinstance(names, str):
        raise PhospheneError(f"features: found the text {names!r}, expected a list: [{names!r}].")
    return [name if isinstance(name, Feature) else Feature.parse(name) for name in names]


def slug(named: object) -> str:
    """The name of a feature, or of several together, as it can stand in the name of a file or
    folder.
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", str(named).replace("step=", "step"))
