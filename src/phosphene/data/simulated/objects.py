"""The eighteen kinds of object that drawn scenes are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from phosphene.data.simulated.drawing import RGB, Pen, mix

INK: RGB = (38, 32, 40)
GLASS: RGB = (196, 226, 242)
CREAM: RGB = (250, 242, 222)
WOOD: RGB = (112, 72, 44)


def _face(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    wide = 0.66 + 0.12 * a
    pen.ellipse(-wide, 0.08, 0.13, 0.2, mix(c, INK, 0.15), dark)
    pen.ellipse(wide, 0.08, 0.13, 0.2, mix(c, INK, 0.15), dark)
    pen.ellipse(0, 0.06, wide, 0.92, c, dark)
    pen.polygon(
        [
            (-wide, -0.1),
            (-wide * 0.95, -0.62),
            (-0.4, -0.98),
            (0.4, -0.98),
            (wide * 0.95, -0.62),
            (wide, -0.1),
            (wide * 0.72, -0.44),
            (0.1, -0.5 - 0.1 * b),
            (-wide * 0.66, -0.4),
        ],
        INK,
    )
    for side in (-1, 1):
        pen.ellipse(side * 0.3, -0.06, 0.17, 0.13, (255, 255, 255), dark)
        pen.ellipse(side * 0.3, -0.06, 0.075, 0.1, INK)
        pen.line([(side * 0.46, -0.27), (side * 0.16, -0.28)], INK, 0.07)
    pen.line([(0, 0.02), (-0.09, 0.3), (0.06, 0.32)], dark, 0.07)
    pen.curve((0, 0.42), (0.32, 0.2 + 0.08 * b), 15, 165, (150, 32, 48), 0.12)


def _house(pen: Pen, c: RGB, a: float, b: float) -> None:
    eave = -0.2 - 0.12 * a
    roof = (122, 52, 46)
    pen.polygon([(0.36, -0.9), (0.6, -0.9), (0.6, -0.3), (0.36, -0.3)], mix(roof, INK, 0.3))
    pen.polygon([(-0.76, eave), (0.76, eave), (0.76, 1), (-0.76, 1)], c, mix(c, INK, 0.5))
    pen.polygon([(-1, eave), (0, -1), (1, eave)], roof, mix(roof, INK, 0.5))
    pen.polygon([(-0.2, 0.35), (0.2, 0.35), (0.2, 1), (-0.2, 1)], mix(WOOD, INK, 0.3 * b))
    for x in (-0.5, 0.5):
        pen.polygon(
            [(x - 0.16, 0.1), (x + 0.16, 0.1), (x + 0.16, 0.44), (x - 0.16, 0.44)],
            (255, 236, 150),
            INK,
        )


def _cat(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    inner = (240, 160, 170)
    tip = 0.62 + 0.12 * a
    for side in (-1, 1):
        pen.polygon([(side * 0.82, 0.1), (side * tip, -1), (side * 0.12, -0.42)], c, dark)
        pen.polygon([(side * 0.66, -0.2), (side * tip * 0.97, -0.72), (side * 0.34, -0.42)], inner)
    pen.ellipse(0, 0.24, 0.86, 0.74, c, dark)
    for side in (-1, 1):
        pen.ellipse(side * 0.36, 0.1, 0.2, 0.2, (150, 220, 90), INK)
        pen.ellipse(side * 0.36, 0.1, 0.06 + 0.03 * b, 0.17, INK)
        for lift in (0.38, 0.56):
            pen.line([(side * 0.3, 0.47), (side * 1.0, lift)], mix(CREAM, INK, 0.25), 0.045)
    pen.polygon([(-0.11, 0.36), (0.11, 0.36), (0, 0.5)], inner, dark)
    pen.curve((-0.13, 0.52), (0.14, 0.16), 0, 170, dark, 0.06)
    pen.curve((0.13, 0.52), (0.14, 0.16), 10, 180, dark, 0.06)


def _bottle(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    wide = 0.4 + 0.08 * a
    neck = 0.15
    pen.polygon(
        [
            (-neck, -0.8),
            (neck, -0.8),
            (neck, -0.42),
            (wide, -0.1),
            (wide, 1),
            (-wide, 1),
            (-wide, -0.1),
            (-neck, -0.42),
        ],
        c,
        dark,
    )
    pen.polygon(
        [(-neck - 0.06, -1), (neck + 0.06, -1), (neck + 0.06, -0.78), (-neck - 0.06, -0.78)],
        WOOD,
        INK,
    )
    pen.polygon(
        [(-wide, 0.18), (wide, 0.18), (wide, 0.68 + 0.1 * b), (-wide, 0.68 + 0.1 * b)], CREAM, dark
    )
    pen.ellipse(0, 0.44, 0.14, 0.14, dark)
    pen.line([(-wide * 0.6, -0.02), (-wide * 0.6, 0.12)], mix(c, (255, 255, 255), 0.7), 0.1)


def _scissors(pen: Pen, c: RGB, a: float, b: float) -> None:
    steel = (206, 212, 222)
    spread = 0.34 + 0.2 * a
    for side in (-1, 1):
        pen.polygon(
            [
                (side * spread, -1),
                (side * (spread - 0.26), -0.86),
                (-side * 0.16, 0.22),
                (side * 0.1, 0.26),
            ],
            steel,
            mix(steel, INK, 0.6),
        )
    for side in (-1, 1):
        pen.line([(0, 0.12), (side * 0.36, 0.45)], c, 0.2)
        pen.curve((side * 0.46, 0.66), (0.32, 0.28 + 0.04 * b), 0, 360, mix(c, INK, 0.5), 0.26)
        pen.curve((side * 0.46, 0.66), (0.32, 0.28 + 0.04 * b), 0, 360, c, 0.18)
    pen.ellipse(0, 0.14, 0.08, 0.08, INK)


def _shoe(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    ankle = -0.62 - 0.2 * a
    pen.polygon(
        [
            (-0.95, 0.62),
            (-0.9, ankle),
            (-0.62, ankle + 0.12),
            (-0.28, ankle),
            (-0.1, -0.12),
            (0.5, 0.08),
            (0.88, 0.26),
            (1, 0.62),
        ],
        c,
        dark,
    )
    pen.polygon([(-0.98, 0.6), (1, 0.6), (1, 0.86), (-0.98, 0.86)], CREAM, INK)
    pen.polygon([(0.52, 0.1), (0.88, 0.26), (1, 0.6), (0.56, 0.6)], CREAM, dark)
    for i in range(3):
        x = -0.16 + 0.2 * i
        y = -0.2 + 0.12 * i
        pen.line([(x - 0.12, y + 0.12), (x + 0.08, y - 0.06)], CREAM, 0.08)
    pen.curve((-0.55, 0.3), (0.3, 0.16 + 0.08 * b), 200, 340, CREAM, 0.09)


def _chair(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.5)
    seat = 0.1 + 0.1 * a
    for x in (-0.58, 0.62):
        pen.polygon([(x - 0.09, seat), (x + 0.09, seat), (x + 0.09, 1), (x - 0.09, 1)], dark)
    pen.polygon([(-0.7, -1), (-0.46, -1), (-0.42, seat), (-0.7, seat)], c, dark)
    pen.polygon([(-0.5, -0.86), (0.42, -0.74), (0.44, -0.5 + 0.08 * b), (-0.48, -0.56)], c, dark)
    pen.polygon([(-0.5, -0.38), (0.43, -0.3), (0.44, -0.12), (-0.48, -0.16)], c, dark)
    pen.polygon([(0.34, -0.8), (0.5, -0.78), (0.56, seat), (0.4, seat)], c, dark)
    pen.polygon(
        [(-0.78, seat - 0.08), (0.66, seat - 0.08), (0.82, seat + 0.2), (-0.78, seat + 0.2)],
        c,
        dark,
    )


def _scrambled(pen: Pen, c: RGB, a: float, b: float) -> None:
    tones = np.random.default_rng(round(1e6 * (a + 3 * b))).permutation(25)
    step = 2 / 5
    for i, tone in enumerate(tones):
        x = -1 + step * (i % 5)
        y = -1 + step * (i // 5)
        fill = mix(
            c,
            (INK, (255, 255, 255), c, (128, 128, 128), INK)[tone % 5],
            (0.6, 0.6, 0, 0.55, 0.25)[tone % 5],
        )
        pen.polygon([(x, y), (x + step, y), (x + step, y + step), (x, y + step)], fill)
    pen.line([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], INK, 0.08)


def _car(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    roof = -0.5 - 0.12 * a
    pen.polygon([(-0.62, -0.02), (-0.36, roof), (0.34, roof), (0.66, -0.02)], c, dark)
    pen.polygon(
        [(-0.48, -0.02), (-0.29, roof + 0.12), (-0.03, roof + 0.12), (-0.03, -0.02)], GLASS, dark
    )
    pen.polygon(
        [(0.07, -0.02), (0.07, roof + 0.12), (0.28, roof + 0.12), (0.5, -0.02)], GLASS, dark
    )
    pen.polygon(
        [(-1, 0.12), (-0.9, -0.06), (0.72, -0.06), (0.98, 0.14), (1, 0.5), (-1, 0.5)], c, dark
    )
    for x in (-0.56, 0.56):
        pen.ellipse(x, 0.52, 0.27, 0.27, INK)
        pen.ellipse(x, 0.52, 0.1 + 0.04 * b, 0.1 + 0.04 * b, (205, 205, 210))
    pen.ellipse(0.92, 0.2, 0.08, 0.09, (255, 240, 150))


def _boat(pen: Pen, c: RGB, a: float, b: float) -> None:
    pen.line([(-0.06, -1), (-0.06, 0.5)], WOOD, 0.09)
    pen.polygon(
        [(0.04, -0.94), (0.04, 0.34), (0.76 + 0.1 * a, 0.3)], (255, 253, 246), mix(CREAM, INK, 0.5)
    )
    pen.polygon(
        [(-0.16, -0.7), (-0.16, 0.34), (-0.66 - 0.1 * b, 0.32)],
        mix(CREAM, c, 0.15),
        mix(CREAM, INK, 0.5),
    )
    pen.polygon([(-1, 0.42), (1, 0.42), (0.66, 0.95), (-0.66, 0.95)], c, mix(c, INK, 0.55))
    pen.line([(-0.88, 0.58), (0.88, 0.58)], CREAM, 0.07)


def _tree(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.45)
    pen.polygon([(-0.14, 0.1), (0.14, 0.1), (0.2, 1), (-0.2, 1)], WOOD, mix(WOOD, INK, 0.5))
    blobs = [(-0.45, 0.0, 0.44), (0.45, -0.02, 0.44), (0, -0.42 - 0.1 * a, 0.54), (0, 0.06, 0.44)]
    for x, y, r in blobs:
        pen.ellipse(x, y, r + 0.05, r + 0.05, dark)
    for x, y, r in blobs:
        pen.ellipse(x, y, r, r, c)
    for x, y in ((-0.5, 0.02), (0.1, -0.6), (0.48, 0.05), (-0.1 + 0.2 * b, -0.05)):
        pen.ellipse(x, y, 0.13, 0.1, mix(c, (255, 255, 255), 0.28))


def _flower(pen: Pen, c: RGB, a: float, b: float) -> None:
    leaf = (58, 140, 62)
    petals = 6
    turn = math.pi * a / 6
    pen.line([(0, 0), (0.04, 1)], leaf, 0.12)
    pen.ellipse(0.28, 0.74, 0.26, 0.11, leaf, mix(leaf, INK, 0.4))
    pen.ellipse(-0.24, 0.84, 0.24, 0.1, leaf, mix(leaf, INK, 0.4))
    for i in range(petals):
        t = turn + 2 * math.pi * i / petals
        pen.ellipse(0.42 * math.cos(t), -0.32 + 0.42 * math.sin(t), 0.3, 0.3, c, mix(c, INK, 0.4))
    pen.ellipse(0, -0.32, 0.24 + 0.04 * b, 0.24 + 0.04 * b, (150, 96, 30), INK)
    pen.ellipse(0, -0.32, 0.13, 0.13, (250, 200, 60))


def _fish(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    pen.polygon([(0.42, 0.02), (1, -0.46), (0.86, 0.02), (1, 0.5)], mix(c, INK, 0.15), dark)
    pen.polygon([(-0.3, -0.3), (0.0, -0.74 - 0.1 * a), (0.34, -0.24)], mix(c, INK, 0.2), dark)
    pen.ellipse(-0.22, 0.02, 0.76, 0.46, c, dark)
    pen.curve((-0.46, 0.02), (0.16, 0.34), -70, 70, dark, 0.07)
    for x in (-0.08, 0.14):
        pen.curve((x, 0.02), (0.1, 0.2 + 0.06 * b), -70, 70, mix(c, (255, 255, 255), 0.55), 0.07)
    pen.ellipse(-0.66, -0.1, 0.12, 0.12, (255, 255, 255), dark)
    pen.ellipse(-0.67, -0.1, 0.055, 0.055, INK)


def _ball(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.5)
    band = CREAM if sum(c) < 600 else mix(c, INK, 0.4)
    pen.ellipse(0, 0.1, 0.88, 0.88, c, dark)
    pen.curve((0, -0.25 - 0.2 * a), (0.84, 0.62), 18, 162, band, 0.14)
    pen.curve((0, 0.2 + 0.1 * a), (0.84, 0.62), 24, 156, band, 0.14)
    pen.ellipse(-0.34 + 0.1 * b, -0.34, 0.2, 0.13, mix(c, (255, 255, 255), 0.65))


def _cup(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    pen.curve((0.58, 0.2), (0.34, 0.32 + 0.08 * a), -100, 100, dark, 0.26)
    pen.curve((0.58, 0.2), (0.34, 0.32 + 0.08 * a), -100, 100, c, 0.17)
    pen.polygon([(-0.76, -0.32), (0.62, -0.32), (0.5, 0.92), (-0.64, 0.92)], c, dark)
    pen.ellipse(-0.07, -0.34, 0.69, 0.17, CREAM, dark)
    pen.ellipse(-0.07, -0.31, 0.54, 0.1, (92, 56, 36))
    for x in (-0.3, 0.1):
        pen.curve((x, -0.72), (0.08 + 0.04 * b, 0.22), 90, 270, (245, 245, 245), 0.08)
    pen.line([(-0.46, 0.0), (-0.4, 0.6)], mix(c, (255, 255, 255), 0.55), 0.1)


def _bird(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.55)
    pen.polygon([(0.3, 0.2), (1, -0.12 - 0.2 * a), (0.92, 0.3)], mix(c, INK, 0.25), dark)
    for x in (-0.12, 0.14):
        pen.line([(x, 0.6), (x - 0.02, 0.98)], (214, 130, 40), 0.09)
    pen.ellipse(0, 0.24, 0.62, 0.46, c, dark)
    pen.polygon([(-0.78, -0.42), (-1, -0.28), (-0.74, -0.2)], (240, 160, 40), INK)
    pen.ellipse(-0.48, -0.34, 0.36, 0.36, c, dark)
    pen.ellipse(0.16, 0.18, 0.36, 0.24 + 0.05 * b, mix(c, INK, 0.25), dark)
    pen.ellipse(-0.56, -0.42, 0.1, 0.1, (255, 255, 255))
    pen.ellipse(-0.58, -0.42, 0.055, 0.055, INK)


def _umbrella(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.5)
    low = -0.02 + 0.1 * a
    pen.line([(0, -1), (0, 0.78)], INK, 0.1)
    pen.curve((0.16, 0.78), (0.16, 0.18), 0, 180, INK, 0.11)
    top = [(math.cos(t), low - 0.86 * math.sin(t)) for t in np.linspace(0, math.pi, 24)]
    pen.polygon(
        [*top, (-0.66, low - 0.14), (-0.33, low), (0, low - 0.14), (0.33, low), (0.66, low - 0.14)],
        c,
        dark,
    )
    for x in (-0.34, 0.34):
        pen.line(
            [(0, low - 0.86), (x * 0.8, low - 0.5), (x, low - 0.03)],
            mix(c, (255, 255, 255), 0.2 + 0.3 * b),
            0.06,
        )


def _mushroom(pen: Pen, c: RGB, a: float, b: float) -> None:
    dark = mix(c, INK, 0.5)
    wide = 0.24 + 0.08 * a
    pen.polygon(
        [(-wide, 0), (wide, 0), (wide + 0.1, 0.96), (-wide - 0.1, 0.96)],
        CREAM,
        mix(CREAM, INK, 0.5),
    )
    top = [(0.96 * math.cos(t), 0.12 - 1.02 * math.sin(t)) for t in np.linspace(0, math.pi, 24)]
    pen.polygon([*top, (-0.5, 0.24), (0.5, 0.24)], c, dark)
    for x, y, r in (
        (-0.42, -0.34, 0.16),
        (0.12 + 0.1 * b, -0.56, 0.15),
        (0.5, -0.2, 0.14),
        (-0.02, -0.12, 0.12),
    ):
        pen.ellipse(x, y, r, r * 0.85, CREAM)


PAINTERS: dict[str, Callable[[Pen, RGB, float, float], None]] = {
    "face": _face,
    "house": _house,
    "cat": _cat,
    "bottle": _bottle,
    "scissors": _scissors,
    "shoe": _shoe,
    "chair": _chair,
    "scrambled": _scrambled,
    "car": _car,
    "boat": _boat,
    "tree": _tree,
    "flower": _flower,
    "fish": _fish,
    "ball": _ball,
    "cup": _cup,
    "bird": _bird,
    "umbrella": _umbrella,
    "mushroom": _mushroom,
}
