"""A step for tests of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from phosphene.pipeline.step import Step
from phosphene.study import Compute


@dataclass(frozen=True, eq=False)
class Text(Step):
    """Two files that hold the name."""

    stage: ClassVar[str] = "texts"

    text: str

    @property
    def name(self) -> str:
        return self.text

    def n_parts(self) -> int:
        return 2

    def make_part(self, part: Any, index: int, compute: Compute) -> None:
        part.file(f"{index}.txt", self.text.encode())
