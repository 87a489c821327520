"""A stage of a study as a `Step`: what its result is made from, and how it is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from phosphene.errors import NoDataError
from phosphene.pipeline.cost import Cost, Rates
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Artefact, Part, Store
from phosphene.study import Compute, Study

AnyStep = TypeVar("AnyStep", bound="Step")


@dataclass(frozen=True)
class Key:
    """The hash of something that is read and that no step makes: a part of the data, the weights of
    a network.
    """

    hash: str


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """One result of a study. Subclasses say what it is made from and make its parts.

    Two steps are the same when their recipes have the same hash, whatever else their studies ask
    for. A step is small and can be pickled: workers get it without what it has cached.

    Attributes
    ----------
    stage : str
        The folder of its artefact under ``runs/``.
    version : int
        Raised when its code gives other numbers than before.
    sections : tuple of str
        Sections of the study that its settings are taken from.
    private : bool
        Whether only the owner may read the files of its artefact.
    """

    stage: ClassVar[str]
    version: ClassVar[int] = 1
    sections: ClassVar[tuple[str, ...]] = ()
    private: ClassVar[bool] = False

    study: Study

    # what it is made from

    @property
    @abstractmethod
    def name(self) -> str:
        """Readable name, part of the recipe."""

    @property
    def transient(self) -> bool:
        """Whether the result is needed only while others are made from it."""
        return False

    def settings(self) -> dict[str, Any]:
        """The settings that the result depends on, those that differ from their defaults."""
        return {}

    def inputs(self) -> Mapping[str, Step | Key]:
        """Earlier steps, and the keys of what else is read; their hashes are part of the recipe."""
        return {}

    def requires(self) -> Sequence[Step]:
        """Steps that are made first and are no part of the recipe, since they follow from it."""
        return ()

    def optional(self) -> Mapping[str, Step]:
        """Steps that are inputs where they are finished, and are not made for this one."""
        return {}

    # how it is made

    def check(self, compute: Compute) -> None:
        """Refuse what cannot work before anything is written."""
        del compute

    def n_parts(self) -> int:
        """Number of parts, from data and settings alone."""
        return 1

    def declare(self, artefact: Artefact) -> None:
        """Create the arrays that parts fill."""
        del artefact

    @abstractmethod
    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Make one part and write it."""

    def group(self) -> Hashable:
        """Steps of one group are made together, part by part."""
        return self.hash

    def make_parts(self, parts: Mapping[Any, Part], index: int, compute: Compute) -> None:
        """Make the same part of several steps of one group.

        Parameters
        ----------
        parts : mapping of Step to Part
        index : int
        compute : Compute
        """
        for step, part in parts.items():
            step.make_part(part, index, compute)

    def facts(self) -> dict[str, Any]:
        """What else to remember about the finished result."""
        return {}

    def cost(self, rates: Rates) -> Cost | None:
        """Estimate what making it takes, with the whole pass of its group; None if not known."""
        return None

    # what follows from these

    def estimate(self, rates: Rates) -> Cost | None:
        """The cost; that of a region which has no data, and is left out, is nothing."""
        try:
            return self.cost(rates)
        except NoDataError:
            return Cost()

    @cached_property
    def finished_options(self) -> dict[str, Step]:
        """Those of :meth:`optional` that are finished."""
        return {name: step for name, step in self.optional().items() if step.artefact.seems_done}

    @cached_property
    def all_inputs(self) -> dict[str, Step | Key]:
        """Everything whose hash is part of the recipe, by name."""
        return {**self.inputs(), **self.finished_options}

    @cached_property
    def needs(self) -> list[Step]:
        """The steps that are made for this one."""
        steps = [source for source in self.inputs().values() if isinstance(source, Step)]
        return [*steps, *self.requires()]

    @cached_property
    def sources(self) -> list[Step]:
        """Everything that this one is made from: what it needs, and finished options."""
        return [*self.needs, *self.finished_options.values()]

    @cached_property
    def recipe(self) -> Recipe:
        """What the result is made from; its hash names the folder."""
        hashes = {name: source.hash for name, source in self.all_inputs.items()}
        return Recipe(self.stage, self.name, self.version, self.settings(), hashes)

    @property
    def hash(self) -> str:
        """The recipe's hash."""
        return self.recipe.hash

    @cached_property
    def artefact(self) -> Artefact:
        """The result on disk, whether it is there or not."""
        return Store(self.study.root).artefact(self.recipe, self.private)

    @property
    def label(self) -> str:
        """What progress calls it."""
        return f"{self.stage} {self.name}"

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def distinct(steps: Sequence[AnyStep]) -> list[AnyStep]:
    """Each step once, known by the hash of its recipe."""
    return list({step.hash: step for step in steps}.values())


def part_slice(part: int, size: int, total: int) -> slice:
    """Rows or columns of one part of `size`."""
    return slice(part * size, min((part + 1) * size, total))


def part_count(total: int, size: int) -> int:
    """Number of parts of `size`."""
    return -(-total // size)
