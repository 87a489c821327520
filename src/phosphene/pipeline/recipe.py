"""Recipes: what an artefact is made from, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any
from urllib.parse import quote

from phosphene import disk
from phosphene.errors import PhospheneError

LONGEST = 120  # characters of a name in a folder's name; file systems allow 255 in all


@dataclass(frozen=True)
class Recipe:
    """What an artefact is made from; everything here is hashed, nothing else is.

    Attributes
    ----------
    stage, name
        Folder, of letters, digits and ``. _ -`` only, and readable name.
    version
        Raised when the code of the stage gives other numbers than before.
    settings
        The settings that differ from their defaults (`Study.settings`); JSON values.
    inputs
        Name -> hash of another artefact, or a data fingerprint.
    """

    stage: str
    name: str
    version: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.stage) or not self.name:
            raise PhospheneError(
                f"stage {self.stage!r}, name {self.name!r}: expected letters, digits and . _ - for "
                "the stage, and a name"
            )

    @cached_property
    def canonical(self) -> str:
        """The recipe as JSON with sorted keys and no spaces: equal recipes give equal text."""
        return canonical({entry.name: getattr(self, entry.name) for entry in fields(self)})

    @property
    def folder(self) -> str:
        """Name of the folder: what cannot stand in one is spelled as in web addresses ("V1%20left",
        which :func:`urllib.parse.unquote` reads), long names are cut.
        """
        spelled = quote(self.name, safe="")
        if spelled.startswith("."):
            spelled = f"%2E{spelled[1:]}"
        return f"{spelled[:LONGEST]}-{self.hash}"

    @property
    def digest(self) -> str:
        """The whole BLAKE2b of `canonical`: nobody can try out all of them, as they could those of
        `hash`.
        """
        return hashlib.blake2b(self.canonical.encode()).hexdigest()

    @cached_property
    def hash(self) -> str:
        """Ten hexadecimal digits of the BLAKE2b of `canonical`."""
        return short_hash(self.canonical)


def canonical(recipe: Mapping[str, Any]) -> str:
    """Write the content of a recipe as in :attr:`Recipe.canonical`."""
    return json.dumps(
        recipe, sort_keys=True, separators=(",", ":"), allow_nan=False, default=disk.scalar
    )


def short_hash(text: str) -> str:
    """Hash a canonical recipe as in :attr:`Recipe.hash`."""
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
