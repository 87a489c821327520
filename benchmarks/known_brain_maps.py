"""Maps of a brain whose truth is known: what was planted is found, and nothing where nothing is.

The known brain (``phosphene.data.simulated.brain``) looks at drawn scenes; z and c of the bundled
model predict its voxels by the code of ``phosphene encode``, beginning at the features. Without
options, for the demo's number of pictures and for NSD's, each region of the brain mask in four
views:

- measured: what a study sees, the fitted models on the averaged trials of the test pictures;
- expected: the same fitted models on the noiseless answers to other scenes, so without the luck of
  the test pictures;
- possible: the best linear predictor, fitted to noiseless answers to all scenes (adjusted R²): what
  the features know;
- decided: measured, where the paired bootstrap says which space is better (q < 0.05 over
  significant voxels).

R² and unique variance of the noiseless answers times the voxel's noise ceiling are expectations of
the measured ones.

``--nulls N``: N brains that do not depend on the pictures, of three kinds, and N brains half of
whose voxels do. ``--stages N``: N null subjects (at most 8), written to disk, scanned and mapped as
any study is.

Prints JSON and adds it to ``results/known_brain_maps.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from common import machine_facts
from known_brains import (
    N_NEW,
    N_VOXELS,
    SEED,
    SIZES,
    SUBJECT,
    Array,
    Scan,
    Shuffled,
    Sight,
    Size,
    adjusted_r2,
    answering,
    decomposed,
    designed,
    fit,
    look,
    part,
    scan,
)
from scipy.stats import beta, kstest
from scipy.stats import t as student_t

import phosphene as ph
from phosphene import encoding
from phosphene.data.simulated import simulate
from phosphene.data.simulated.brain import (
    N_CHANNELS,
    KnownBrain,
    describe,
    draw_anatomy,
    draw_brain,
)
from phosphene.numerics import correlation, stats
from phosphene.pipeline.graph import make
from phosphene.seeds import rng
from phosphene.steps import encode as stage
from phosphene.study import Compute

Json = dict[str, Any]
# what the streams are driven by
BETTER = {
    "early": "z",
    "ventral": "c",
    "lateral": "c",
    "parietal": "c",
}
DRIVES = {
    "colour": slice(0, 3),
    "saturation and contrast": slice(3, 5),
    "oriented energy": slice(5, N_CHANNELS),
}
HORIZON = 0.54  # mean height of scenes' horizons, from the top
KINDS = ("category", "colour", "category x colour", "place", "position", "category x side")


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--nulls", type=int, default=0, help="only null and mixed brains: how many")
    parser.add_argument(
        "--stages", type=int, default=0, help="only null subjects on disk: how many"
    )
    parser.add_argument("--cache", type=Path, help="folder that keeps the features of scenes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    path = args.out / "known_brain_maps.json"
    found: Json = json.loads(path.read_text()) if path.exists() else {}
    found["machine"] = machine_facts("numpy", "scipy", "torch")
    if args.stages:
        new = {"null subjects on disk": null_subjects(args.stages)}
    else:
        anatomy = draw_anatomy(SEED, SUBJECT)
        brain = draw_brain(anatomy, SEED, SUBJECT)
        seen = [SIZES["demo"]] if args.nulls else SIZES.values()
        sight = look(brain, N_NEW + max(size.train + size.test for size in seen), args.cache)
        if args.nulls:
            new = {"null brains": nulls(brain, sight, args.nulls)}
        else:
            new = {"what z and c know": known_by_features(sight)}
            new |= {name: maps(brain, anatomy, sight, SIZES[name]) for name in args.sizes}
    found |= new
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(new, indent=1))


# What a known brain shows


def maps(brain: KnownBrain, anatomy: Any, sight: Sight, size: Size) -> Json:
    """Fit both spaces, alone and together, and compare what is measured with what is true."""
    active = brain.active
    table = brain.voxels
    scanned = scan(brain, anatomy, sight, size)
    spaces = {name: designed(sight, name, size) for name in "zc"}
    voxel = pd.DataFrame({"stream": table["stream"]})
    predicted = alone(voxel, spaces, scanned, size)
    together(voxel, spaces, scanned, size, active)
    both = {**spaces, "zc": np.hstack(list(spaces.values()))}
    possible = {name: adjusted_r2(rows, sight.answers) for name, rows in both.items()}
    for space, other in ("zc", "cz"):
        voxel.loc[active, f"possible {space}"] = possible[space]
        voxel.loc[active, f"possible unique {space}"] = (
            possible["zc"] - possible[other]
        ) * scanned.ceiling
    voxel["significant"] = (voxel[["q z", "q c"]] < 0.05).any(axis=1)
    some = (voxel["significant"] & active).to_numpy()
    compared = stats.difference_of_correlations(
        *(one[:, some] for one in predicted), scanned.test[:, some]
    )
    voxel.loc[some, "decided"] = stats.fdr_bh(compared.p_t) < 0.05
    silent = voxel[~active]
    drives = np.argmax([(brain.weights[rows] ** 2).sum(axis=0) for rows in DRIVES.values()], axis=0)
    voxel.loc[active, "driven by"] = "driven most by " + np.array([*DRIVES]).astype(object)[drives]
    voxel.loc[active, "looks"] = np.where(
        brain.fields[:, 1] < HORIZON, "look above the horizon", "look below it"
    )
    early = voxel[(voxel["stream"] == "early") & voxel["significant"]]
    false = {
        f"silent voxels found by {name}": int((silent[f"q {name}"] < 0.05).sum()) for name in "zc"
    }
    streams = [*BETTER, *sorted(set(table["stream"]) - set(BETTER) - {""})]
    return {
        "size": vars(size),
        "silent voxels": len(silent),
        **false,
        "streams": {
            name: summary(voxel[voxel["stream"] == name], BETTER.get(name)) for name in streams
        },
        "early voxels that": {
            name: ordering(some, "z")
            for by in ("looks", "driven by")
            for name, some in early.groupby(by)
        },
        "unique, all voxels": uniques(voxel[active]),
    }


def alone(voxel: pd.DataFrame, spaces: dict[str, Array], scanned: Scan, size: Size) -> list[Array]:
    """Correlations of z and c by themselves, measured and expected; returns what they predict of
    the test pictures.
    """
    shown = np.concatenate([scanned.truth, scanned.test])
    predicted = []
    for name, rows in spaces.items():
        known = part([rows], size, slice(0, N_NEW), size.tested)
        found = fit(known, decomposed(known), scanned.train, shown)["prediction"]
        predicted.append(found[N_NEW:])
        voxel[f"r {name}"] = correlation.correlation(scanned.test, found[N_NEW:])
        voxel[f"q {name}"] = stats.fdr_bh(stats.correlation_p(voxel[f"r {name}"], size.test))
        voxel[f"expected {name}"] = correlation.correlation(scanned.truth, found[:N_NEW])
    return predicted


def together(
    voxel: pd.DataFrame, spaces: dict[str, Array], scanned: Scan, size: Size, active: Array
) -> None:
    """Unique variance of z and of c, measured and expected."""
    joint = list(spaces.values())
    made = decomposed(part(joint, size, size.tested))
    tests = {
        "unique": (scanned.test, size.tested, 1.0),
        "expected unique": (scanned.truth, slice(0, N_NEW), scanned.ceiling),
    }
    for name, (shown, rows, times) in tests.items():
        found = fit(part(joint, size, rows), made, scanned.train[:, active], shown[:, active])
        for space, values in zip("zc", found["unique"], strict=True):
            voxel.loc[active, f"{name} {space}"] = values * times


def summary(voxel: pd.DataFrame, better: str | None) -> Json:
    """One region: how often the space that drives it is the better one, and why not."""
    some = voxel[voxel["significant"]]
    found: Json = {"all voxels": len(voxel), "significant": len(some)}
    found |= {f"mean {name}": round(float(some[name].mean()), 3) for name in ("r z", "r c")}
    if better:
        found |= ordering(some, better)
    return found | {"unique": uniques(voxel)}


def ordering(some: pd.DataFrame, better: str) -> Json:
    """Which space predicts these voxels better: what is measured, what is true, and why they
    differ.
    """
    right = {}
    for view, name in (("measured", "r"), ("expected", "expected"), ("possible", "possible")):
        difference = some[f"{name} z"] - some[f"{name} c"]
        right[view] = difference > 0 if better == "z" else difference < 0
    decided = some["decided"].astype(bool)
    missed = ~right["measured"]
    shares = {view: share(values) for view, values in right.items()} | {
        "decided": share(right["measured"][decided])
    }
    return {
        "voxels": len(some),
        f"share better by {better}": shares,
        "decided": int(decided.sum()),
        "measured as is possible": share(right["measured"] == right["possible"]),
        "decided as is possible": share((right["measured"] == right["possible"])[decided]),
        "why missed": {
            "the other space really knows more": int((missed & ~right["possible"]).sum()),
            "too few training pictures": int(
                (missed & right["possible"] & ~right["expected"]).sum()
            ),
            "luck of the test pictures": int(
                (missed & right["possible"] & right["expected"]).sum()
            ),
        },
    }


def share(values: pd.Series) -> float:
    """Share of a region's voxels."""
    return round(float(values.mean()), 3)


def uniques(voxel: pd.DataFrame) -> Json:
    """Unique variance measured, expected and possible: means over voxels, and differences voxel by
    voxel.
    """
    found: Json = {}
    for space in "zc":
        measured = voxel[f"unique {space}"]
        row = {"measured": round(float(voxel[f"unique {space}"].mean()), 4)}
        for view in ("expected", "possible"):
            other = voxel[f"{view} unique {space}"]
            row[view] = round(float(other.mean()), 4)
            row[f"sd of measured - {view}"] = round(float((measured - other).std()), 4)
        apart = (voxel[f"expected unique {space}"] - voxel[f"possible unique {space}"]).abs()
        row["mean |expected - possible|"] = round(float(apart.mean()), 4)
        found[space] = row
    return found


def known_by_features(sight: Sight) -> Json:
    """Mean R² with which each kind of what drives higher voxels can be predicted from z and
    from c.
    """
    rows = {name: designed(sight, name, SIZES["nsd"]) for name in "zc"}
    found = {}
    for kind, values in zip(KINDS, describe(sight.scenes), strict=True):
        varied = values[:, values.std(axis=0) > 0]
        found[kind] = {
            name: round(float(adjusted_r2(x, varied).mean()), 3) for name, x in rows.items()
        }
    return found


# Brains that do not depend on the pictures


def nulls(brain: KnownBrain, sight: Sight, n_brains: int) -> Json:
    """Fit z and c, each alone, to null and driven voxels, and count what is found."""
    size = SIZES["demo"]
    known = {name: part([designed(sight, name, size)], size, size.tested) for name in "zc"}
    made = {name: decomposed(one) for name, one in known.items()}
    p: dict[tuple[str, str], list[Array]] = {}
    for k in range(n_brains):
        brains = answering(brain, sight, size, rng(SEED, "maps", "null", k))
        together = np.concatenate(list(brains.values()), axis=1)
        for name, one in known.items():
            r = fit(one, made[name], together[: size.train], together[size.train :])["r"]
            parts = np.split(stats.correlation_p(r, size.test), len(brains))
            for kind, values in zip(brains, parts, strict=True):
                p.setdefault((kind, name), []).append(values)
    found: Json = {"brains": n_brains, "voxels of each kind": N_VOXELS, "size": vars(size)}
    for name in "zc":
        driven = np.array(p["driven", name])
        for kind in ("white", "smooth", "ongoing"):
            null = np.array(p[kind, name])
            found[f"{kind}, {name}"] = null_brains(null) | {
                "mixed with driven": mixed_brains(driven, null)
            }
    return found


def null_brains(p: Array) -> Json:
    """What is found in null brains, of p (n_brains, n_voxels)."""
    n = len(p)
    hits = sum(bool((stats.fdr_bh(one) < 0.05).any()) for one in p)
    low = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, n - hits)
    one_each = p[np.arange(n), rng(SEED, "maps", "one voxel").integers(p.shape[1], size=n)]
    return {
        "brains with any discovery": [hits, n],
        "interval of the share": [round(float(low), 3), round(float(high), 3)],
        "share of p below": {
            f"{level:g}": mean_over_brains((p < level).mean(axis=1)) for level in (0.5, 0.05, 0.001)
        },
        "Kolmogorov-Smirnov p, one voxel per brain": round(
            float(kstest(one_each, "uniform").pvalue), 3
        ),
    }


def mixed_brains(driven: Array, null: Array) -> Json:
    """False discovery rate where half of the voxels are driven."""
    found = np.array([stats.fdr_bh(one) < 0.05 for one in np.hstack([driven, null])])
    false = found[:, driven.shape[1] :].sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    return {
        "false discovery rate": mean_over_brains(false),
        "driven voxels found": mean_over_brains(found[:, : driven.shape[1]].mean(axis=1)),
    }


def mean_over_brains(values: Array) -> Json:
    """Mean and its 95 % interval (Student's t); brains are independent, voxels of one brain are
    not.
    """
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = values.mean()
    return {
        "mean": round(float(mean), 5),
        "interval": [round(float(mean + side * half), 5) for side in (-1, 1)],
    }


def null_subjects(n: int) -> Json:
    """Whole studies of null brains, on disk: simulated scans, z-scored sessions, features, maps."""
    subjects = [f"subj{k + 1:02d}" for k in range(n)]
    shown = {"enabled": True, "images_shared": 100, "images_own": 200, "repeats": 3, "sessions": 3}
    values = {
        "data": {"root": "data", "subjects": subjects, "simulate": shown},
        "encode": {"components": 500},
    }
    p: dict[str, list[Array]] = {"z": [], "c": []}

    def draw(*of: Any) -> Shuffled:
        return Shuffled(**vars(draw_brain(*of)))

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(simulate, "draw_brain", draw):
        study = ph.Study.from_dict(values, root=Path(folder) / "runs", folder=Path(folder))
        for subject in subjects:
            for name, found in p.items():
                model = encoding.Model.of(name)
                make([stage.Encode(study, subject, model)], Compute(progress=False))
                known = stage.maps(study, subject, model)["p"].to_numpy()
                found.append(known[np.isfinite(known)])
    return shown | {
        name: {
            "voxels": [len(one) for one in found],
            "discoveries": [int((stats.fdr_bh(one) < 0.05).sum()) for one in found],
            "share of p below 0.05": mean_over_brains(
                np.array([(one < 0.05).mean() for one in found])
            ),
        }
        for name, found in p.items()
    }


if __name__ == "__main__":
    main()
