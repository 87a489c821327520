"""RidgeCV beside himalaya and scikit-learn: seconds, peak memory, agreement, distance from the flop
floor.

Every shape is drawn with a fixed seed in float32. phosphene and both CPU backends of himalaya run
in turn, A B C A B C, after each backend has tried a few batch settings once on the same data and
kept the fastest; ``ratio`` is the better backend's median over ours. Where samples are fewer than
features, himalaya's ``KernelRidgeCV``, which it recommends there, is one of the settings (its
coefficients stay dual, which saves it a product). scikit-learn runs once, in the process that
measures its memory: its leave-one-out ``RidgeCV``, and a grid search whose penalty is the same for
all targets. Memory is measured in a fresh process for each, in MiB, once libraries are warm and
data are in memory.

``floor_seconds``: the products that no exact method of this kind avoids, at the rate of torch's
float32 products just measured (eigendecompositions are not counted). With m = min(n, p), d distinct
rows of Y and m' = min(4/5 n, p):

    n p m + [2 d p t if n >= p] + 5 folds (4 m'² t + 2 d/5 m' t) + 2 m² t + 2 p m t

which for n >= p is Gram, cross products, q, r and N q of every fold, and two products of the final
fit.

Shapes of small n p t take minutes; ``--full`` takes hours, nearly all of them himalaya's. The JSON
goes to stdout and, after every shape, to a file with a plot beside it; ``--only`` and ``--disk``
add to that file.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_facts, peak_memory
from ridge_problems import (
    CENTRE,
    DISK,
    FOLDS,
    GRID_SEARCH,
    LEAVE_ONE_OUT,
    NSD,
    NSD_DISTINCT,
    OURS,
    PEERS,
    SHAPES,
    TINY,
    Json,
    Shape,
    fit,
    make,
    quick,
    settings,
)

SHORT = 4000 * 1000 * 2000  # n p t of the largest shapes that run without --full
SINGLE_RUNS_UP_TO = 6000 * 1500**2  # n p²


def timed(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """Call a function: its result and seconds."""
    gc.collect()
    started = time.perf_counter()
    result = function(*given)
    return result, time.perf_counter() - started


def measure(shape: Shape, repeats: int, rates: Json) -> Json:
    """Measure everything about one shape."""
    data = make(shape)
    tried = {
        who: [{"setting": s, "seconds": timed(fit, who, data, s)[1]} for s in settings(shape)]
        for who in PEERS
    }
    chosen = {OURS: {}} | {
        who: min(runs, key=lambda run: run["seconds"])["setting"] for who, runs in tried.items()
    }
    times: dict[str, list[float]] = {who: [] for who in chosen}
    answers = {}
    for _ in range(repeats):
        for who, setting in chosen.items():
            model, seconds = timed(fit, who, data, setting)
            times[who].append(seconds)
            answers[who] = np.asarray(model.best_alphas_), np.asarray(model.predict(data.X[:200]))
            del model
    medians = {who: statistics.median(runs) for who, runs in times.items()}
    floor = flops(shape, shape.distinct) / gemm_rate("float32", shape.p < 500)
    del data
    once = [GRID_SEARCH] if shape.kind == "repeats" else [LEAVE_ONE_OUT, GRID_SEARCH]
    once = once if shape.n * shape.p**2 <= SINGLE_RUNS_UP_TO else []
    return {
        "shape": asdict(shape),
        "ratio": min(medians[who] for who in PEERS) / medians[OURS],
        "best_peer": min(PEERS, key=medians.__getitem__),
        "median_seconds": medians,
        "all_seconds": times,
        "floor_seconds": floor,
        "ours_over_floor": medians[OURS] / floor,
        "predicted_as_nsd_is": sum(predicted_seconds(shape, shape.distinct, rates).values()),
        "agreement": {who: agreement(*answers[OURS], *answers[who]) for who in PEERS},
        "batch_settings_single_runs": tried,
        "memory_mib": {
            who: in_fresh_process(alone, who, shape, setting) for who, setting in chosen.items()
        },
        "single_runs": {who: in_fresh_process(alone, who, shape, {}) for who in once},
        "measured": datetime.now().isoformat(timespec="seconds"),
    }


def agreement(
    our_alphas: np.ndarray, ours: np.ndarray, their_alphas: np.ndarray, theirs: np.ndarray
) -> Json:
    """Compare penalties, and predictions (200, t) of targets whose penalties are equal."""
    same = np.isclose(our_alphas, their_alphas)
    difference = np.abs(ours - theirs)[:, same].max(initial=0.0) / np.abs(theirs).max()
    return {
        "share_of_equal_alphas": float(same.mean()),
        "largest_relative_difference": float(difference),
    }


def in_fresh_process(function: Callable[..., Json], *given: Any) -> Json:
    """Call a function in a process that has loaded nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def alone(who: str, shape: Shape, setting: Json) -> Json:
    """Fit once, for memory (MiB) and the seconds of a single run."""
    warnings.simplefilter("ignore")
    fit(who, make(TINY), {})
    data = make(shape)
    with peak_memory() as found:
        _, seconds = timed(fit, who, data, setting)
    return found | {"seconds": seconds}


def flops(shape: Shape, distinct: int) -> float:
    """Count the operations of the ideal algorithm (the formula above)."""
    n = shape.n
    p = shape.p
    t = shape.t
    m = min(n, p)
    train = min(n - n // FOLDS, p)
    folds = FOLDS * 4 * train**2 * t + 2 * distinct * train * t
    return (
        n * p * m + (2 * distinct * p * t if n >= p else 0) + folds + 2 * m**2 * t + 2 * p * m * t
    )


def gemm_rate(dtype: str, small: bool) -> float:
    """Measure operations per second of a square product in torch, the best of five."""
    import torch

    size = 512 if small else 3000
    a = torch.randn(size, size, dtype=getattr(torch, dtype))
    return 2 * size**3 / min(timed(torch.mm, a, a)[1] for _ in range(5))


def measured_rates(small: bool) -> Json:
    """Measure what the prediction for NSD's shape is made of."""
    import torch

    seconds = {}
    for p in (100, 200) if small else (1000, 2000):
        x = torch.randn(2 * p, p, dtype=torch.float64)
        seconds[p] = min(timed(torch.linalg.eigh, x.T @ x)[1] for _ in range(2))
    rates = {f"{dtype}_gemm_flops": gemm_rate(dtype, small) for dtype in ("float32", "float64")}
    return rates | {"float64_eigh_seconds": seconds, "torch_threads": torch.get_num_threads()}


def predicted_seconds(shape: Shape, distinct: int, rates: Json) -> dict[str, float]:
    """Predict our seconds from the rates of the parts; eigendecompositions float64, from the
    largest by p³.
    """
    n = shape.n
    m = min(shape.n, shape.p)
    gram = shape.n * shape.p * min(shape.n, shape.p)
    largest, seconds = list(rates["float64_eigh_seconds"].items())[-1]
    return {
        "eigendecompositions": (1 + FOLDS) * seconds * (m / largest) ** 3,
        "gram matrices": 2 * gram / rates["float64_gemm_flops"],
        "test rows in the eigenbases": 4 * n * m**2 / rates["float32_gemm_flops"],
        "products with targets": (flops(shape, distinct) - gram) / rates["float32_gemm_flops"],
        "penalties": FOLDS * 6 * shape.alphas * m * shape.t / rates["float32_gemm_flops"],
    }


def nsd_estimate(rates: Json) -> Json:
    """Estimate c ← ventral of one NSD subject; nothing of that size is run.

    Memory: basis, M and its far pairs are kept for every fold (float32), five float64 matrices
    exist while the last is made; targets are read and coefficients written block by block.
    """
    n = NSD.n
    p = NSD.p
    gib = 2**30
    seconds = predicted_seconds(NSD, NSD_DISTINCT, rates)
    square = 4 * p * p / gib
    rows = 4 * n * p / gib
    summed = 4 * NSD_DISTINCT * p / gib
    memory = {
        "features, given and centred": 2 * rows,
        "features summed over repeats, whole and of test rows": 2 * summed,
        "bases of all rows and folds": (1 + FOLDS) * square,
        "M of folds": FOLDS * square,
        "far pairs of folds": FOLDS * square,
        "eigendecomposition in progress": 10 * square,
        "block of targets": 0.25,
    }
    making = sum(memory.values()) - memory["far pairs of folds"] - summed - 0.25
    using = sum(memory.values()) - memory["eigendecomposition in progress"] - rows
    return {
        "estimate": True,
        "shape": asdict(NSD) | {"distinct": NSD_DISTINCT},
        "seconds": sum(seconds.values()),
        "parts_seconds": seconds,
        "peak_gib": max(making, using),
        "parts_gib": memory,
        "coefficients_gib_if_in_memory": 4 * p * NSD.t / gib,
    }


def from_disk(shape: Shape) -> Json:
    """Fit targets that lie on disk, coefficients to disk: seconds and memory (MiB); nothing else is
    written.
    """
    from phosphene.numerics.ridge import RidgeCV

    warnings.simplefilter("ignore")
    fit(OURS, make(TINY), {})
    rng = np.random.default_rng(0)
    single = np.float32
    X = rng.standard_normal((shape.n, shape.p), dtype=single)
    mixing = rng.standard_normal((20, shape.t), dtype=single)
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/targets", "wb") as file:
            for rows in np.array_split(X[:, :20], max(1, shape.n // 100)):
                (
                    rows @ mixing + 4 * rng.standard_normal((len(rows), shape.t), dtype=single)
                ).tofile(file)
            os.fsync(file.fileno())
            # read from disk, not from its cache
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        Y = np.memmap(f"{folder}/targets", single, "r", shape=(shape.n, shape.t))
        coef = np.memmap(f"{folder}/coef", single, "w+", shape=(shape.p, shape.t))
        model = RidgeCV(np.logspace(0, 6, shape.alphas), standardize=False)
        with peak_memory() as found:
            _, seconds = timed(lambda: model.fit(X, Y, coef=coef))
        some = RidgeCV(model.alphas, standardize=False).fit(X, np.array(Y[:, -50:])).coef_
        difference = np.abs(some - coef[:, -50:]).max() / np.abs(some).max()
    below = {name: found[name] * 2**20 < 2e9 for name in ("peak", "peak_anonymous")}
    about = {"shape": asdict(shape), "seconds": seconds, "memory_mib": found, "below_2_gb": below}
    return about | {"largest_relative_difference_to_memory": float(difference)}


def draw(found: Json, path: Path) -> None:
    """Draw the ratio against each number of the shape, and of all shapes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records = list(found["shapes"].values())
    centre = asdict(quick(CENTRE) if found["quick"] else CENTRE)
    figure, axes = plt.subplot_mosaic(
        [list("npta"), ["all"] * 4], figsize=(11, 9), height_ratios=[1, 2.2]
    )
    axis_names = {"n": "samples n", "p": "features p", "t": "targets t", "alphas": "penalties"}
    for axis, (key, label) in zip(axes.values(), axis_names.items(), strict=False):
        line = [
            r for r in records if all(r["shape"][k] == v for k, v in centre.items() if k != key)
        ]
        points = sorted((r["shape"][key], r["ratio"]) for r in line)
        axis.plot([x for x, _ in points], [y for _, y in points], "o-", color="tab:blue")
        axis.set(
            xlabel=label,
            ylim=(0, 1.1 * max(r["ratio"] for r in records)),
            xticks=[x for x, _ in points],
        )
        axis.axhline(1, color="black", linewidth=0.8)
    axes["n"].set_ylabel("himalaya's seconds / ours")
    bars = axes["all"].barh(list(found["shapes"]), [r["ratio"] for r in records], color="tab:blue")
    axes["all"].bar_label(bars, fmt="%.1f", padding=3)
    axes["all"].axvline(1, color="black", linewidth=0.8)
    axes["all"].invert_yaxis()
    axes["all"].set(
        xlabel="himalaya's better backend, seconds / ours", ylabel="n x p x t x penalties"
    )
    for axis in axes.values():
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def rounded(value: Any) -> Any:
    """Round the numbers of a JSON tree to four digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def run_shapes(found: Json, args: argparse.Namespace, save: Callable[[], None]) -> None:
    """Measure the wanted shapes, saving after each."""
    for who in (OURS, *PEERS):
        fit(who, make(TINY), {})
    found["rates"] = measured_rates(args.quick)
    found["nsd_c_from_ventral"] = nsd_estimate(found["rates"])
    wanted = [
        shape
        for shape in SHAPES
        if args.full or args.only or args.quick or shape.n * shape.p * shape.t <= SHORT
    ]
    for shape in map(quick, wanted) if args.quick else wanted:
        if re.search(args.only, shape.name):
            record = found["shapes"][shape.name] = measure(shape, args.repeats, found["rates"])
            save()
            seconds = ", ".join(
                f"{who} {value:.2f} s" for who, value in record["median_seconds"].items()
            )
            print(
                f"{shape.name}: {seconds}, ratio {record['ratio']:.1f}", file=sys.stderr, flush=True
            )


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes, to try the script; no figures to quote"
    )
    parser.add_argument("--full", action="store_true", help="all shapes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="shapes whose name this matches"
    )
    parser.add_argument("--disk", action="store_true", help=f"only {DISK.t} targets on disk")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    path = args.out / ("ridge-quick.json" if args.quick else "ridge.json")
    args.out.mkdir(parents=True, exist_ok=True)
    found: Json = (
        json.loads(path.read_text())
        if (args.only or args.disk) and path.exists()
        else {"shapes": {}}
    )
    found |= {
        "machine": machine_facts("numpy", "torch", "himalaya", "scikit-learn"),
        "quick": args.quick,
    }

    def save() -> None:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(rounded(found), indent=1) + "\n")
        new.replace(path)

    if args.disk:
        found["disk"] = in_fresh_process(from_disk, quick(DISK) if args.quick else DISK)
    else:
        run_shapes(found, args, save)
    save()
    if found["shapes"]:
        draw(found, path.with_suffix(".png"))
    print(json.dumps(rounded(found), indent=1))


if __name__ == "__main__":
    main()
