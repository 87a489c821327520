"""What ``manifest.json`` says about a finished artefact."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from phosphene import disk
from phosphene.pipeline.environment import environment
from phosphene.pipeline.recipe import Recipe


def is_manifest(content: Any) -> TypeGuard[dict[str, Any]]:
    """Whether something that was read has the shape of a manifest."""
    if not isinstance(content, dict):
        return False
    parts = {"recipe": dict, "files": dict, "parts": list, "facts": dict}
    return all(isinstance(content.get(name), kind) for name, kind in parts.items()) and all(
        isinstance(entry, list) and [type(value) for value in entry] == [int, str]
        for entry in content["files"].values()
    )


def summary(
    path: Path,
    recipe: Recipe,
    markers: Sequence[Mapping[str, Any]],
    own: Mapping[str, disk.Entry],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together the manifest of an artefact.

    Parameters
    ----------
    path : Path
        Its folder.
    recipe : Recipe
    markers : sequence of dict
        Of its parts, in order.
    own : mapping of str to (int, str)
        Files that belong to no part.
    facts : mapping
        What else to remember.
    """
    files = {name: entry for marker in markers for name, entry in marker["files"].items()}
    arrays = [name.removesuffix("/zarr.json") for name in own if name.endswith("/zarr.json")]
    metadata = {name: disk.parsed((path / name / "zarr.json").read_bytes()) for name in arrays}
    return {
        "recipe": json.loads(recipe.canonical),
        "hash": recipe.hash,
        "files": dict(sorted((files | dict(own)).items())),
        "parts": [{**marker, "files": list(marker["files"])} for marker in markers],
        "arrays": {n: {"shape": m["shape"], "dtype": m["data_type"]} for n, m in metadata.items()},
        "facts": {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(sum(marker["seconds"] for marker in markers), 3),
            "peak_memory_mb": max(marker["peak_memory_mb"] for marker in markers),
            **environment(),
            **facts,
        },
    }
