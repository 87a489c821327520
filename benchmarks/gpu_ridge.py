"""RidgeCV on a GPU at the size of NSD, beside himalaya's backend for CUDA.

The size is that of c from ventral cortex: 24,980 trials, 7,604 voxels, 59,136 targets, 13
penalties, five folds, in float32. Data are drawn on the device and both implementations get tensors
there. himalaya decomposes every fold by a singular value decomposition, whose time grows with the
cube of the size, so that it may not fit. Therefore sizes in which all three numbers are divided by
16, 8, 4, 2 and 1 are compared in this order, in turn, A B A B: the first two always, the others as
long as `--stop` permits. phosphene alone runs at the full size after the second.

At every size penalties and predictions of himalaya and phosphene are compared. At the full size the
coefficients of some targets are compared with a float64 Cholesky solution under the chosen penalty.
Memory is what PyTorch allocated at most, data included. `--quick` divides the full size by ten
first; no figures to quote. The JSON is written after each measurement.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_ridge import agreement, rounded
from common import machine_facts
from ridge_problems import FOLDS, NSD, OURS, TINY, Data, Shape, himalaya_model, quick, settings
from sklearn.model_selection import KFold

from phosphene.numerics.ridge import RidgeCV

Json = dict[str, Any]
PEER = "himalaya"
DIVISORS = (16, 8, 4, 2, 1)
ALWAYS = 2  # so many of them are compared whatever the time
GROWTH = 9.0  # of the seconds when all three numbers double; without overheads it is 8
CHECKED_TARGETS = 50
BLOCK = 4096  # targets that are drawn together


def divided(shape: Shape, divisor: int) -> Shape:
    return replace(shape, n=shape.n // divisor, p=shape.p // divisor, t=shape.t // divisor)


def draw(shape: Shape, device: str) -> Data:
    """Draw the kind of problem that `ridge_problems.make` draws, on the device."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device=device)

    X = normal(shape.n, shape.p)
    Y = torch.empty(shape.n, shape.t, device=device)
    noise = torch.logspace(np.log10(0.5), np.log10(8), shape.t, device=device)
    for start in range(0, shape.t, BLOCK):
        columns = slice(start, min(start + BLOCK, shape.t))
        width = columns.stop - start
        Y[:, columns] = (
            X @ normal(shape.p, width) * shape.p**-0.5 + normal(shape.n, width) * noise[columns]
        )
    return Data(X, Y, np.logspace(0, 6, shape.alphas), KFold(FOLDS), None)  # type: ignore[arg-type]


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def fit(who: str, data: Data, setting: Json, device: str) -> Any:
    if who == OURS:
        options = {"cv": data.cv, "scoring": "neg_mean_squared_error", "standardize": False}
        return RidgeCV(data.alphas, **options, **setting).fit(data.X, data.Y)
    backend = "torch_cuda" if device.startswith("cuda") else "torch"
    return himalaya_model(backend, data, setting).fit(data.X, data.Y)


def measured(who: str, data: Data, setting: Json, device: str) -> tuple[Any, Json]:
    """Fit once: the model, its seconds and the memory."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    synchronize(device)
    started = time.perf_counter()
    model = fit(who, data, setting, device)
    synchronize(device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else None
    return model, {"seconds": seconds, "peak_mib": peak}


def host(values: Any) -> np.ndarray:
    return np.asarray(torch.as_tensor(values).cpu())


def compare(shape: Shape, device: str, setting: Json, repeats: int) -> Json:
    """Fit both in turn, and compare their answers."""
    data = draw(shape, device)
    runs: dict[str, list[Json]] = {OURS: [], PEER: []}
    answers = {}
    for _ in range(repeats):
        for who in runs:
            model, run = measured(who, data, setting if who == PEER else {}, device)
            runs[who].append(run)
            answers[who] = host(model.best_alphas_), host(model.predict(data.X[:200]))
            del model
    medians = {
        who: statistics.median(run["seconds"] for run in figures) for who, figures in runs.items()
    }
    return {
        "shape": asdict(shape),
        "ratio": medians[PEER] / medians[OURS],
        "median_seconds": medians,
        "runs": runs,
        "agreement": agreement(*answers[OURS], *answers[PEER]),
    }


def alone(data: Data, shape: Shape, device: str, setting: Json) -> Json:
    """Fit phosphene once and check some coefficients."""
    model, figures = measured(OURS, data, setting, device)
    return (
        {"shape": asdict(shape), "setting": setting}
        | figures
        | {"coef_error": coef_error(model, data)}
    )


def coef_error(model: RidgeCV, data: Data) -> float:
    """Largest relative error of the coefficients of some targets, against float64 under the same
    penalties.
    """
    columns = np.linspace(0, data.Y.shape[1] - 1, CHECKED_TARGETS).astype(int)
    index = torch.from_numpy(columns).to(data.X.device)
    X = data.X.double()
    X -= X.mean(dim=0)
    Y = data.Y[:, index].double()
    Y -= Y.mean(dim=0)
    gram = X.T @ X
    cross = X.T @ Y
    alphas = model.best_alphas_[columns]
    solution = torch.empty_like(cross)
    for alpha in np.unique(alphas):
        chosen = torch.from_numpy(np.flatnonzero(alphas == alpha)).to(index.device)
        penalised = gram + alpha * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        solution[:, chosen] = torch.cholesky_solve(
            cross[:, chosen], torch.linalg.cholesky(penalised)
        )
    difference = torch.linalg.norm(model.coef_[:, index].double() - solution, dim=0)
    return float((difference / torch.linalg.norm(solution, dim=0)).max())


def fastest_setting(shape: Shape, device: str) -> tuple[Json, list[Json]]:
    """Try himalaya's batches of penalties and targets once and keep the fastest."""
    data = draw(shape, device)
    tried = []
    for setting in settings(shape):
        tried.append(
            {"setting": setting, "seconds": measured(PEER, data, setting, device)[1]["seconds"]}
        )
    best = min(tried, key=lambda run: run["seconds"])
    return best["setting"], tried


def main() -> None:
    """Parse options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes, to try the script; no figures to quote"
    )
    parser.add_argument(
        "--stop", type=float, default=100, metavar="SECONDS", help="begin nothing that lasts longer"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for ridge.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    end = time.monotonic() + (min(args.stop, 4) if args.quick else args.stop)
    full = quick(NSD) if args.quick else NSD
    record: Json = {
        "quick": args.quick,
        "device": args.device,
        "machine": machine_facts("torch", "himalaya"),
    }
    record |= {"pairs": {}, "alone": {}, "left_out": {}}

    def save() -> None:
        (args.out / "ridge.json").write_text(json.dumps(rounded(record), indent=1) + "\n")
        print(
            json.dumps(rounded({key: record[key] for key in ("pairs", "alone", "left_out")})),
            flush=True,
        )

    tiny = draw(TINY, args.device)
    for who in (OURS, PEER):
        fit(who, tiny, {}, args.device)  # loads the libraries' kernels
    setting, record["settings_of_himalaya"] = fastest_setting(
        divided(full, DIVISORS[0]), args.device
    )
    expected = 0.0
    for number, divisor in enumerate(DIVISORS, start=1):
        shape = divided(full, divisor)
        left = end - time.monotonic()
        if expected > left and number > ALWAYS:
            record["left_out"][shape.name] = (
                f"{expected:.0f} s expected for one pair, {left:.0f} s left"
            )
            save()
            break
        repeats = int(np.clip(left / 2 // expected, 1, 3)) if expected else 3
        try:
            pair = compare(shape, args.device, setting, repeats)
        except torch.OutOfMemoryError as error:
            record["left_out"][shape.name] = str(error).splitlines()[0]
            save()
            break
        record["pairs"][shape.name] = pair
        expected = GROWTH * sum(pair["median_seconds"].values())
        save()
        if number == ALWAYS:
            data = draw(full, args.device)
            for own_setting in ({}, {"target_block": BLOCK}):
                seconds = max((run["seconds"] for run in record["alone"].values()), default=0.0)
                if seconds > end - time.monotonic():
                    break
                name = f"{full.name}, target_block {own_setting.get('target_block', 'automatic')}"
                record["alone"][name] = alone(data, full, args.device, own_setting)
                save()
            del data
    save()


if __name__ == "__main__":
    main()
