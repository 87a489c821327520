"""Decompositions on disk: one safetensors file, mapped when it is read, so that many workers share one copy."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from phosphene.errors import PhospheneError
from phosphene.ridge.factors import Decomposition, Factor, Fold, Part

_FACTOR = ("values", "basis", "origin", "shift", "weights")


def save(parts: Decomposition, path: str | Path) -> None:
    """Write a decomposition to one safetensors file."""
    tensors = {"x": parts.x.matrix, "x_rows": parts.x.rows, "mean": parts.mean, "scale": parts.scale}
    tensors["target_rows"] = torch.from_numpy(parts.target_rows)
    for name, factor in [("final", parts.final), *((f"fold{k}", f.factor) for k, f in enumerate(parts.folds))]:
        tensors |= {f"{name}.{key}": getattr(factor, key) for key in _FACTOR if getattr(factor, key) is not None}
        tensors |= {f"{name}.rows": factor.rows.rows, f"{name}.matrix": factor.rows.matrix}
    for k, fold in enumerate(parts.folds):
        tensors |= {f"fold{k}.counts": fold.counts, f"fold{k}.row_mean": fold.row_mean}
        if fold.products is not None:
            tensors[f"fold{k}.products"] = fold.products
        if fold.test is not fold.factor.rows:
            tensors |= {f"fold{k}.test_rows": fold.test.rows, f"fold{k}.test_matrix": fold.test.matrix}
    kept = [parts.final.kept, *(fold.factor.kept for fold in parts.folds)]
    about = {"ridge": json.dumps({"version": 1, "center": parts.center, "kept": kept})}
    save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, path, metadata=about)


def load(path: str | Path, device: str = "cpu") -> Decomposition:
    """Read what :func:`save` wrote; the same answers to the bit."""
    try:
        with safe_open(path, "pt", device=device) as file:
            about = json.loads(file.metadata()["ridge"])
            t = {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:  # safetensors has an error of its own, of no public type
        raise PhospheneError(f"{path}: found no saved decomposition of a ridge regression: {error}.") from error

    def factor(name: str, kept: bool) -> Factor:
        part = Part(t[f"{name}.matrix"], t[f"{name}.rows"])
        values, origin, shift, weights = (t[f"{name}.{key}"] for key in ("values", "origin", "shift", "weights"))
        return Factor(values, t.get(f"{name}.basis"), origin, shift, weights, part, kept)

    folds = []
    for k, kept in enumerate(about["kept"][1:]):
        name, one = f"fold{k}", factor(f"fold{k}", kept)
        own = f"{name}.test_rows" in t
        test = Part(t[f"{name}.test_matrix"], t[f"{name}.test_rows"]) if own else one.rows
        folds.append(Fold(one, test, t[f"{name}.counts"], t[f"{name}.row_mean"], t.get(f"{name}.products")))
    x, rows, final = Part(t["x"], t["x_rows"]), t["target_rows"].numpy(), factor("final", about["kept"][0])
    return Decomposition(x, t["mean"], t["scale"], about["center"], rows, final, folds)
