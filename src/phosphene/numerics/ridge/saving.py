"""Decompositions on disk: one safetensors file, mapped when it is read, so that many workers share
one copy.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge.factors import Decomposition, Factor, Fold, Part

VERSION = 2
_FACTOR = ("values", "basis", "origin", "shift", "weights")


def save(parts: Decomposition, path: str | Path) -> None:
    """Write a decomposition to one safetensors file."""
    tensors = {
        "mean": parts.mean,
        "scale": parts.scale,
        "target_rows": torch.from_numpy(parts.target_rows),
    }
    if parts.x is not None:
        tensors |= {"x": parts.x.matrix, "x_rows": parts.x.rows}
    if parts.span is not None:
        tensors["span"] = parts.span
    for name, factor in [
        ("final", parts.final),
        *((f"fold{k}", f.factor) for k, f in enumerate(parts.folds)),
    ]:
        tensors |= {
            f"{name}.{key}": getattr(factor, key)
            for key in _FACTOR
            if getattr(factor, key) is not None
        }
        tensors |= {f"{name}.rows": factor.rows.rows, f"{name}.matrix": factor.rows.matrix}
    for k, fold in enumerate(parts.folds):
        tensors |= {f"fold{k}.counts": fold.counts, f"fold{k}.row_mean": fold.row_mean}
        if fold.products is not None:
            tensors[f"fold{k}.products"] = fold.products
        if fold.test is not fold.factor.rows:
            tensors |= {
                f"fold{k}.test_rows": fold.test.rows,
                f"fold{k}.test_matrix": fold.test.matrix,
            }
    kept = [parts.final.kept, *(fold.factor.kept for fold in parts.folds)]
    about = {"ridge": json.dumps({"version": VERSION, "center": parts.center, "kept": kept})}
    written = {}
    seen = set()
    for key, value in tensors.items():
        value = value.contiguous().cpu()
        # the format takes no array twice
        written[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    save_file(written, path, metadata=about)


def load(path: str | Path, device: str = "cpu") -> Decomposition:
    """Read what :func:`save` wrote; the same answers to the bit."""
    try:
        with safe_open(path, "pt", device=device) as file:
            about = json.loads(file.metadata()["ridge"])
            if about["version"] != VERSION:
                raise ValueError(f"version {about['version']}, expected {VERSION}")
            return _rebuilt(
                {key: file.get_tensor(key) for key in file.keys()}, about["center"], about["kept"]
            )
    except Exception as error:  # safetensors has an error of its own, of no public type
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PhospheneError(
            f"{path}: found no decomposition of a ridge regression that can be read ({what}); "
            "make it again."
        ) from error


def _rebuilt(t: dict[str, torch.Tensor], center: bool, kept: list[bool]) -> Decomposition:
    def factor(name: str, kept: bool) -> Factor:
        part = Part(t[f"{name}.matrix"], t[f"{name}.rows"])
        values, origin, shift, weights = (
            t[f"{name}.{key}"] for key in ("values", "origin", "shift", "weights")
        )
        return Factor(values, t.get(f"{name}.basis"), origin, shift, weights, part, kept)

    folds = []
    for k, one in enumerate(factor(f"fold{k}", kept) for k, kept in enumerate(kept[1:])):
        own = f"fold{k}.test_rows" in t
        test = Part(t[f"fold{k}.test_matrix"], t[f"fold{k}.test_rows"]) if own else one.rows
        folds.append(
            Fold(
                one, test, t[f"fold{k}.counts"], t[f"fold{k}.row_mean"], t.get(f"fold{k}.products")
            )
        )
    x = Part(t["x"], t["x_rows"]) if "x" in t else None
    rows = t["target_rows"].cpu().numpy()
    return Decomposition(
        x, t.get("span"), t["mean"], t["scale"], center, rows, factor("final", kept[0]), folds
    )
