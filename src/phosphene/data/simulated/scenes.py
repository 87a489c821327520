"""Drawn scenes: endless, seeded pictures whose content is known exactly.

A :class:`Scene` is a description: a place with one or two coloured things in it. :func:`render`
paints it, :func:`masks` says where each thing is seen, :func:`captions` describes it in different
words. The bundled diffusion model, its judge and the simulated brain all live in this world, so
every claim about them can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from phosphene.data.simulated import drawing, places
from phosphene.data.simulated.objects import PAINTERS

CATEGORIES = tuple(PAINTERS)
PLACES = tuple(places.PLACES)
PALETTE: dict[str, drawing.RGB] = {
    "red": (214, 40, 44),
    "orange": (246, 132, 28),
    "yellow": (250, 212, 44),
    "green": (56, 160, 66),
    "blue": (44, 92, 212),
    "purple": (138, 62, 178),
    "pink": (246, 142, 186),
    "white": (246, 246, 244),
    "black": (48, 46, 54),
}
COLOURS = tuple(PALETTE)
SUPERSAMPLE = 4  # the canvas is drawn this many times too large, then averaged


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    ``x`` and ``y`` are its centre and ``size`` its height, as fractions of the picture's side;
    ``shape`` holds two numbers from 0 to 1 that vary its proportions, ``tint`` three from -1 to 1
    that vary its colour a little.
    """

    category: str
    colour: str
    x: float
    y: float
    size: float
    shape: tuple[float, float] = (0.5, 0.5)
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """A place with the things in it, the farthest first; ``seed`` fixes the clouds, hills and
    windows.

    ``light`` is what no caption tells: how bright it is, how much brighter to the right and to the
    bottom, and how warm, each from -1 to 1.
    """

    place: str
    things: tuple[Thing, ...]
    horizon: float = 0.55
    seed: int = 0
    light: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def sample_scene(rng: np.random.Generator, n_objects: int | None = None) -> Scene:
    """Draw a random scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        The only source of randomness.
    n_objects : {1, 2}, optional
        How many things; by default two in about 35 % of scenes. Two things are never of one
        category.

    Returns
    -------
    Scene
    """
    count = n_objects or (2 if rng.random() < 0.35 else 1)
    kinds = rng.choice(len(CATEGORIES), size=count, replace=False)
    slots = ((0.31, 0.69),) if count == 1 else ((0.23, 0.31), (0.69, 0.77))
    sizes = (0.44, 0.7) if count == 1 else (0.34, 0.44)
    things = []
    for kind, (left, right) in zip(kinds, slots, strict=True):
        size = float(rng.uniform(*sizes))
        foot = float(rng.uniform(0.84, 0.95))
        things.append(
            Thing(
                category=CATEGORIES[kind],
                colour=COLOURS[rng.integers(len(COLOURS))],
                x=float(rng.uniform(left, right)),
                y=foot - size / 2,
                size=size,
                shape=(float(rng.random()), float(rng.random())),
                tint=(
                    float(rng.uniform(-1, 1)),
                    float(rng.uniform(-1, 1)),
                    float(rng.uniform(-1, 1)),
                ),
                flip=bool(rng.random() < 0.5),
            )
        )
    things.sort(key=lambda thing: thing.y + thing.size / 2)
    place = PLACES[rng.integers(len(PLACES))]
    bright, right, low, warm = (float(value) for value in rng.uniform(-1, 1, 4))
    horizon = float(rng.uniform(0.42, 0.66))
    seed = int(rng.integers(2**31))
    return Scene(place, tuple(things), horizon, seed, (bright, right, low, warm))


def _paint_thing(thing: Thing, side: int) -> Image.Image:
    """Paint one thing on a transparent canvas, lit from the upper left."""
    layer = Image.new("RGBA", (side, side))
    tinted = (np.clip(np.array(PALETTE[thing.colour]) + 9 * np.array(thing.tint), 0, 255)).astype(
        int
    )
    pen = drawing.Pen(layer, (thing.x * side, thing.y * side), thing.size * side / 2, thing.flip)
    PAINTERS[thing.category](pen, (int(tinted[0]), int(tinted[1]), int(tinted[2])), *thing.shape)
    pixels = np.asarray(layer).copy()
    steps = (np.arange(side) + 0.5) / side
    light = 1.05 - 0.28 * ((steps[None] - thing.x) + (steps[:, None] - thing.y)) / thing.size / 2
    pixels[..., :3] = np.clip(pixels[..., :3] * np.clip(light, 0.85, 1.16)[..., None], 0, 255)
    return Image.fromarray(pixels)


def _shine(
    picture: NDArray[np.uint8], light: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """Let light fall on a picture (side, side, 3): strength, direction and warmth of
    :class:`Scene`.
    """
    bright, right, low, warm = light
    steps = (np.arange(len(picture)) + 0.5) / len(picture) * 2 - 1
    strength = 0.86 + 0.16 * bright + 0.24 * right * steps + 0.18 * low * steps[:, None]
    colour = 1 + 0.1 * warm * np.array([1.0, 0.0, -1.0])
    return np.clip(picture * strength[..., None] * colour, 0, 255).astype(np.uint8)


def render(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """Paint a scene.

    Parameters
    ----------
    scene : Scene
    size : int
        Side of the picture in pixels.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
    """
    side = size * SUPERSAMPLE
    canvas = places.PLACES[scene.place](
        side, scene.horizon, np.random.default_rng(scene.seed)
    ).convert("RGBA")
    for thing in scene.things:
        shadow = Image.new("RGBA", canvas.size)
        half = 0.46 * thing.size
        foot = thing.y + thing.size / 2
        box = [
            (thing.x - half) * side,
            (foot - 0.035) * side,
            (thing.x + half) * side,
            (foot + 0.03) * side,
        ]
        ImageDraw.Draw(shadow).ellipse(box, fill=(20, 16, 36, 84))
        canvas = Image.alpha_composite(
            Image.alpha_composite(canvas, shadow), _paint_thing(thing, side)
        )
    return _shine(np.asarray(canvas.convert("RGB").reduce(SUPERSAMPLE)), scene.light)


def masks(scene: Scene, size: int = 64) -> NDArray[np.bool_]:
    """Return where each thing is seen (nearer things hide farther ones); shape (n_things, size,
    size).
    """
    solid = [
        np.asarray(_paint_thing(t, size * SUPERSAMPLE).getchannel("A").reduce(SUPERSAMPLE))
        for t in scene.things
    ]
    seen = []
    hidden = np.zeros((size, size), bool)
    for alpha in reversed(solid):
        inside = alpha >= 128
        seen.append(inside & ~hidden)
        hidden |= inside
    return np.array(seen[::-1])


CATEGORY_WORDS: dict[str, tuple[str, str]] = {
    "face": ("face", "human face"),
    "house": ("house", "cottage"),
    "cat": ("cat", "kitty"),
    "bottle": ("bottle", "glass bottle"),
    "scissors": ("pair of scissors", "pair of shears"),
    "shoe": ("shoe", "sneaker"),
    "chair": ("chair", "wooden seat"),
    "scrambled": ("scrambled picture", "mosaic of squares"),
    "car": ("car", "automobile"),
    "boat": ("boat", "sailboat"),
    "tree": ("tree", "leafy tree"),
    "flower": ("flower", "blossom"),
    "fish": ("fish", "swimming fish"),
    "ball": ("ball", "round ball"),
    "cup": ("cup", "coffee mug"),
    "bird": ("bird", "little bird"),
    "umbrella": ("umbrella", "parasol"),
    "mushroom": ("mushroom", "toadstool"),
}
COLOUR_WORDS: dict[str, tuple[str, str]] = {
    "red": ("red", "crimson"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "white": ("white", "pale"),
    "black": ("black", "dark"),
}
PLACE_WORDS: dict[str, tuple[str, str]] = {
    "beach": ("on the beach", "by the seaside"),
    "meadow": ("in a meadow", "on green grass"),
    "snow": ("in the snow", "before icy mountains"),
    "night": ("at night", "under the stars"),
    "sea": ("on the sea", "among the waves"),
    "desert": ("in the desert", "between hot dunes"),
    "city": ("in the city", "on a street"),
    "forest": ("in the forest", "in the woods"),
    "room": ("in a room", "indoors near a window"),
}


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _name(thing: Thing, wording: int) -> str:
    return _article(
        f"{COLOUR_WORDS[thing.colour][wording]} {CATEGORY_WORDS[thing.category][wording]}"
    )


def captions(scene: Scene, n: int = 5) -> list[str]:
    """Describe a scene in `n` (at most five) differently worded sentences, as COCO's annotators do.

    Four of the five say what, in which colour and where, some also the side or the size; the last
    says only what.
    """
    here, there = PLACE_WORDS[scene.place]
    first = _name(scene.things[0], 0)
    second = _name(scene.things[0], 1)
    if len(scene.things) == 1:
        thing = scene.things[0]
        side = (
            "on the left"
            if thing.x < 0.45
            else "on the right"
            if thing.x > 0.55
            else "in the middle"
        )
        size = "big" if thing.size > 0.57 else "small"
        said = [
            f"{first} {here}",
            f"a picture of {second} {there}",
            f"{here} there is {first} {side}",
            f"{second} seen {there}, quite {size}",
            f"a picture of {_article(CATEGORY_WORDS[thing.category][0])}",
        ]
    else:
        left, right = sorted(scene.things, key=lambda thing: thing.x)
        said = [
            f"{_name(left, 0)} and {_name(right, 0)} {here}",
            f"a picture of {_name(right, 1)} next to {_name(left, 1)} {there}",
            f"{here} there are {_name(left, 0)} and {_name(right, 1)}",
            f"{_name(left, 1)} to the left of {_name(right, 0)} {there}",
            " and ".join(_article(CATEGORY_WORDS[t.category][0]) for t in (left, right)),
        ]
    return said[:n]
