"""The one shape of a stage: make the parts of an artefact that are missing, and finish it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from phosphene.pipeline.parallel import run_parts
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Artefact, Store
from phosphene.study import Compute, Study


def make(
    study: Study,
    recipe: Recipe,
    n_parts: int,
    work: Callable[[Artefact, int], None],
    compute: Compute,
    prepare: Callable[[Artefact], None] = lambda artefact: None,
) -> Artefact:
    """Make the parts of an artefact that are missing, and finish it."""
    artefact = Store(study.root).artefact(recipe)
    if not artefact.done:
        prepare(artefact)
        run_parts(
            partial(work, artefact),
            artefact.missing(n_parts),
            compute,
            f"{recipe.stage} {recipe.name}",
        )
        artefact.finish()
    return artefact


def part_slice(part: int, size: int, total: int) -> slice:
    return slice(part * size, min((part + 1) * size, total))


def part_count(total: int, size: int) -> int:
    return -(-total // size)
