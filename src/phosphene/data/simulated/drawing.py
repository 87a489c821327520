"""The pen that drawn scenes are painted with.

An object is painted inside a box from (-1, -1), top left, to (1, 1), bottom right, whatever its
size in the picture; a place is painted on the whole canvas. Everything is vector drawing with
Pillow on a canvas four times too large, which :func:`phosphene.data.simulated.scenes.render`
shrinks afterwards: that is what makes the edges smooth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Return `a` moved towards `b` by `share` (0 is `a`, 1 is `b`)."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


class Pen:
    """Draws in the box of one object; `flip` mirrors it left to right."""

    def __init__(self, image: Image.Image, centre: Point, half: float, flip: bool = False) -> None:
        self.draw = ImageDraw.Draw(image)
        self.centre = centre
        self.half = half
        self.sign = -1.0 if flip else 1.0

    def at(self, x: float, y: float) -> Point:
        return self.centre[0] + self.sign * x * self.half, self.centre[1] + y * self.half

    def polygon(self, points: Sequence[Point], fill: RGB, edge: RGB | None = None) -> None:
        corners = [self.at(x, y) for x, y in points]
        self.draw.polygon(corners, fill=fill)
        if edge:
            self.draw.line(
                [*corners, corners[0]], fill=edge, width=self.width(0.055), joint="curve"
            )

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, fill: RGB, edge: RGB | None = None
    ) -> None:
        (x0, y0) = self.at(x - rx, y - ry)
        (x1, y1) = self.at(x + rx, y + ry)
        box = (min(x0, x1), y0, max(x0, x1), y1)
        self.draw.ellipse(box, fill=fill, outline=edge, width=self.width(0.055) if edge else 0)

    def line(self, points: Sequence[Point], fill: RGB, width: float) -> None:
        self.draw.line(
            [self.at(x, y) for x, y in points], fill=fill, width=self.width(width), joint="curve"
        )

    def curve(
        self, centre: Point, radius: Point, start: float, stop: float, fill: RGB, width: float
    ) -> None:
        """Draw an arc from angle `start` to `stop`, in degrees clockwise from the right."""
        angles = np.radians(np.linspace(start, stop, 24))
        self.line(
            [
                (centre[0] + radius[0] * math.cos(t), centre[1] + radius[1] * math.sin(t))
                for t in angles
            ],
            fill,
            width,
        )

    def width(self, share: float) -> int:
        return max(1, round(share * self.half))


def vertical_gradient(side: int, stops: Sequence[tuple[float, RGB]]) -> NDArray[np.uint8]:
    """Paint rows from top to bottom through colour `stops` at heights from 0 to 1; (side, side,
    3).
    """
    height = (np.arange(side) + 0.5) / side
    places = [s for s, _ in stops]
    colours = np.array([c for _, c in stops], float)
    column = np.stack([np.interp(height, places, colours[:, k]) for k in range(3)], axis=1)
    return np.repeat(np.rint(column).astype(np.uint8)[:, None], side, axis=1)
