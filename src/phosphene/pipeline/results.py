"""List the results under a folder, and how each differs from what a study would make now."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from phosphene import disk
from phosphene.pipeline.environment import versions
from phosphene.pipeline.recipe import canonical, short_hash
from phosphene.pipeline.step import Key, Step
from phosphene.study import Study

_FOLDER = re.compile(r"(?P<name>.+)-(?P<hash>[0-9a-f]{10})")


@dataclass(frozen=True)
class Result:
    """A folder of results, finished or not.

    Attributes
    ----------
    path : Path
    stage, name, hash : str
    recipe : dict
        What it was made from; empty while it is not finished.
    date : str
        When it was finished, or last written to: ISO 8601 in UTC.
    """

    path: Path
    stage: str
    name: str
    hash: str
    recipe: Mapping[str, Any]
    date: str

    @cached_property
    def n_bytes(self) -> int:
        """Bytes on disk; all of its files are looked at."""
        return disk.folder_size(self.path)

    @property
    def is_finished(self) -> bool:
        """Whether it has a manifest."""
        return bool(self.recipe)


def results(root: Path) -> list[Result]:
    """Every result under ``root/<stage>/<name>-<hash>/``, by stage and name."""
    return sorted(_results(root), key=lambda result: (result.stage, result.name, result.date))


def _results(root: Path) -> Iterator[Result]:
    for folder in root.glob("[!.]*/[!.]*"):
        match = _FOLDER.fullmatch(folder.name)
        manifest = folder / "manifest.json"
        if match is None or not (manifest.exists() or (folder / "parts").is_dir()):
            continue
        recipe, facts = _parsed(manifest, match["hash"])
        modified = datetime.fromtimestamp(_last_write(folder), UTC)
        yield Result(
            path=folder,
            stage=folder.parent.name,
            name=recipe.get("name") or unquote(match["name"]),
            hash=match["hash"],
            recipe=recipe,
            date=facts.get("date", f"{modified:%Y-%m-%dT%H:%M:%SZ}"),
        )


def _last_write(folder: Path) -> float:
    """When a result was last written to; parts are written below its folder."""
    times = [0.0]
    for place in (folder, folder / "parts"):
        with contextlib.suppress(FileNotFoundError):  # a study that is running moves files
            times.append(place.stat().st_mtime)
    return max(times)


def _parsed(manifest: Path, expected: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and facts of a manifest; both empty where it is missing or damaged."""
    try:
        content = json.loads(manifest.read_bytes())
        if short_hash(canonical(content["recipe"])) == expected:
            return content["recipe"], dict(content["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {}, {}


def differences(
    recipe: Mapping[str, Any], step: Step, known: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Say in which settings and inputs a result differs from what a step would make.

    Parameters
    ----------
    recipe : mapping
        That of a result of the same stage.
    step : Step
    known : mapping
        Recipes of other results by their hash, in which the settings of inputs are looked up.

    Returns
    -------
    list of str
        Such as ``"with samples = 1 (now 2)"``, ``"with other images"`` and ``"without
        subj01-audit"``; empty where the recipes are equal.
    """
    today = step.recipe
    found = []
    if recipe["version"] != today.version:
        found.append(f"with version {recipe['version']} (now {today.version})")
    before = _flat(recipe["settings"])
    now = _flat(today.settings)
    for name in dict.fromkeys([*before, *now]):
        default = _default(step, name)
        old, new = before.get(name, default), now.get(name, default)
        if old != new:
            short = ".".join(name.split(".")[-2:])
            found.append(f"with {short} = {_text(old)} (now {_text(new)})")
    for name in dict.fromkeys([*recipe["inputs"], *today.inputs]):
        old, new = recipe["inputs"].get(name), today.inputs.get(name)
        if old == new:
            continue
        source = step.all_inputs.get(name)
        if isinstance(source, Step) and old in known:
            found += differences(known[old], source, known)
        elif old is None or new is None:
            found.append(f"without {name}" if old is None else f"with {name}")
        else:
            other = "other" if isinstance(source, Key) else "other input"
            found.append(f"with {other} {name}")
    return list(dict.fromkeys(found))


def nearest(
    step: Step, others: Sequence[Result], known: Mapping[str, Mapping[str, Any]]
) -> list[str] | None:
    """How the result that is most like a step's differs from it; None where there is none."""
    candidates = [
        differences(result.recipe, step, known)
        for result in others
        if result.is_finished and (result.stage, result.name) == (step.stage, step.name)
    ]
    return min(candidates, key=len, default=None)


def other_versions(step: Step) -> list[str]:
    """Libraries that a finished result was made with, where another version is here today."""
    made_with = step.artefact.manifest["facts"].get("packages", {})
    here = versions()
    return [f"{name} {version}" for name, version in made_with.items() if here.get(name) != version]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of nested tables by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _default(step: Step, name: str) -> Any:
    """The default of a setting by its name in a recipe; None where it has none."""
    for section in step.sections:
        part = getattr(Study(), section)
        if hasattr(part, name):
            value = getattr(part, name)
            return list(value) if isinstance(value, tuple) else value
    return None


def _text(value: Any) -> str:
    return "nothing" if value is None else str(value)
