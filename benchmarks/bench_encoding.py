"""A whole brain encoded: the stages betas, factors and encode at the size of NSD, beside himalaya
on the same block.

A subject is drawn (whole_brain.py) and written by the stage `betas`, 200,000 voxels of float16.
Then `factors` makes the one decomposition and `encode` fits some blocks of voxels, each phase in a
fresh process. Blocks are as large as the chunks on disk: 5,000 voxels here, 4,096 in a study. Files
leave the system's cache before they are read.

himalaya gets what `encode` makes of the first block (trials averaged, rows weighted; float32), the
same penalties, folds and score, and must find the same. Its ``RidgeCV`` decomposes the features of
a fold, its ``KernelRidgeCV`` the kernel; both anew in every call, so ``whole_brain`` counts them
once for every block. (In one call for all voxels they would decompose once too, with all responses
and coefficients in memory.)

``--small`` measures an eighth in every direction, repeatedly and in turn, and compares seconds of
processor time, so that it may share the machine (with OMP_NUM_THREADS=1: idle threads count as
busy). ``--stop SECONDS`` ends the full size after that time: a peer that has not finished then is
told by the folds that it has. Memory is in MiB; ``peak_anonymous`` is without mapped files. The
JSON goes to stdout and is added to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from bench_ridge import FOLDS, agreement, in_fresh_process, rounded
from common import machine_facts, peak_memory
from sklearn.model_selection import KFold
from whole_brain import FULL, SMALL, SPACE, SUBJECT, Size, WholeBrain

Json = dict[str, Any]
RIDGE = "himalaya RidgeCV"
KERNEL = "himalaya KernelRidgeCV"


def study_of(folder: Path, size: Size) -> Any:
    """Make a study of the drawn brain in this process, with blocks of the wanted size."""
    from phosphene.steps import betas, subject
    from phosphene.steps.encode import models as fitting
    from phosphene.study import Study

    brain = WholeBrain(size)
    subject._open = lambda *place: brain
    betas.VOXELS_PER_CHUNK = fitting.VOXELS_PER_CHUNK = size.block
    values = {"name": "brain", "data": {"root": str(folder)}}
    return Study.from_dict(values, root=folder / "runs", folder=folder)


def compute() -> Any:
    """Compute one part after the other in this process."""
    from phosphene.study import Compute

    return Compute(
        device="cpu", jobs=1, threads=int(os.environ.get("OMP_NUM_THREADS", "2")), progress=False
    )


def model() -> Any:
    """Predict from one feature space."""
    from phosphene.encoding import Model

    return Model.of(SPACE)


def forget(folder: Path, pattern: str = "*") -> int:
    """Let the system drop files from its cache; give their bytes."""
    total = 0
    for path in folder.rglob(pattern):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            total += path.stat().st_size
    return total


@contextmanager
def measured(found: Json) -> Iterator[None]:
    """Measure seconds, seconds of processor time over all threads, and memory of a block."""
    with peak_memory() as memory:
        started = time.perf_counter()
        used = time.process_time()
        yield
        found |= {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - used,
        }
    found["memory_mib"] = memory


def write_brain(folder: Path, size: Size) -> Json:
    """Write features and responses."""
    from phosphene.pipeline.graph import make
    from phosphene.steps.betas import Betas
    from phosphene.steps.extract import Extract

    study = study_of(folder, size)
    found = {}
    rows = WholeBrain(size).components
    features = Extract(study, SUBJECT, SPACE).artefact
    features.create_array("features", rows.shape, "float32", (250, rows.shape[1]))
    features.missing(1)
    with features.part(0) as part:
        part.array("features", slice(0, len(rows)), rows)
    features.finish()
    with measured(found):
        (made,) = make([Betas(study, SUBJECT, study.encode.rois)], compute())
    return found | {"gib_on_disk": forget(made.path) / 2**30}


def decompose(folder: Path, size: Size) -> Json:
    """Run the stage factors."""
    from phosphene.pipeline.graph import make
    from phosphene.steps.encode import Factors

    study = study_of(folder, size)
    found = {}
    make_part = Factors.make_part
    used = []

    def one(*given: Any) -> None:
        started = time.process_time()
        make_part(*given)
        used.append(time.process_time() - started)

    Factors.make_part = one
    with measured(found):
        (made,) = make([Factors(study, SUBJECT, model())], compute())
    # without the check that inputs are whole
    alone = sum(part["seconds"] for part in made.manifest["parts"])
    return found | {
        "part_seconds": alone,
        "part_cpu_seconds": sum(used),
        "gib_on_disk": forget(made.path, "*.safetensors") / 2**30,
    }


def encode_blocks(folder: Path, size: Size, n_blocks: int) -> Json:
    """Run the stage encode for some blocks; keep what himalaya needs of the first one."""
    from phosphene.encoding import fitting
    from phosphene.pipeline.graph import make
    from phosphene.steps.encode import Encode, models

    study = study_of(folder, size)
    found = {}
    blocks = []
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            started = time.perf_counter()
            result = function(*given)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
            return result

        return call

    fit_block = timed("fitting and scoring", fitting.fit_block)
    make_part = Encode.make_part

    def fit(known: Any, voxels: Any, *more: Any) -> Any:
        result = fit_block(known, voxels, *more)
        if not blocks:
            given = {
                "X": known.train[0],
                "X_test": known.test[0],
                "Y": voxels.train,
                "alphas": study.encode.alphas,
            }
            for name, values in (
                given | {name: result[name] for name in ("alpha", "prediction", "r")}
            ).items():
                np.save(
                    folder / f"{name}.npy",
                    np.asarray(values, None if name in ("alpha", "alphas") else np.float32),
                )
        return result

    def one(step: Encode, part: Any, index: int, *more: Any) -> None:
        forget(study.root / "betas", f"c/0/{index}")
        seconds.clear()
        used = time.process_time()
        timed("all", make_part)(step, part, index, *more)
        blocks.append(seconds | {"cpu_seconds": time.process_time() - used})
        print(f"  block {index}: {seconds['all']:.1f} s", file=sys.stderr, flush=True)

    fitting.fit_block = fit
    Encode.make_part = one
    Encode.n_parts = lambda step: min(step.n_blocks(), n_blocks)
    models.read_voxels = timed("reading voxels", models.read_voxels)
    models.design = timed("reading features", models.design)
    with measured(found):
        make([Encode(study, SUBJECT, model())], compute())
    names = {name: statistics.median(block[name] for block in blocks) for name in blocks[0]}
    return found | {
        "blocks": blocks,
        "median_block": names,
        "r": float(np.nanmean(np.load(folder / "r.npy"))),
    }


class Folds(KFold):
    """Folds that note when they are asked for."""

    def __init__(self, n: int, note: Path) -> None:
        super().__init__(n)
        self.note = note

    def split(self, *given: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows, and note the time."""
        for rows in super().split(*given):
            with self.note.open("a") as file:
                file.write(f"{time.perf_counter()}\n")
            yield rows


def peer(who: str, backend: str, folder: Path, targets: int = 0) -> Json:
    """Fit the first block with himalaya."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import r2_score

    warnings.simplefilter("ignore")
    set_backend(backend)
    X, Y, test, alphas = (
        np.load(folder / f"{name}.npy") for name in ("X", "Y", "X_test", "alphas")
    )
    Y = Y[:, : targets or None]
    note = folder / "folds.txt"
    found = {}
    note.unlink(missing_ok=True)
    given = {
        "alphas": alphas,
        "cv": Folds(FOLDS, note),
        "fit_intercept": False,
        "solver_params": {"n_alphas_batch": 1, "score_func": r2_score, "warn": False},
    }
    if who == KERNEL:
        del given["solver_params"]["warn"]
    with measured(found):
        fitted = (
            RidgeCV(**given)
            if who == RIDGE
            else KernelRidgeCV(kernel="linear", warn=False, **given)
        ).fit(X, Y)
        predicted = np.asarray(fitted.predict(test))
        best = np.asarray(fitted.best_alphas_)
    if targets:
        return found
    ours = np.load(folder / "prediction.npy")
    found |= agreement(np.load(folder / "alpha.npy"), ours, best, predicted)
    return found | {"largest_difference_all_voxels": float(np.abs(ours - predicted).max())}


def stopped(stop: float, who: str, backend: str, folder: Path) -> Json:
    """Run a peer in a process that is ended after `stop` seconds; then give the seconds of its
    finished folds.
    """
    if stop <= 0:
        return {"not_run": "no time was left"}
    note = folder / "folds.txt"
    context = get_context("spawn")
    note.unlink(missing_ok=True)
    queue = context.Queue()
    process = context.Process(target=_answer, args=(queue, who, backend, folder))
    process.start()
    process.join(stop)
    if not process.is_alive():
        return dict(queue.get())
    peak = next(
        int(line.split()[1]) / 1024
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    process.terminate()
    process.join()
    asked = [float(line) for line in note.read_text().splitlines()] if note.exists() else []
    # the last time that folds were gone through; before are checks
    asked = asked[(len(asked) - 1) // FOLDS * FOLDS :]
    return {
        "ended_after_seconds": stop,
        "seconds_of_folds": np.diff(asked).tolist(),
        "memory_mib": {"peak": peak},
    }


def _answer(queue: Any, *given: Any) -> None:
    queue.put(peer(*given))


def whole_brain(size: Size, once: float, block: float, peers: dict[str, float]) -> Json:
    """Extrapolate to all voxels: seconds of one process, and ratios to it."""
    n = -(-size.voxels // size.block)
    ours = once + n * block
    return {
        "blocks": n,
        "seconds": ours,
        "seconds_of_peers_called_for_every_block": {
            who: n * seconds for who, seconds in peers.items()
        },
        "ratio_block_with_decomposition": {
            who: seconds / (once + block) for who, seconds in peers.items()
        },
        "ratio_block": {who: seconds / block for who, seconds in peers.items()},
        "ratio": {who: n * seconds / ours for who, seconds in peers.items()},
    }


def small(folder: Path, repeats: int) -> Json:
    """Measure the small size in turn with himalaya; half a block once, to see what does not depend
    on voxels.
    """
    size = SMALL
    tries = {f"{who}, {b}": (who, b) for who in (RIDGE, KERNEL) for b in ("numpy", "torch")}
    found: Json = {
        "size": asdict(size),
        "betas": in_fresh_process(write_brain, folder, size),
        "runs": [],
    }
    runs = found["runs"]
    for _ in range(repeats):
        for stage in ("factors", "encode"):
            shutil.rmtree(folder / "runs" / stage, ignore_errors=True)
        run = {"factors": in_fresh_process(decompose, folder, size)}
        run["encode"] = in_fresh_process(encode_blocks, folder, size, 4)
        runs.append(
            run | {name: in_fresh_process(peer, *given, folder) for name, given in tries.items()}
        )
    found["half_block"] = {
        n: in_fresh_process(peer, *given, folder, size.block // 2) for n, given in tries.items()
    }
    medians = {name: statistics.median(run[name]["cpu_seconds"] for run in runs) for name in tries}
    once = statistics.median(run["factors"]["part_cpu_seconds"] for run in runs)
    block = statistics.median(run["encode"]["median_block"]["cpu_seconds"] for run in runs)
    found["median_cpu_seconds"] = medians | {"factors": once, "block": block}
    return found | {"whole_brain": whole_brain(size, once, block, medians)}


def full(
    folder: Path, n_blocks: int, backend: str, stop: float, save: Callable[[Json], None]
) -> None:
    """Measure the full size, one phase after the other, saving after each."""
    size = FULL
    found = {"size": asdict(FULL), "peer_backend": backend}
    started = time.monotonic()
    say = partial(print, file=sys.stderr, flush=True)
    found["betas"] = in_fresh_process(write_brain, folder, size)
    say(
        f"betas written: {found['betas']['seconds']:.0f} s, {found['betas']['gib_on_disk']:.1f} GiB"
    )
    found["factors"] = in_fresh_process(decompose, folder, size)
    say(
        f"decomposed once: {found['factors']['part_seconds']:.0f} s, "
        f"{found['factors']['gib_on_disk']:.2f} GiB"
    )
    found["encode"] = in_fresh_process(encode_blocks, folder, size, n_blocks)
    save(found)
    for who in (KERNEL, RIDGE):
        found[who] = stopped(stop - (time.monotonic() - started), who, backend, folder)
        say(f"{who}: {json.dumps(rounded(found[who]))}")
        save(found)
    peers = {who: found[who]["seconds"] for who in (KERNEL, RIDGE) if "seconds" in found[who]}
    block = found["encode"]["median_block"]["all"]
    found["whole_brain"] = whole_brain(size, found["factors"]["part_seconds"], block, peers)
    save(found)


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--small", action="store_true", help="an eighth in every direction, a minute"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of --small")
    parser.add_argument("--blocks", type=int, default=3, help="of the full size")
    parser.add_argument("--backend", default="torch", help="himalaya's, at full size")
    parser.add_argument(
        "--stop", type=float, default=1e6, metavar="SECONDS", help="end the full size then"
    )
    parser.add_argument(
        "--folder", type=Path, help="where 14 GiB are free; by default a temporary folder"
    )
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "encoding.json"
    )
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="brain-", dir=args.folder))
    name = "small" if args.small else "full"

    def save(part: Json) -> None:
        found = json.loads(args.out.read_text()) if args.out.exists() else {}
        found["machine"] = machine_facts("numpy", "torch", "himalaya", "zarr")
        found[name] = part | {"measured": datetime.now().isoformat(timespec="seconds")}
        args.out.write_text(json.dumps(rounded(found), indent=1) + "\n")

    try:
        if args.small:
            save(small(folder, args.repeats))
        else:
            full(folder, args.blocks, args.backend, args.stop, save)
        print(args.out.read_text())
    finally:
        if not args.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
