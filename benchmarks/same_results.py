"""Compare the values in two folders of results, stage by stage and file by file, whatever the
hashes in their names.

Artefacts are paired by stage, name and settings; several of one name by their settings. Arrays,
tables, pictures and decompositions are compared by values, other files (but the report's page and
manifests) by their bytes. Prints the largest difference of each artefact, and what only one side
has; exits with 1 unless all is equal.

    python benchmarks/same_results.py OLD/runs NEW/runs
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from PIL import Image
from safetensors.numpy import load_file

Artefacts = dict[tuple[str, str], list[Path]]
DIFFERENT = float("inf")  # other shapes, types, columns, bytes
NOT_VALUES = ("manifest.json", "report.html")  # they hold times, versions and hashes


def artefacts(root: Path) -> Artefacts:
    """Finished artefacts by stage and name."""
    known: Artefacts = defaultdict(list)
    for manifest in sorted(root.glob("*/*/manifest.json")):
        folder = manifest.parent
        known[folder.parent.name, folder.name.rpartition("-")[0]].append(folder)
    return known


def settings(folder: Path) -> str:
    """Settings of an artefact's recipe as text."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return json.dumps(manifest["recipe"]["settings"], sort_keys=True)


def pairs(old: Artefacts, new: Artefacts) -> Iterator[tuple[Path | None, Path | None]]:
    """Artefacts of both sides that belong together; None where one side has no counterpart."""
    for key in sorted({*old, *new}):
        left = list(old.get(key, []))
        right = list(new.get(key, []))
        if len(left) == len(right) == 1:
            yield left[0], right[0]
            continue
        for folder in left:
            match = next((other for other in right if settings(other) == settings(folder)), None)
            if match is not None:
                right.remove(match)
            yield folder, match
        yield from ((None, folder) for folder in right)


def compare(old: Path, new: Path, fewer_columns: bool) -> Iterator[tuple[str, float]]:
    """Largest difference of every array, table, picture and file of two artefacts."""
    names = {name for folder in (old, new) for name in values_of(folder)}
    for name in sorted(names):
        left = old / name
        right = new / name
        if not (left.exists() and right.exists()):
            yield name, DIFFERENT
        else:
            before = read(left)
            after = read(right)
            if fewer_columns and isinstance(after, pd.DataFrame) and set(after) < set(before):
                print(
                    f"{old.parent.name}/{old.name}/{name}: only OLD has {set(before) - set(after)}"
                )
                before = before[list(after)]
            yield name, difference(before, after)


def values_of(folder: Path) -> Iterator[str]:
    """Relative names of what an artefact holds; a zarr array is one."""
    arrays = {path.parent for path in folder.rglob("zarr.json") if '"array"' in path.read_text()}
    for array in arrays:
        yield str(array.relative_to(folder))
    for path in folder.rglob("*"):
        inside = any(array in path.parents for array in arrays)
        if path.is_file() and not inside and path.name not in (*NOT_VALUES, "zarr.json"):
            yield str(path.relative_to(folder))


def read(path: Path) -> Any:
    """Values of a file or of a zarr array."""
    if path.is_dir():
        return np.asarray(zarr.open_array(path, mode="r")[...])
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".png":
        return np.asarray(Image.open(path)).astype(np.int16)
    if path.suffix == ".safetensors":
        return load_file(path)
    return path.read_bytes()


def difference(left: Any, right: Any) -> float:
    """Largest difference of two values of one kind; infinite where they cannot be compared."""
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return DIFFERENT
        return max((difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, pd.DataFrame):
        if list(left) != list(right) or len(left) != len(right):
            return DIFFERENT
        return max(
            (difference(left[key].to_numpy(), right[key].to_numpy()) for key in left), default=0.0
        )
    if isinstance(left, bytes):
        return 0.0 if left == right else DIFFERENT
    if left.shape != right.shape or left.dtype != right.dtype:
        return DIFFERENT
    if left.dtype.kind not in "iufb":
        return 0.0 if pd.Series(left.ravel()).equals(pd.Series(right.ravel())) else DIFFERENT
    if np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
        return 0.0
    return (
        float(np.nanmax(np.abs(left.astype(np.float64) - right.astype(np.float64)), initial=0.0))
        or DIFFERENT
    )


def main() -> int:
    """Compare, print; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--fewer-columns",
        action="store_true",
        help="tables of NEW may lack columns; they are named",
    )
    args = parser.parse_args()
    n_values = 0
    worst = 0.0
    for old, new in pairs(artefacts(args.old), artefacts(args.new)):
        if old is None or new is None:
            print(f"only in {'OLD' if new is None else 'NEW'}: {old or new}")
            worst = DIFFERENT
            continue
        differences = dict(compare(old, new, args.fewer_columns))
        n_values += len(differences)
        name = max(differences, key=differences.__getitem__, default="")
        largest = differences.get(name, 0.0)
        worst = max(worst, largest)
        where = f" in {name}" if largest else ""
        print(
            f"{old.parent.name}/{old.name}: {len(differences)} values, largest difference "
            f"{largest:g}{where}"
        )
    print(f"{n_values} values, largest difference {worst:g}")
    return 0 if n_values and worst == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
