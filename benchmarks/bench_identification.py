"""Two-way identification beside the loop of released code: one numpy.corrcoef per pair of images
and sample.

982 images, 2,048 features, 5 samples per image, float32, as of a pooled layer of Inception v3. The
loop would take minutes to hours, so it runs over all pairs of a few images and its seconds are
extrapolated by the number of calls, which is exact up to caches: every call does the same. Ours and
the loop run in turn, A B A B; medians. Both end with the share of won comparisons of every image;
what ours gives beyond that (interval and p) is timed by itself. Where the loop runs whole, on fewer
images, all shares of both directions are compared.

``--large``, only: peak memory, each in a process of its own, at the size of AlexNet's features.5 at
299 pixels (982 images x 5 samples x 139,968 features in float16), from arrays in memory and from
memory-mapped files. The inputs, 1.65 GB, are part of the peak.

Prints JSON and adds it to ``results/identification.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_facts, peak_memory

from phosphene.numerics.identification import choose, correlations, identify, two_way_identification

Json = dict[str, Any]
DIRECTIONS = ("takagi2023", "braindiffuser")
N_IMAGES = 982
N_SAMPLES = 5
N_FEATURES = 2048
N_LARGE = 139_968
# images
WHOLE_LOOP = 40  # 8,000 calls
PART_OF_LOOP = 20  # 2,000 calls


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--large", action="store_true", help="only peak memory at 139,968 features")
    parser.add_argument(
        "--quick", action="store_true", help="few images, to try the script; no figures to quote"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    n, n_large = (60, 4000) if args.quick else (N_IMAGES, N_LARGE)
    path = args.out / ("identification-quick.json" if args.quick else "identification.json")
    found: Json = json.loads(path.read_text()) if path.exists() else {}
    found |= {"machine": machine_facts("numpy", "scipy"), "quick": args.quick}
    if not args.large:
        found |= {"speed": speed(n, args.repeats), "same_results": same_results()}
    else:
        found["large"] = {
            kind: in_fresh_process(large, kind, n, n_large) for kind in ("arrays", "files")
        }
    args.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def draw(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of reconstructions (n, s, d) that know something of their originals (n, d)."""
    rng = np.random.default_rng(0)
    original = rng.standard_normal((n, d), dtype=np.float32)
    noise = rng.standard_normal((n, N_SAMPLES, d), dtype=np.float32)
    return 0.1 * original[:, None] + noise, original


def ours(recon: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Shares of won comparisons, (n,)."""
    return two_way_identification(recon, original, n_bootstrap=0, n_permutations=0).per_image


def loop(recon: np.ndarray, original: np.ndarray, direction: str = DIRECTIONS[0]) -> np.ndarray:
    """The same from one numpy.corrcoef call per pair of images and sample; rows of r:
    reconstructions.
    """
    n, n_samples, _ = recon.shape
    r = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            r[i, j] = np.mean(
                [np.corrcoef(recon[i, s], original[j])[0, 1] for s in range(n_samples)]
            )
    r = r.T if direction == DIRECTIONS[0] else r
    return np.array([np.mean([r[i, i] > r[i, j] for j in range(n) if j != i]) for i in range(n)])


def speed(n: int, repeats: int) -> Json:
    """Median seconds of both, in turn."""
    recon, original = draw(n, N_FEATURES)
    few = slice(PART_OF_LOOP)
    ours(recon, original)
    mine = []
    theirs = []
    all_of_mine = []
    both = []
    for _ in range(repeats):
        mine.append(seconds(lambda: ours(recon, original)))
        theirs.append(seconds(lambda: loop(recon[few], original[few])))
        all_of_mine.append(seconds(lambda: two_way_identification(recon, original)))
        both.append(seconds(lambda: by_parts(recon, original)))
    calls = n**2 * N_SAMPLES
    calls_timed = PART_OF_LOOP**2 * N_SAMPLES
    loop_seconds = statistics.median(theirs) * calls / calls_timed
    return {
        "shape": {"images": n, "samples": N_SAMPLES, "features": N_FEATURES, "dtype": "float32"},
        "ratio": round(loop_seconds / statistics.median(mine)),
        "ours_median_seconds": rounded(statistics.median(mine)),
        "loop_seconds_extrapolated": rounded(loop_seconds),
        "loop_calls": calls,
        "loop_calls_timed": calls_timed,
        "loop_microseconds_per_call": rounded(1e6 * statistics.median(theirs) / calls_timed),
        "ours_with_interval_and_p_median_seconds": rounded(statistics.median(all_of_mine)),
        "ours_both_directions_four_rules_median_seconds": rounded(statistics.median(both)),
        "ours_all_seconds": [rounded(one) for one in mine],
        "loop_all_seconds_of_the_part": [rounded(one) for one in theirs],
    }


def by_parts(recon: np.ndarray, original: np.ndarray) -> None:
    """Identify by mean, first, decoded and oracle sample in both directions from one set of
    correlations.
    """
    r = correlations(recon, original)
    for rule in ("mean", "single", "decoded", "oracle"):
        for direction in DIRECTIONS:
            chosen = choose(r, rule, np.zeros(len(original), dtype=int))
            identify(chosen, direction=direction, n_bootstrap=0, n_permutations=0)


def same_results() -> Json:
    """Largest difference of the shares where the loop runs over all images."""
    recon, original = draw(WHOLE_LOOP, N_FEATURES)
    differences = {}
    for direction in DIRECTIONS:
        found = two_way_identification(
            recon, original, direction=direction, n_bootstrap=0, n_permutations=0
        )
        differences[direction] = float(
            np.abs(found.per_image - loop(recon, original, direction)).max()
        )
    return {"images": WHOLE_LOOP, "largest_difference": differences}


def large(kind: str, n: int, d: int) -> Json:
    """Seconds and memory (MiB) of one identification, and of the correlations of each sample; runs
    alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        original = empty(kind, folder, (n, d))
        recon = empty(kind, folder, (n, N_SAMPLES, d))
        rng = np.random.default_rng(0)
        for i in range(n):
            original[i] = rng.standard_normal(d, dtype=np.float32)
            recon[i] = 0.02 * original[i] + rng.standard_normal((N_SAMPLES, d), dtype=np.float32)
        results: Json = {
            "shape": {"images": n, "samples": N_SAMPLES, "features": d, "dtype": "float16"}
        }
        for name, function in {
            "two_way_identification": two_way_identification,
            "correlations": correlations,
        }.items():
            with peak_memory() as memory:
                results[name] = {
                    "seconds": rounded(seconds(lambda function=function: function(recon, original)))
                }
            results[name] |= {"memory_mib": memory, "below_4_gb": memory["peak"] * 2**20 < 4e9}
        return results


def empty(kind: str, folder: str, shape: tuple[int, ...]) -> np.ndarray:
    """Room for features, in memory or in a file."""
    if kind == "arrays":
        return np.empty(shape, np.float16)
    return np.memmap(f"{folder}/{len(shape)}", np.float16, "w+", shape=shape)


def in_fresh_process(function: Callable[..., Json], *given: Any) -> Json:
    """Call a function in a process that has loaded nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def seconds(function: Callable[[], object]) -> float:
    """Run once."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def rounded(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
