"""The known brain: voxels on real cortex whose answers to drawn scenes are known exactly.

Early voxels have receptive fields for colour, contrast and oriented energy, laid out
retinotopically; higher voxels mix what is there, in which colour and where. Nothing here knows a
diffusion model: a decoder must find its features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import scipy.fft
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from phosphene.data import atlas
from phosphene.data.simulated.scenes import CATEGORIES, COLOURS, PLACES, Scene, render, sample_scene
from phosphene.seeds import rng

Floats = NDArray[np.float32]

SLAB = np.array([[-72.0, -108.0, -46.0], [72.0, -20.0, 80.0]])  # posterior cortex on fsaverage, mm
DEPTHS = (0.25, 0.5, 0.75)  # of cortex, from pial to white, as NSD's layerB1, B2, B3
EYE = 64  # the brain sees every picture at 64 x 64 pixels
ORIENTATIONS = np.arange(4) * np.pi / 4
WAVELENGTHS = (4.0, 8.0, 16.0)  # pixels of the eye
N_CHANNELS = 5 + len(ORIENTATIONS) * len(WAVELENGTHS)
# scenes that fix every voxel's mean and spread, whatever pictures are shown later
N_REFERENCE = 300
MEDIAN_NCSNR = 0.36  # in nsdgeneral, as in NSD's subj01
ONGOING = 0.2  # share of the noise variance that looks like answers to pictures
# Shares of a voxel's signal variance: the eye, category, colour, category x colour, place,
# position, category x side.
SHARES = {
    "early": (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "midventral": (0.55, 0.20, 0.10, 0.02, 0.08, 0.05, 0.0),
    "midlateral": (0.55, 0.20, 0.03, 0.0, 0.07, 0.12, 0.03),
    "midparietal": (0.55, 0.06, 0.02, 0.0, 0.07, 0.30, 0.0),
    "ventral": (0.10, 0.43, 0.18, 0.05, 0.18, 0.04, 0.02),
    "lateral": (0.12, 0.45, 0.06, 0.02, 0.10, 0.18, 0.07),
    "parietal": (0.15, 0.12, 0.04, 0.0, 0.09, 0.55, 0.05),
}


@dataclass(frozen=True)
class Anatomy:
    """Where a simulated subject's cortex lies in its functional grid.

    Attributes
    ----------
    shape : tuple of int
        Grid (X, Y, Z): left to right, posterior to anterior, inferior to superior.
    affine : ndarray, shape (4, 4)
        As in NSD: the origin is the slab's centre, so it does not register the grid with any
        anatomy.
    shift : ndarray, shape (3,)
        fsaverage mm minus functional mm: the registration that the header does not tell.
    layers : dict of ndarray, shape (3, n_vertices, 3)
        Per hemisphere ("lh", "rh") the fsaverage5 vertices at the three depths, fsaverage mm.
    labels : dict of ndarray of int16, shape (X, Y, Z)
        Per atlas: -1 outside cortex, 0 unlabelled cortex, 1..N.
    left, mask : ndarray of bool, shape (X, Y, Z)
        Nearest to the left hemisphere; the liberal brain mask.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    shift: NDArray[np.float64]
    layers: dict[str, NDArray[np.float64]]
    labels: dict[str, NDArray[np.int16]]
    left: NDArray[np.bool_]
    mask: NDArray[np.bool_]


def draw_anatomy(seed: int, subject: str, voxel_size: float = 4.0) -> Anatomy:
    """Place fsaverage5 cortex (bundled with nilearn) in a grid of `voxel_size` mm, shifted a little
    per subject.
    """
    import nibabel as nib
    from nilearn.datasets import fetch_surf_fsaverage

    meshes = fetch_surf_fsaverage("fsaverage5")
    layers = {}
    for hemisphere, side in (("lh", "left"), ("rh", "right")):
        pial, white = (_vertices(nib.load(meshes[f"{kind}_{side}"])) for kind in ("pial", "white"))
        layers[hemisphere] = np.array([pial + depth * (white - pial) for depth in DEPTHS], float)
    x, y, z = (int(round(extent / voxel_size)) for extent in SLAB[1] - SLAB[0])
    shape = (x, y, z)
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * voxel_size
    shift = SLAB.mean(0) + rng(seed, "anatomy", subject).normal(0, 1, 3)
    centres = np.indices(shape).reshape(3, -1).T * voxel_size + affine[:3, 3] + shift
    points = np.concatenate([layers["lh"].reshape(-1, 3), layers["rh"].reshape(-1, 3)])
    distance, nearest = cKDTree(points).query(centres)
    n_vertices = layers["lh"].shape[1]
    # a vertex has one label at all depths
    vertices = np.concatenate([layers["lh"][1], layers["rh"][1]])
    vertex = nearest % n_vertices + np.where(nearest < 3 * n_vertices, 0, n_vertices)
    labels = {
        name: np.where(distance < 2.5, label[vertex], -1).astype(np.int16).reshape(shape)
        for name, label in atlas.draw_regions(vertices).items()
    }
    left = (nearest < 3 * n_vertices).reshape(shape)
    return Anatomy(shape, affine, shift, layers, labels, left, (distance < 6).reshape(shape))


def _vertices(mesh: Any) -> NDArray[np.float64]:
    return np.asarray(mesh.darrays[0].data, float)


def see(pictures: NDArray[np.uint8]) -> Iterator[Floats]:
    """Yield what the eye's channels see, one after the other, each of shape (n, EYE / 2, EYE / 2).

    Luminance, red-green, blue-yellow, saturation, local contrast, then the amplitude of a
    quadrature pair of Gabors for every orientation of every wavelength, the shortest first.
    """
    if pictures.shape[1] != EYE:
        pictures = np.array(
            [Image.fromarray(p).resize((EYE, EYE), Image.Resampling.BOX) for p in pictures]
        )
    red, green, blue = np.moveaxis(pictures.astype(np.float32) / 255, -1, 0)
    light = (red + green + blue) / 3
    red_green = red - green
    yellow_blue = (red + green) / 2 - blue
    yield from map(_halve, (light, red_green, yellow_blue, np.hypot(red_green, yellow_blue)))
    blur = (0, 2, 2)
    variance = gaussian_filter(light**2, blur) - gaussian_filter(light, blur) ** 2
    yield _halve(np.sqrt(np.maximum(variance, 0)))
    pad = EYE // 8
    spectrum = scipy.fft.fft2(np.pad(light, ((0, 0), (pad, pad), (pad, pad)), mode="edge"))
    fy, fx = np.meshgrid(*[scipy.fft.fftfreq(EYE + 2 * pad)] * 2, indexing="ij")
    for wavelength in WAVELENGTHS:
        for angle in ORIENTATIONS:
            away = (fx - np.cos(angle) / wavelength) ** 2 + (fy - np.sin(angle) / wavelength) ** 2
            # one-sided: its output is the quadrature pair
            gabor = np.exp(-away * (2.5 * wavelength) ** 2 / 2)
            gabor[0, 0] = 0
            energy = np.abs(scipy.fft.ifft2(spectrum * gabor.astype(np.float32)))
            yield _halve(energy[:, pad:-pad, pad:-pad])


def _halve(maps: Floats) -> Floats:
    n, rows, columns = maps.shape
    return np.asarray(maps.reshape(n, rows // 2, 2, columns // 2, 2).mean((2, 4)))


def describe(scenes: Sequence[Scene]) -> list[Floats]:
    """Return the features higher voxels mix: one array (n_scenes, n_features) per semantic share of
    `SHARES`.
    """
    n = len(scenes)
    pair = np.zeros((n, len(CATEGORIES), len(COLOURS)), np.float32)
    place = np.zeros((n, len(PLACES)), np.float32)
    # a 3 x 3 grid of soft detectors, summed size, number of things
    where = np.zeros((n, 11), np.float32)
    side = np.zeros((n, len(CATEGORIES), 2), np.float32)
    grid = np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.3, 0.55, 0.8]), -1).reshape(-1, 2)
    for i, scene in enumerate(scenes):
        place[i, PLACES.index(scene.place)] = 1
        for thing in scene.things:
            kind = CATEGORIES.index(thing.category)
            pair[i, kind, COLOURS.index(thing.colour)] = 1
            side[i, kind] += (1 - thing.x, thing.x)
            where[i, :9] += np.exp(-((grid - (thing.x, thing.y)) ** 2).sum(1) / (2 * 0.15**2))
            where[i, 9:] += (2 * thing.size, 0.5)
    return [pair.max(2), pair.max(1), pair.reshape(n, -1), place, where, side.reshape(n, -1)]


@dataclass(frozen=True)
class KnownBrain:
    """Tuning of one subject's voxels. Build it with :func:`draw_brain`.

    Attributes
    ----------
    voxels : DataFrame
        One row per voxel of the brain mask, C order of (X, Y, Z): x, y, z (0-based), stream ("" =
        answers nothing), general (in nsdgeneral), ncsnr (true, at noise 1), level and spread (mean
        and standard deviation of single-trial betas at noise 1, percent signal change).
    fields : ndarray, shape (n_active, 3)
        Receptive fields of the voxels with a stream: x, y, standard deviation, fractions of the
        picture's side.
    mixing : list of ndarray, shape (n_features, n_active)
        Weights of the features of :func:`describe`.
    weights, mean, sd : ndarray, shape (n_parts, n_active)
        Weight of every part (channel or kind of feature) and its moments over the reference scenes.
    """

    voxels: pd.DataFrame
    fields: Floats
    mixing: list[Floats]
    weights: Floats
    mean: Floats
    sd: Floats

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which voxels of the mask answer to pictures at all, shape (n_voxels,)."""
        return np.asarray(self.voxels["stream"] != "")

    def respond(self, scenes: Sequence[Scene], pictures: NDArray[np.uint8]) -> Floats:
        """Return the noiseless answers, about unit variance over scenes; shape (n_scenes,
        n_active).

        A picture's answer depends on that picture alone.
        """
        blocks = []
        for start in range(0, len(scenes), 250):
            block = slice(start, start + 250)
            total = np.zeros((len(scenes[block]), len(self.fields)), np.float32)
            parts = _parts(self.fields, self.mixing, scenes[block], pictures[block])
            for part, weight, mean, sd in zip(parts, self.weights, self.mean, self.sd, strict=True):
                total += (part - mean) * (weight / sd)
            blocks.append(total)
        return np.concatenate(blocks)


def _parts(
    fields: Floats, mixing: list[Floats], scenes: Sequence[Scene], pictures: NDArray[np.uint8]
) -> Iterator[Floats]:
    """Yield each part of the voxels' signal, shape (n, n_active): channels in receptive fields,
    then features.
    """
    steps = (np.arange(EYE // 2, dtype=np.float32) + 0.5) / (EYE // 2)
    x, y, size = fields.T[:, :, None]
    across = np.exp(-((steps - x) ** 2) / (2 * size**2))
    down = np.exp(-((steps - y) ** 2) / (2 * size**2))
    window = (down[:, :, None] * across[:, None, :]).reshape(len(fields), -1)
    window[window < 1e-6] = 0  # products of tiny (denormal) numbers are fifty times slower
    window /= window.sum(1, keepdims=True)
    for channel in see(pictures):
        yield channel.reshape(len(channel), -1) @ window.T
    for features, weights in zip(describe(scenes), mixing, strict=True):
        yield features @ weights


def draw_brain(anatomy: Anatomy, seed: int, subject: str) -> KnownBrain:
    """Draw one subject's tuning; the same `seed` and `subject` always give the same brain."""
    draw = rng(seed, "brain", subject)
    voxels = _draw_voxels(anatomy, draw)
    active = np.asarray(voxels["stream"] != "")
    streams = np.asarray(voxels["stream"], str)[active]
    place = (
        voxels[["x", "y", "z"]].to_numpy()[active] @ anatomy.affine[:3, :3]
        + anatomy.affine[:3, 3]
        + anatomy.shift
    )
    fields = _draw_fields(place, streams, draw)
    scenes, pictures = _reference(seed)
    mixing = [_patches(place, features.shape[1], draw) for features in describe(scenes)]
    weights = _draw_weights(streams, draw)
    parts = list(_parts(fields, mixing, scenes, pictures))
    mean, sd = (
        np.array([moment(part, 0) for part in parts], np.float32) for moment in (np.mean, np.std)
    )
    sd = np.maximum(sd, 1e-6)
    total = sum(
        (part - m) * (w / s) for part, w, m, s in zip(parts, weights, mean, sd, strict=True)
    )
    weights = (weights / np.std(total, axis=0)).astype(np.float32)
    return KnownBrain(voxels, fields, mixing, weights, mean, sd)


@lru_cache(maxsize=1)
def _reference(seed: int) -> tuple[list[Scene], NDArray[np.uint8]]:
    """Return the scenes that fix every voxel's moments, the same for all subjects."""
    world = rng(seed, "reference")
    scenes = [sample_scene(world) for _ in range(N_REFERENCE)]
    return scenes, np.array([render(scene, EYE) for scene in scenes])


def _draw_voxels(anatomy: Anatomy, draw: np.random.Generator) -> pd.DataFrame:
    index = np.argwhere(anatomy.mask)
    voxels = pd.DataFrame(index, columns=["x", "y", "z"])
    names = np.array(["", *atlas.ATLASES["streams"]])
    voxels["stream"] = names[np.maximum(anatomy.labels["streams"][anatomy.mask], 0)]
    voxels["general"] = anatomy.labels["nsdgeneral"][anatomy.mask] > 0
    ncsnr = np.exp(draw.normal(0, 0.5, len(voxels)))
    ncsnr *= MEDIAN_NCSNR / np.median(ncsnr[voxels["general"]])
    voxels["ncsnr"] = np.where(voxels["stream"] != "", ncsnr, 0.0)
    voxels["level"] = draw.uniform(0.5, 2.0, len(voxels))
    voxels["spread"] = np.clip(np.exp(draw.normal(np.log(1.5), 0.3, len(voxels))), 0.8, 4.0)
    return voxels


def _draw_fields(
    place: NDArray[np.float64], streams: NDArray[np.str_], draw: np.random.Generator
) -> Floats:
    """Receptive fields: retinotopic and small in early cortex, larger beyond."""
    eccentricity, angle = atlas.retinotopy(place)
    radius = 0.70 * eccentricity**0.8  # fractions of the picture's side: the corners are seen too
    x = 0.5 + radius * np.cos(angle)
    y = 0.5 - radius * np.sin(angle)
    x, y = x + draw.normal(0, 0.06, len(x)), y + draw.normal(0, 0.06, len(x))
    early = streams == "early"
    middle = np.char.startswith(streams, "mid")
    size = np.where(early, 0.035 + 0.06 * radius, np.where(middle, 0.12, 0.22))
    x, y = (np.where(early, near, draw.uniform(0.1, 0.9, len(x))) for near in (x, y))
    return np.stack([np.clip(x, 0.0, 1.0), np.clip(y, 0.0, 1.0), size], 1).astype(np.float32)


def _patches(place: NDArray[np.float64], n_features: int, draw: np.random.Generator) -> Floats:
    """Weights that vary in patches of about a centimetre over cortex, as selectivity does, and from
    voxel to voxel.
    """
    waves = draw.normal(0, 1 / 12.0, (3, 64))
    phase = draw.uniform(0, 2 * np.pi, 64)
    smooth = np.cos(place @ waves + phase) @ draw.normal(0, np.sqrt(2 / 64), (64, n_features))
    mixed = np.sqrt(0.6) * smooth + np.sqrt(0.4) * draw.normal(0, 1, smooth.shape)
    return np.asarray(mixed.T, np.float32)


def _draw_weights(streams: NDArray[np.str_], draw: np.random.Generator) -> Floats:
    """Weight of each part of each voxel, shape (n_parts, n_active); squares are shares of variance,
    roughly.
    """
    n = len(streams)
    shares = np.array([draw.dirichlet(10 * np.array(SHARES[stream]) + 1e-6) for stream in streams])
    colours = draw.normal(0, 1, (n, 3)) * (1.0, 0.9, 0.9)
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    amounts = np.abs(draw.normal(0, 1, (n, 2)))  # saturation and contrast only excite
    amounts /= np.linalg.norm(amounts, axis=1, keepdims=True)
    angle = draw.uniform(0, np.pi, (n, 1, 1))
    octave = draw.uniform(-0.5, 2.5, (n, 1, 1))
    preference = np.exp(3 * (np.cos(2 * (ORIENTATIONS - angle)) - 1)) * np.exp(
        -((np.arange(len(WAVELENGTHS))[:, None] - octave) ** 2)
    )
    gabors = preference.reshape(n, -1)
    gabors /= np.linalg.norm(gabors, axis=1, keepdims=True)
    kinds = np.sqrt(shares[:, :1] * draw.dirichlet([6.0, 1.0, 2.0], n))
    channels = [kinds[:, :1] * colours, kinds[:, 1:2] * amounts, kinds[:, 2:] * gabors]
    return np.concatenate([*channels, np.sqrt(shares[:, 1:])], 1).T.astype(np.float32)


def measure(
    brain: KnownBrain,
    anatomy: Anatomy,
    signal: Floats,
    draw: np.random.Generator,
    noise: float = 1.0,
) -> Floats:
    """Scan one session: turn answers into single-trial betas.

    Parameters
    ----------
    signal : ndarray, shape (n_trials, n_active)
        Noiseless answers to the session's trials (:meth:`KnownBrain.respond`).
    draw : numpy.random.Generator
        Trial noise and the session's small drift. A third of the noise variance is shared by
        neighbours, and a fifth is ongoing activity with the covariance of the answers themselves:
        noise that is independent between voxels would average away over a region, which measured
        noise does not.
    noise : float
        Factor of the noise's standard deviation; at 1 the ncsnr is the voxel table's.

    Returns
    -------
    ndarray of float32, shape (n_trials, n_voxels)
        Percent signal change.
    """
    table = brain.voxels
    n = len(signal)
    white = draw.standard_normal((n, *anatomy.shape), dtype=np.float32)
    shared = gaussian_filter(white, (0, 1, 1, 1), mode="wrap")
    shared /= shared.std()
    own = draw.standard_normal((n, len(table)), dtype=np.float32)
    ongoing = own.copy()
    ongoing[:, brain.active] = (
        draw.standard_normal((n, n), dtype=np.float32) @ signal / np.sqrt(np.float32(n))
    )
    error = sum(
        np.sqrt(np.float32(share)) * part
        for share, part in (
            (1 / 3, shared[:, anatomy.mask]),
            (ONGOING, ongoing),
            (2 / 3 - ONGOING, own),
        )
    )
    ncsnr = table["ncsnr"].to_numpy(np.float32)
    spread = table["spread"].to_numpy(np.float32)
    noise_sd = spread / np.sqrt(1 + ncsnr**2)
    gain = 1 + 0.03 * draw.standard_normal(len(table), dtype=np.float32)
    offset = table["level"].to_numpy(np.float32) + 0.1 * draw.standard_normal(
        len(table), dtype=np.float32
    )
    betas = np.float32(noise) * noise_sd * error
    betas[:, brain.active] += (noise_sd * ncsnr)[brain.active] * signal
    return np.asarray(gain * betas + offset, np.float32)
