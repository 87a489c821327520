"""The graph of steps: which of them have to be made, in which order, and making them."""

from __future__ import annotations

import errno
import os
import warnings
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Literal

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.pipeline.caches import current_command, join_command
from phosphene.pipeline.cost import Rates, total
from phosphene.pipeline.parallel import run_parts
from phosphene.pipeline.step import AnyStep, Step
from phosphene.pipeline.store import Artefact
from phosphene.study import Compute

State = Literal["done", "to do", "damaged", "not needed"]


def walk(roots: Sequence[Step]) -> list[Step]:
    """All steps that some results need, each once, in an order in which they can be made.

    Parameters
    ----------
    roots : sequence of Step

    Returns
    -------
    list of Step
        The roots are among them, optional steps are not; steps of equal recipes count as one.
    """
    steps: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.hash not in steps:
            for source in step.needs:
                visit(source)
            steps[step.hash] = step

    for root in roots:
        visit(root)
    return list(steps.values())


def unfinished(
    roots: Sequence[Step], verify: bool = False, again: Collection[str] = ()
) -> list[Step]:
    """The steps that have to be made, sources first.

    A transient step is made only when a step that uses it is made. Every other missing result is
    made, even if all results that use it are finished.

    Parameters
    ----------
    roots : sequence of Step
    verify : bool
        Compare checksums of the roots and of everything that the steps to be made will read; else
        sizes and times of files tell what is finished.
    again : collection of str
        Hashes of steps that are made even if they are finished.
    """
    state: dict[str, tuple[bool, bool]] = {}
    todo: dict[str, Step] = {}

    def visit(step: Step, checksums: bool) -> None:
        done, checked = state.get(step.hash, (True, False))
        if not done or checked or (step.hash in state and not checksums):
            return
        finished = step.artefact.done if checksums else step.artefact.seems_done
        done = finished and step.hash not in again
        state[step.hash] = done, checksums
        for source in step.needs:
            if not done or not source.transient:
                visit(source, verify and not done)
        if done:
            return
        for option in step.finished_options.values() if verify else ():
            # one that is damaged is made again, others are taken as they are
            if not option.artefact.done:
                visit(option, verify)
        todo[step.hash] = step

    for root in roots:
        visit(root, verify)
    return list(todo.values())


def states(roots: Sequence[Step], again: Collection[str] = ()) -> list[tuple[Step, State]]:
    """Every step below some roots and what there is to do, from sizes and times of files alone.

    Parameters
    ----------
    roots : sequence of Step
    again : collection of str
        As for :func:`unfinished`.

    Returns
    -------
    list of (Step, str)
        "done", "to do", "damaged" (to do, though it was finished once) or "not needed".
    """
    todo = {step.hash for step in unfinished(roots, again=again)}

    def state(step: Step) -> State:
        if step.hash in todo:
            return "damaged" if step.artefact.damaged else "to do"
        return "done" if step.artefact.seems_done else "not needed"

    return [(step, state(step)) for step in walk(roots)]


def superfluous(roots: Sequence[Step]) -> list[Step]:
    """Transient steps whose results are on disk and that no unfinished step uses."""
    needed = {source.hash for step in unfinished(roots) for source in step.needs}
    needed |= {root.hash for root in roots}
    return [
        step
        for step in walk(roots)
        if step.transient and step.hash not in needed and step.artefact.path.exists()
    ]


def grouped(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps that are made together, in an order in which every group comes after its sources.

    A group waits until all of its steps can be made; it is split only where its steps depend on
    each other by way of others.
    """
    waiting = {step.hash: step for step in steps}
    sources = {step.hash: {source.hash for source in step.sources} for step in steps}
    keys = {step.hash: step.group() for step in steps}
    ordered = []
    while waiting:
        groups: dict[Hashable, list[Step]] = defaultdict(list)
        for hash_, step in waiting.items():
            groups[keys[hash_]].append(step)
        ready = [
            (group, [step for step in group if not sources[step.hash] & waiting.keys()])
            for group in groups.values()
        ]
        whole = next((group for group, steps in ready if len(group) == len(steps)), None)
        chosen = whole or next(steps for _, steps in ready if steps)
        ordered.append(chosen)
        for step in chosen:
            del waiting[step.hash]
    return ordered


def make(roots: Sequence[AnyStep], compute: Compute, force: bool = False) -> list[Artefact]:
    """Make some results, and everything that is missing on the way.

    Parameters
    ----------
    roots : sequence of Step
    compute : Compute
        How to compute; never changes a result.
    force : bool
        Make the roots anew even if they are finished.

    Returns
    -------
    list of Artefact
        Those of the roots, finished.

    Raises
    ------
    PhospheneError
        Before anything is written, when a step finds that it cannot work.

    Notes
    -----
    With `force` a result goes when its own turn has come and a part of the new one is done: what
    fails before leaves it.
    """
    again = {root.hash for root in roots} if force else set()
    todo = unfinished(roots, verify=True, again=again)
    for step in todo:
        step.check(compute)
    groups = grouped(todo)
    _check_room(groups, compute)
    for group in groups:
        with ExitStack() as stack:
            for step in group:
                if step.hash in again:
                    stack.enter_context(step.artefact.made_anew())
            _make_group(group, compute)
    return [root.artefact for root in roots]


def _check_room(groups: Sequence[Sequence[Step]], compute: Compute) -> None:
    """Warn before anything is made where the disk or the memory will not do."""
    costs = [
        cost for group in groups for step in group if (cost := step.estimate(Rates())) is not None
    ]
    if not costs:
        return
    needed = total(costs)
    root = groups[0][0].artefact.root
    free = disk.free_space(root) / 1e9
    if needed.gb > free:
        warnings.warn(
            f"{root}: what is to be made takes about {needed.gb:.1f} GB, and {free:.1f} GB are "
            "free; make room, or put results elsewhere with --root.",
            stacklevel=3,
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if needed.memory_gb * (compute.jobs or 1) > memory:
        warnings.warn(
            f"a worker will need about {needed.memory_gb:.1f} GB of memory, and this machine has "
            f"{memory:.1f} GB for {compute.jobs or 1}; use fewer --jobs or smaller regions.",
            stacklevel=3,
        )


def _make_group(group: Sequence[Step], compute: Compute) -> None:
    """Make the parts that are missing of steps that are made together, and finish them."""
    todo: dict[int, list[tuple[Step, Artefact]]] = defaultdict(list)
    for step in group:
        step.declare(step.artefact)
        for index in step.artefact.missing(step.n_parts()):
            todo[index].append((step, step.artefact))
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    work = partial(_make_part, todo=dict(todo), compute=compute, command=current_command())
    try:
        run_parts(work, sorted(todo), compute, group[0].label + more)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(group) from error
        raise
    for step in group:
        step.artefact.finish(facts=step.facts())


def _full(group: Sequence[Step]) -> PhospheneError:
    """Say how much room a group of steps still needs, going by its parts so far."""
    root = group[0].artefact.root
    needs = ""
    n_left = sum(len(step.artefact.missing(step.n_parts())) for step in group)
    n_done = sum(step.n_parts() for step in group) - n_left
    if n_done:
        n_bytes = sum(disk.folder_size(step.artefact.path) for step in group)
        needs = f", {group[0].label} needs about {n_bytes / n_done * n_left / 1e9:.2f} GB more"
    free = disk.free_space(root) / 1e9
    return PhospheneError(
        f"{root}: the disk is full, or your quota used up ({free:.2f} GB free{needs}); make room "
        "and run again, finished parts are kept"
    )


def _make_part(
    index: int,
    *,
    todo: Mapping[int, Sequence[tuple[Step, Artefact]]],
    compute: Compute,
    command: str,
) -> None:
    join_command(command)
    with ExitStack() as stack:
        parts = {step: stack.enter_context(artefact.part(index)) for step, artefact in todo[index]}
        first = next(iter(parts))
        first.make_parts(parts, index, compute)
