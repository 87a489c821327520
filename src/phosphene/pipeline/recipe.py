"""Recipes: what an artefact is made from, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from phosphene import disk
from phosphene.errors import PhospheneError


@dataclass(frozen=True)
class Recipe:
    """What an artefact is made from; everything here is hashed, nothing else is.

    Attributes
    ----------
    stage, name
        Folder and readable name, letters, digits and ``. _ -`` only.
    version
        The stage's VERSION, raised when its code gives other numbers than before.
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
        for text in (self.stage, self.name):
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", text):
                raise PhospheneError(
                    f"'{text}' cannot name a folder; use letters, digits and . _ - only"
                )

    @property
    def canonical(self) -> str:
        """The recipe as JSON with sorted keys and no spaces: equal recipes give equal text."""
        return json.dumps(
            asdict(self),
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
            default=disk.scalar,
        )

    @property
    def digest(self) -> str:
        """The whole BLAKE2b of `canonical`: nobody can try out all of them, as they could those of
        `hash`.
        """
        return hashlib.blake2b(self.canonical.encode()).hexdigest()

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits of the BLAKE2b of `canonical`."""
        return hashlib.blake2b(self.canonical.encode(), digest_size=5).hexdigest()
