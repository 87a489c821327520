"""The places where drawn scenes happen: skies, grounds and what stands far away."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from phosphene.data.simulated.drawing import RGB, mix, vertical_gradient

Rng = np.random.Generator


def _start(side: int, horizon: float, sky: tuple[RGB, RGB], ground: tuple[RGB, RGB]) -> Image.Image:
    stops = [(0.0, sky[0]), (horizon - 1e-3, sky[1]), (horizon + 1e-3, ground[0]), (1.0, ground[1])]
    return Image.fromarray(vertical_gradient(side, stops))


def _ridge_line(
    draw: ImageDraw.ImageDraw, side: int, base: float, height: float, rng: Rng, fill: RGB
) -> None:
    """Fill a smooth hilly outline of the given `height` that stands on `base`, both as fractions of
    the side.
    """
    x = np.linspace(0, 1, 48)
    waves = np.sum(
        [np.sin(2 * math.pi * (f * x + rng.random())) / f for f in (1.0, 2.0, 3.0)], axis=0
    )
    y = base - height * (0.55 + 0.25 * waves)
    draw.polygon(
        [(0, base * side), *zip(x * side, y * side, strict=True), (side, base * side)], fill=fill
    )


def _cloud(
    draw: ImageDraw.ImageDraw, side: int, x: float, y: float, scale: float, fill: RGB
) -> None:
    for dx, dy, r in (
        (-0.09, 0.01, 0.05),
        (0.0, -0.02, 0.07),
        (0.09, 0.01, 0.055),
        (0.03, 0.025, 0.06),
    ):
        cx = (x + dx * scale) * side
        cy = (y + dy * scale) * side
        half = r * scale * side
        draw.ellipse(
            (cx - 1.4 * half, cy - 0.8 * half, cx + 1.4 * half, cy + 0.8 * half), fill=fill
        )


def _disc(draw: ImageDraw.ImageDraw, side: int, x: float, y: float, r: float, fill: RGB) -> None:
    draw.ellipse(((x - r) * side, (y - r) * side, (x + r) * side, (y + r) * side), fill=fill)


def _beach(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(
        side, horizon, ((92, 178, 232), (196, 230, 242)), ((240, 222, 168), (226, 196, 134))
    )
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, (horizon - 0.13) * side, side, horizon * side), fill=(44, 142, 190))
    draw.rectangle((0, horizon * side - 0.022 * side, side, horizon * side), fill=(236, 246, 246))
    _disc(draw, side, 0.12 + 0.76 * rng.random(), 0.14, 0.075, (255, 238, 150))
    return image


def _meadow(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(
        side, horizon, ((104, 172, 240), (206, 232, 250)), ((118, 190, 78), (78, 150, 56))
    )
    draw = ImageDraw.Draw(image)
    _cloud(draw, side, rng.random(), 0.08 + 0.12 * rng.random(), 1.0, (252, 252, 255))
    _ridge_line(draw, side, horizon + 0.01, 0.16, rng, (146, 204, 104))
    return image


def _snow(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(
        side, horizon, ((160, 188, 216), (222, 232, 242)), ((250, 252, 255), (220, 230, 244))
    )
    draw = ImageDraw.Draw(image)
    shift = rng.random() * 0.3
    for x in (-0.1, 0.3, 0.7):
        peak = (x + shift) * side
        foot = horizon * side
        half = 0.3 * side
        top = (horizon - 0.26) * side
        draw.polygon([(peak - half, foot), (peak, top), (peak + half, foot)], fill=(132, 152, 184))
        draw.polygon(
            [
                (peak - half * 0.4, foot - (foot - top) * 0.6),
                (peak, top),
                (peak + half * 0.4, foot - (foot - top) * 0.6),
            ],
            fill=(248, 250, 255),
        )
    return image


def _night(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(side, horizon, ((12, 14, 46), (44, 46, 104)), ((30, 52, 60), (16, 32, 40)))
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        _disc(draw, side, rng.random(), 0.9 * horizon * rng.random(), 0.011, (236, 236, 210))
    x = 0.15 + 0.7 * rng.random()
    _disc(draw, side, x, 0.15, 0.085, (250, 246, 214))
    _disc(draw, side, x + 0.035, 0.13, 0.07, (20, 22, 58))
    return image


def _sea(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(
        side, horizon, ((140, 196, 230), (228, 240, 244)), ((46, 122, 186), (16, 62, 126))
    )
    draw = ImageDraw.Draw(image)
    for row in np.arange(horizon + 0.07, 1.0, 0.12):
        shift = rng.random() * 0.2
        for x in np.arange(-0.2, 1.1, 0.2):
            box = ((x + shift) * side, row * side, (x + shift + 0.14) * side, (row + 0.05) * side)
            draw.arc(box, 200, 340, fill=(150, 206, 232), width=max(1, round(0.014 * side)))
    _cloud(draw, side, rng.random(), 0.1, 0.9, (250, 252, 255))
    return image


def _desert(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(
        side, horizon, ((250, 170, 96), (254, 222, 156)), ((222, 140, 70), (186, 98, 46))
    )
    draw = ImageDraw.Draw(image)
    _disc(draw, side, 0.15 + 0.7 * rng.random(), horizon - 0.2, 0.1, (255, 244, 190))
    _ridge_line(draw, side, horizon + 0.01, 0.13, rng, (206, 118, 62))
    return image


def _city(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(side, horizon, ((168, 176, 196), (214, 214, 222)), ((96, 98, 106), (70, 72, 80)))
    draw = ImageDraw.Draw(image)
    for i, x in enumerate(np.arange(0, 1, 0.14)):
        top = horizon - 0.14 - 0.24 * rng.random()
        wall = mix((92, 104, 128), (128, 120, 128), float(rng.random()))
        draw.rectangle((x * side, top * side, (x + 0.125) * side, horizon * side), fill=wall)
        for row in np.arange(top + 0.04, horizon - 0.05, 0.08):
            draw.rectangle(
                ((x + 0.03) * side, row * side, (x + 0.095) * side, (row + 0.03) * side),
                fill=(246, 226, 150) if (i + round(row * 100)) % 3 else mix(wall, (0, 0, 0), 0.3),
            )
    for x in np.arange(0.02, 1, 0.26):
        draw.rectangle(
            (x * side, 0.9 * side, (x + 0.14) * side, 0.925 * side), fill=(226, 222, 204)
        )
    return image


def _forest(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(side, horizon, ((136, 178, 158), (186, 210, 180)), ((74, 92, 48), (50, 66, 34)))
    draw = ImageDraw.Draw(image)
    for tone, count in (((62, 112, 84), 6), ((34, 78, 56), 5)):
        for i in range(count):
            x = (i + rng.random() * 0.7) / count
            top = horizon - 0.3 - 0.14 * rng.random()
            for k in range(3):
                y = top + 0.1 * k
                half = 0.06 + 0.025 * k
                draw.polygon(
                    [
                        ((x - half) * side, (y + 0.18) * side),
                        (x * side, y * side),
                        ((x + half) * side, (y + 0.18) * side),
                    ],
                    fill=tone,
                )
    draw.rectangle((0, (horizon + 0.05) * side, side, (horizon + 0.06) * side), fill=(90, 110, 58))
    return image


def _room(side: int, horizon: float, rng: Rng) -> Image.Image:
    image = _start(
        side, horizon, ((226, 190, 176), (238, 206, 190)), ((168, 110, 70), (134, 82, 50))
    )
    draw = ImageDraw.Draw(image)
    for row in np.arange(horizon, 1.0, 0.09):
        draw.rectangle((0, row * side, side, (row + 0.012) * side), fill=(112, 68, 42))
    draw.rectangle((0, (horizon - 0.035) * side, side, horizon * side), fill=(250, 242, 232))
    x = 0.16 + 0.68 * rng.random()
    y = 0.2
    half = 0.12
    draw.rectangle(
        ((x - half) * side, (y - half) * side, (x + half) * side, (y + half) * side),
        fill=(250, 246, 240),
    )
    for dx in (-0.052, 0.052):
        for dy in (-0.052, 0.052):
            box = (x + dx - 0.042, y + dy - 0.042, x + dx + 0.042, y + dy + 0.042)
            draw.rectangle([v * side for v in box], fill=(150, 206, 240))
    return image


PLACES: dict[str, Callable[[int, float, Rng], Image.Image]] = {
    "beach": _beach,
    "meadow": _meadow,
    "snow": _snow,
    "night": _night,
    "sea": _sea,
    "desert": _desert,
    "city": _city,
    "forest": _forest,
    "room": _room,
}
