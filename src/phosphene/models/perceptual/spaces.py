"""Feature spaces in which pictures are compared."""

from __future__ import annotations

from dataclasses import dataclass

from phosphene.models.preparing import AT_64, AT_128, Preparation


@dataclass(frozen=True)
class Space:
    """A feature space in which pictures are compared: a layer of a network for pictures prepared in
    one way.
    """

    name: str
    network: str
    layer: str
    preparation: Preparation


PIXELS = Space("pixels", "formula", "pixels", AT_64)
GABOR = Space("gabor", "formula", "gabor", AT_128)
COLOUR = Space("colour", "formula", "colour", AT_64)
JUDGE = tuple(
    Space(name, "judge", name, AT_64) for name in ("judge-early", "judge-middle", "judge-late")
)
