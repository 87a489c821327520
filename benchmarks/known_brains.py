"""Known brains that benchmarks map: scenes as the model and the brain see them, scans, null brains,
fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import phosphene as ph
from phosphene.data.simulated.brain import KnownBrain, measure
from phosphene.data.simulated.scenes import Scene, captions, render, sample_scene
from phosphene.data.trials import standardise
from phosphene.encoding.design import Design
from phosphene.encoding.fitting import Voxels, fit_block
from phosphene.encoding.models import mixes
from phosphene.models.diffusion.model import LatentDiffusion
from phosphene.numerics import pca
from phosphene.numerics.ridge import Decomposition, RidgeCV
from phosphene.seeds import rng

Array = np.ndarray
SUBJECT = "subj01"
SEED = 0
N_NEW = 3000
BLOCK = 2048
N_VOXELS = 1000
# as encoding.factors.estimator
MODEL = RidgeCV(ph.Study().encode.alphas, fit_intercept=False, standardize=False)
N_MIXES = ph.Study().encode.mixes


@dataclass(frozen=True)
class Size:
    """How many pictures, and how often each is shown."""

    train: int
    test: int
    train_repeats: int
    test_repeats: int = 3
    components: int = 500

    @property
    def taught(self) -> slice:
        """Rows of the training scenes."""
        return slice(N_NEW, N_NEW + self.train)

    @property
    def tested(self) -> slice:
        """Rows of the test scenes."""
        return slice(N_NEW + self.train, N_NEW + self.train + self.test)


SIZES = {  # NSD: 9,000 and 1,000 pictures; z has 1,024 numbers, so that none is cut
    "demo": Size(800, 100, 3),
    "nsd, training pictures once": Size(9000, 1000, 1, components=1024),
    "nsd": Size(9000, 1000, 3, components=1024),
}


@dataclass(frozen=True)
class Sight:
    """Scenes as the model and the brain see them: `N_NEW` new ones first, then those of training,
    last of the test.
    """

    scenes: list[Scene]
    features: dict[str, Array]  # z, c: (n_scenes, d)
    answers: Array  # noiseless, (n_scenes, n_active)


def look(brain: KnownBrain, n: int, cache: Path | None) -> Sight:
    """Draw scenes, and let the model and the brain see them."""
    scenes = [sample_scene(rng(SEED, "maps", "scene", k)) for k in range(n)]
    kept = cache and cache / f"sight-{n}.npz"
    if kept and kept.exists():
        held = np.load(kept)
        return Sight(scenes, {"z": held["z"], "c": held["c"]}, held["answers"])
    model = LatentDiffusion.load("bundled", "cpu")
    pictures = np.array([render(scene, model.size) for scene in scenes])
    some = [slice(k, k + 48) for k in range(0, n, 48)]
    z = np.concatenate([model.image_to_latent(pictures[k]) for k in some])
    c = np.concatenate(
        [model.text_to_context([captions(scene) for scene in scenes[k]]) for k in some]
    )
    answers = brain.respond(scenes, pictures)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, z=z, c=c, answers=answers)
    return Sight(scenes, {"z": z, "c": c}, answers)


def designed(sight: Sight, space: str, size: Size) -> Array:
    """One space of all scenes as the stages `reduce` and `factors` make it: components, centred,
    scaled as a whole.
    """
    rows = sight.features[space]
    train = size.taught
    fitted = np.zeros(len(rows), bool)
    fitted[train] = True
    if rows.shape[1] > size.components:
        rows = pca.principal_components(rows, fitted, size.components).values.astype(np.float16)
    rows = rows.astype(np.float64) - rows[train].astype(np.float64).mean(axis=0)
    return (rows / np.sqrt((rows[train] ** 2).sum() / size.train)).astype(np.float32)


def part(spaces: list[Array], size: Size, *shown: slice) -> Design:
    """Training pictures and those shown afterwards."""
    weight = np.float32(np.sqrt(size.train_repeats))
    later = [np.concatenate([x[rows] for rows in shown]) for x in spaces]
    return Design([x[size.taught] * weight for x in spaces], later, np.full(size.train, weight))


@dataclass(frozen=True)
class Scan:
    """Averaged z-scored responses to training and test pictures, noiseless ones to new pictures,
    all (n, n_voxels).
    """

    train: Array
    test: Array
    truth: Array
    ceiling: Array  # share of the variance of `test` that is signal, (n_active,)


def scan(brain: KnownBrain, anatomy: Any, sight: Sight, size: Size) -> Scan:
    """Measure in sessions, z-score in each, average over trials."""
    counts = np.repeat([size.train_repeats, size.test_repeats], [size.train, size.test])
    draw = rng(SEED, "maps", "scan")
    answers = sight.answers[size.taught.start : size.tested.stop]
    order = draw.permutation(np.repeat(np.arange(len(answers)), counts))
    total = np.zeros((len(answers), len(brain.voxels)), np.float32)
    for trials in np.array_split(
        order, len(order) // 300 if len(order) < 7500 else len(order) // 750
    ):
        betas = standardise(measure(brain, anatomy, answers[trials], draw), slice(None))
        for image, row in zip(trials, betas, strict=True):
            total[image] += row
    total /= counts[:, None].astype(np.float32)
    power = brain.voxels["ncsnr"].to_numpy()[brain.active] ** 2
    truth = np.zeros((N_NEW, total.shape[1]), np.float32)
    signal = power * answers.var(axis=0)
    shown = np.average(answers, axis=0, weights=counts)
    truth[:, brain.active] = np.sqrt(power / (1 + signal)) * (sight.answers[:N_NEW] - shown)
    return Scan(
        total[: size.train], total[size.train :], truth, signal / (signal + 1 / size.test_repeats)
    )


def decomposed(known: Design) -> list[Decomposition]:
    """One decomposition for every mix of the spaces."""
    return [
        MODEL.decompose(known.mixed(mix, known.train)) for mix in mixes(len(known.train), N_MIXES)
    ]


def fit(known: Design, made: list[Decomposition], train: Array, shown: Array) -> dict[str, Array]:
    """:func:`fit_block` for all voxels, in blocks; `train` is not weighted yet."""
    mean = train.mean(axis=0, dtype=np.float64)
    shares = mixes(len(known.train), N_MIXES)
    found = []
    for start in range(0, train.shape[1], BLOCK):
        some = slice(start, start + BLOCK)
        taught = (known.weights[:, None] * (train[:, some] - mean[some])).astype(np.float32)
        voxels = Voxels(taught, shown[:, some] - mean[some], np.ones(taught.shape[1], bool))
        found.append(fit_block(known, voxels, shares, MODEL, lambda k: made[k]))
    return {name: np.concatenate([one[name] for one in found], axis=-1) for name in found[0]}


def adjusted_r2(rows: Array, answers: Array) -> Array:
    """R² of the best linear predictor in the population, estimated without bias; (n_voxels,)."""
    x = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    n = len(rows)
    basis = np.linalg.qr(x)[0]
    y = answers - answers.mean(axis=0, dtype=np.float64)
    r2 = ((basis.T @ y) ** 2).sum(axis=0) / (y**2).sum(axis=0)
    return 1 - (1 - r2) * (n - 1) / (n - x.shape[1] - 1)


def answering(
    brain: KnownBrain, sight: Sight, size: Size, draw: np.random.Generator
) -> dict[str, Array]:
    """Averaged responses (n_train + n_test, N_VOXELS) of voxels that pictures drive, and of three
    kinds of null voxels.

    "white": independent noise; "smooth": noise that neighbours share; "ongoing": answers to scenes
    that were not shown.
    """
    shown = np.arange(size.taught.start, size.tested.stop)
    columns = draw.choice(sight.answers.shape[1], N_VOXELS, replace=False)
    noise = 1 / (
        brain.voxels["ncsnr"].to_numpy()[brain.active][columns] * np.sqrt(size.test_repeats)
    )
    white, *own = draw.standard_normal((3, len(shown), N_VOXELS))
    smooth = gaussian_filter(
        draw.standard_normal((len(shown), 10, 10, N_VOXELS // 100)), (0, 1, 1, 1), mode="wrap"
    )
    others = draw.choice(N_NEW, len(shown), replace=False)
    answers = [
        sight.answers[rows][:, columns] + noise * one
        for rows, one in zip((others, shown), own, strict=True)
    ]
    return {
        "white": white,
        "smooth": smooth.reshape(len(shown), -1),
        "ongoing": answers[0],
        "driven": answers[1],
    }


class Shuffled(KnownBrain):
    """A brain that answers to other pictures than those it is shown."""

    def respond(self, scenes: Any, pictures: Any) -> Any:
        answers = super().respond(scenes, pictures)
        return answers[rng(SEED, "maps", "shuffled", len(answers)).permutation(len(answers))]
