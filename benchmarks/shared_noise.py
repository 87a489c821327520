"""What one noise for all pictures changes in the encoding half: the demo's brain, and the known
brain at NSD's size.

z and zc predict voxels together; unique variance is the R² on the test pictures that is lost
without one of them, mean over the voxels of a stream. zc starts from one noise for all pictures
("zc@0.8"), from separate noise for each, or from one noise with another picture's text or with
empty text. What the text adds is zc over zc with empty text: with a fixed noise the U-Net is a
nonlinear expansion of z. 95 % intervals resample the test pictures (2,000 draws), or are over seeds
(Student's t).

``--part demo``: the demo's scans and pictures, as ``phosphene encode`` reads them; ten noises at
strength 0.8, three at the others; zc averaged over several noises; the category of scenes with one
object, read by a linear classifier. ``--part nsd``: 9,000 training and 1,000 test scenes, each
shown three times, as in ``known_brain_maps.py``.

Features are kept in ``--folder``. Prints JSON and adds it to ``results/shared_noise.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_facts
from joblib import Parallel, delayed
from known_brains import MODEL, N_MIXES, N_NEW, SEED, SIZES, SUBJECT, Array, decomposed, look, scan
from scipy.stats import t as student_t
from sklearn.linear_model import RidgeClassifierCV
from threadpoolctl import threadpool_limits

import phosphene as ph
from phosphene.data.simulated.brain import draw_anatomy, draw_brain
from phosphene.data.trials import image_ids, images_of
from phosphene.encoding.design import Design
from phosphene.encoding.fitting import Voxels, fit_block
from phosphene.encoding.models import mixes
from phosphene.features.names import EMPTY, OTHER, OWN_NOISE
from phosphene.models.diffusion.activations import Denoising, record
from phosphene.models.diffusion.configuration import LATENT
from phosphene.numerics import pca, stats
from phosphene.pipeline.graph import make
from phosphene.seeds import rng
from phosphene.steps.betas import voxel_table
from phosphene.steps.encode import Measured
from phosphene.steps.encode.factors import denoised
from phosphene.steps.encode.models import read_voxels
from phosphene.steps.features import feature_steps
from phosphene.steps.subject import dataset, load_model
from phosphene.study import Compute

Json = dict[str, Any]
STREAMS = ("early", "ventral", "lateral", "parietal")
STRENGTHS = (0.2, 0.5, 0.8, 1.0)
HIGH = 0.8
DRAWS = 2000
COMPONENTS = 500
BLOCK = 2048
PER_PART = 250
STUDY = Path(__file__).parents[1] / "studies" / "demo.toml"


@dataclass(frozen=True)
class Brain:
    """Responses of the voxels of the four streams, and which of the pictures' rows taught and
    tested.
    """

    voxels: Voxels
    streams: Array  # (n_voxels,)
    train: Array  # rows of the features
    test: Array
    weights: Array  # square roots of the numbers of trials, (n_train,)

    def prepare(self, rows: Array) -> tuple[Array, Array]:
        """Principal components of the training pictures, centred, scaled as a whole: training and
        test rows.
        """
        taught = np.zeros(len(rows), bool)
        taught[self.train] = True
        values = pca.principal_components(rows.astype(np.float16), taught, COMPONENTS).values
        train, test = (values[which].astype(np.float64) for which in (self.train, self.test))
        mean = np.average(train, axis=0, weights=self.weights**2)
        weighted = (train - mean) * self.weights[:, None]
        scale = np.sqrt((weighted**2).sum() / (self.weights**2).sum())
        return (weighted / scale).astype(np.float32), ((test - mean) / scale).astype(np.float32)

    def fit(self, *spaces: tuple[Array, Array]) -> dict[str, Array]:
        """:func:`fit_block` for all voxels, from these spaces together."""
        known = Design([train for train, _ in spaces], [test for _, test in spaces], self.weights)
        made = decomposed(known)
        shares = mixes(len(spaces), N_MIXES)
        fitted = []
        for start in range(0, self.voxels.test.shape[1], BLOCK):
            some = slice(start, start + BLOCK)
            n = self.voxels.test[:, some].shape[1]
            block = Voxels(self.voxels.train[:, some], self.voxels.test[:, some], np.ones(n, bool))
            fitted.append(fit_block(known, block, shares, MODEL, made.__getitem__))
        return {name: np.concatenate([one[name] for one in fitted], axis=-1) for name in fitted[0]}

    def by_stream(self, values: Array) -> Json:
        """Mean over the voxels of each stream; values (..., n_voxels)."""
        return {name: values[..., self.streams == name].mean(axis=-1) for name in STREAMS}


class Fits:
    """Fits of one brain."""

    def __init__(self, brain: Brain, spaces: dict[str, Array]) -> None:
        self.brain = brain
        self.spaces = {name: brain.prepare(rows) for name, rows in spaces.items()}

    def r(self, name: str) -> Json:
        """Mean correlation by stream."""
        return rounded(self.brain.by_stream(self.brain.fit(self.spaces[name])["r"]), 3)

    def unique(self, space: str, over: str) -> Json:
        """Variance that `space` adds to `over`: by stream, with the interval over test pictures."""
        fitted = self.brain.fit(self.spaces[over], self.spaces[space])
        means = self.brain.by_stream(fitted["unique"][1])
        members = np.array([self.brain.streams == name for name in STREAMS])
        draws = stats.unique_draws(
            fitted["prediction"],
            fitted["without"][1:],
            self.brain.voxels.test,
            members,
            n_bootstrap=DRAWS,
            rng=rng(SEED, "shared noise", "draws"),
        )[0]
        ends = np.quantile(draws, [0.025, 0.975], axis=0).T
        return {
            name: {"unique": round(float(value), 4), "interval": np.round(interval, 4).tolist()}
            for (name, value), interval in zip(means.items(), ends, strict=True)
        }


# The demo's brain


def demo(folder: Path, steps: int, n_seeds: int, jobs: int) -> Json:
    """Ten noises, averages of noises, and controls, on the demo's scans."""
    compute = Compute(jobs=jobs, threads=1, progress=False)
    study = denoised(ph.Study.load(STUDY, folder / "runs").replace("encode.denoising", steps))
    study = ph.Study.from_dict(study.to_dict(), root=folder / "runs", folder=folder)
    spaces = {name: rows_of(study, name, compute) for name in ("z", "c")}
    seeds = range(n_seeds)
    for strength in STRENGTHS:
        spaces[f"{OWN_NOISE}@{strength:g}"] = rows_of(study, f"{OWN_NOISE}@{strength:g}", compute)
        for seed in seeds if strength == HIGH else seeds[:3]:
            spaces[f"zc@{strength:g}, seed {seed}"] = rows_of(
                study.replace("seed", seed), f"zc@{strength:g}", compute
            )
    for kind in (OTHER, EMPTY):
        spaces[f"{kind}@{HIGH:g}"] = rows_of(study, f"{kind}@{HIGH:g}", compute)
    shared = [spaces[f"zc@{HIGH:g}, seed {seed}"].astype(np.float32) for seed in seeds]
    averages = {
        f"mean of {n} noises": np.mean(shared[:n], axis=0) for n in (2, 5, 10) if n <= n_seeds
    }
    brain = scanned(study, compute)
    fits = Fits(brain, spaces | averages)
    first = f"zc@{HIGH:g}, seed 0"
    empty = f"{EMPTY}@{HIGH:g}"
    result: Json = {
        "denoising steps": steps,
        "voxels": {n: int((brain.streams == n).sum()) for n in STREAMS},
    }
    result["r"] = {
        name: fits.r(name) for name in ("z", "c", first, f"{OWN_NOISE}@{HIGH:g}", empty, *averages)
    }
    result["unique of zc over z"] = {
        f"{strength:g}": {
            "one noise": fits.unique(f"zc@{strength:g}, seed 0", "z"),
            "noise per picture": fits.unique(f"{OWN_NOISE}@{strength:g}", "z"),
        }
        for strength in STRENGTHS
    }
    result["unique of z over zc"] = {
        f"{strength:g}": fits.unique("z", f"zc@{strength:g}, seed 0") for strength in STRENGTHS
    }
    result["controls"] = {
        "text of another picture over z": fits.unique(f"{OTHER}@{HIGH:g}", "z"),
        "empty text over z": fits.unique(empty, "z"),
        "zc over zc with empty text": fits.unique(first, empty),
    }
    result["averages over z"] = {name: fits.unique(name, "z") for name in averages}
    result["over seeds"] = {
        f"{strength:g}": over_seeds(
            [fits.unique(name, "z") for name in spaces if name.startswith(f"zc@{strength:g},")]
        )
        for strength in STRENGTHS
    }
    result["category read linearly"] = {
        name: category(study, rows)
        for name, rows in (spaces | averages).items()
        if "seed" not in name or name == first
    }
    return result


def rows_of(study: ph.Study, name: str, compute: Compute) -> Array:
    """One feature of all pictures."""
    (artefact,) = make(feature_steps(study, SUBJECT, [name]), compute)
    return np.asarray(artefact.array("features")[:])


def scanned(study: ph.Study, compute: Compute) -> Brain:
    """Responses of the demo's subject."""
    data = dataset(study, SUBJECT)
    images, counts, tested = images_of(data)
    step = Measured(study, SUBJECT)
    make([step.betas], compute)
    voxels = read_voxels(step, slice(None))
    streams = voxel_table(step.betas)["streams"].to_numpy()[voxels.covered]
    some = np.isin(streams, STREAMS)
    kept = Voxels(voxels.train[:, some], voxels.test[:, some], np.ones(some.sum(), bool))
    ids = image_ids(data)
    return Brain(
        kept,
        streams[some],
        np.searchsorted(ids, images),
        np.searchsorted(ids, tested),
        np.sqrt(counts),
    )


def category(study: ph.Study, rows: Array) -> float:
    """Accuracy with which the category of scenes with one object is read from features of new
    pictures.
    """
    data = dataset(study, SUBJECT)
    ids = image_ids(data)
    (images, _, _) = images_of(data)
    names = [list(dict.fromkeys(some)) for some in data.categories(ids.tolist())]
    single = np.array([len(some) == 1 for some in names])
    label = np.array([some[0] if some else "" for some in names])
    taught = np.isin(ids, images)
    values = rows.astype(np.float64)
    model = RidgeClassifierCV(np.logspace(-1, 6, 15)).fit(
        values[taught & single], label[taught & single]
    )
    return round(float(model.score(values[~taught & single], label[~taught & single])), 3)


def over_seeds(found: list[Json]) -> Json:
    """Mean over noises by stream, with its interval, and the extremes."""
    summary = {}
    for name in STREAMS:
        values = np.array([one[name]["unique"] for one in found])
        half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        mean = values.mean()
        summary[name] = rounded(
            {
                "mean": mean,
                "low": mean - half,
                "high": mean + half,
                "least": values.min(),
                "most": values.max(),
            },
            4,
        ) | {"noises": len(values)}
    return summary


# The known brain at NSD's size


def nsd(folder: Path, steps: int, jobs: int) -> Json:
    """One noise, its controls, and noise per picture, with 9,000 training pictures."""
    anatomy = draw_anatomy(SEED, SUBJECT)
    size = SIZES["nsd"]
    brain = draw_brain(anatomy, SEED, SUBJECT)
    sight = look(brain, N_NEW + size.train + size.test, folder)
    shown = slice(size.taught.start, size.tested.stop)
    z, c = (sight.features[name][shown] for name in "zc")
    wanted = [
        *(("zc", strength) for strength in (0.2, 0.5, HIGH)),
        (EMPTY, HIGH),
        (OTHER, HIGH),
        (OWN_NOISE, HIGH),
    ]
    spaces = {"z": z} | {
        f"{kind}@{strength:g}": denoise(folder, z, c, kind, Denoising(strength, steps), jobs)
        for kind, strength in wanted
    }
    scanned = scan(brain, anatomy, sight, size)
    streams = brain.voxels["stream"].to_numpy()
    some = np.isin(streams, STREAMS)
    weights = np.full(size.train, np.sqrt(size.train_repeats))
    mean = scanned.train[:, some].mean(axis=0, dtype=np.float64)
    train = ((scanned.train[:, some] - mean) * weights[:, None]).astype(np.float32)
    voxels = Voxels(train, scanned.test[:, some] - mean, np.ones(some.sum(), bool))
    rows = np.arange(size.train + size.test)
    fits = Fits(
        Brain(voxels, streams[some], rows[: size.train], rows[size.train :], weights), spaces
    )
    high = f"zc@{HIGH:g}"
    empty = f"{EMPTY}@{HIGH:g}"
    return {
        "size": vars(size) | {"components": COMPONENTS},
        "denoising steps": steps,
        "voxels": {name: int((streams == name).sum()) for name in STREAMS},
        "r": {name: fits.r(name) for name in ("z", high, f"{OWN_NOISE}@{HIGH:g}", empty)},
        "unique of zc over z": {
            f"{s:g}": fits.unique(f"zc@{s:g}", "z") for kind, s in wanted if kind == "zc"
        },
        "noise per picture over z": fits.unique(f"{OWN_NOISE}@{HIGH:g}", "z"),
        "text of another picture over z": fits.unique(f"{OTHER}@{HIGH:g}", "z"),
        "empty text over z": fits.unique(empty, "z"),
        "zc over zc with empty text": fits.unique(high, empty),
    }


def denoise(folder: Path, z: Array, c: Array, kind: str, how: Denoising, jobs: int) -> Array:
    """Latents of many scenes after denoising, part by part, each kept as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{kind.replace(':', '-')}-{how.strength:g}-{how.steps}"
    if kind == OTHER:
        c = np.roll(c, 1, axis=0)
    work = (
        delayed(_part)(
            folder / f"{stem}-{start}.npy",
            z[start : start + PER_PART],
            c[start : start + PER_PART],
            start,
            kind,
            how,
        )
        for start in range(0, len(z), PER_PART)
    )
    return np.concatenate(list(Parallel(jobs)(work)))


def _part(path: Path, z: Array, c: Array, start: int, kind: str, how: Denoising) -> Array:
    if path.exists():
        return np.load(path)
    model = load_model("bundled", "cpu")
    if kind == EMPTY:
        c = np.repeat(model.text_to_context([[""]]), len(z), axis=0)
        how = Denoising(how.strength, how.steps, 1.0)
    last = len(model.schedule.timesteps(how.steps, how.strength))
    seeds = [start + k if kind == OWN_NOISE else 0 for k in range(len(z))]
    with threadpool_limits(1):
        rows = [
            record(model, z[some], c[some], seeds[some], how, {(LATENT, last)}, z.shape[1])[
                LATENT, last
            ]
            for some in batches(len(z), model.batch())
        ]
    made = np.concatenate(rows).astype(np.float16)
    np.save(path, made)
    return made


def batches(n: int, size: int) -> Iterator[slice]:
    """Slices of `size` rows."""
    return (slice(start, start + size) for start in range(0, n, size))


def rounded(values: Json, digits: int) -> Json:
    """Plain rounded numbers."""
    return {name: round(float(value), digits) for name, value in values.items()}


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=["demo", "nsd"], required=True)
    parser.add_argument(
        "--folder", type=Path, required=True, help="keeps the demo's data and all features"
    )
    parser.add_argument("--steps", type=int, default=10, help="denoising steps of a whole schedule")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    path = args.out / "shared_noise.json"
    results: Json = json.loads(path.read_text()) if path.exists() else {}
    folder = args.folder.resolve()
    one = (
        demo(folder, args.steps, args.seeds, args.jobs)
        if args.part == "demo"
        else nsd(folder, args.steps, args.jobs)
    )
    results |= {"machine": machine_facts("numpy", "torch"), f"{args.part}, {args.steps} steps": one}
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(one, indent=1))


if __name__ == "__main__":
    main()
