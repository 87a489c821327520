"""What a study makes, how far it is and what the rest costs, as printed by several commands."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from phosphene.cli.terminal import console
from phosphene.disk import folder_size
from phosphene.study import Study

if TYPE_CHECKING:
    from phosphene.cli.options import Options
    from phosphene.pipeline.cost import Cost
    from phosphene.pipeline.step import Step

ALIKE = 6  # more steps of one stage and state are one line


def has_data(study: Study) -> bool:
    """Whether nothing has to be simulated first."""
    return not study.data.simulate.enabled or study.data_root.exists()


def warn_without_data(study: Study, options: Options) -> None:
    """Say that the data are still to be simulated."""
    typer.echo(
        f"The data are not simulated yet; `phosphene simulate` writes them to {study.data_root}.",
        err=True,
    )
    if options.json:
        typer.echo("[]")


def show_plan(study: Study, roots: Sequence[Step], options: Options) -> None:
    """Print what a command would make, and what the rest costs: ``--dry-run``."""
    again = {root.hash for root in roots} if options.force else set()
    rows = progress({"": roots}, again)
    if options.json:
        return typer.echo(json.dumps([without_command(row) for row in rows]))
    show_rows(rows)
    from phosphene.steps.cost import costs

    _show_costs(costs(study, roots, options.compute, again))


def without_command(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of :func:`progress` for one command alone."""
    return {name: value for name, value in row.items() if name != "command"}


def progress(
    commands: Mapping[str, Sequence[Step]], again: Collection[str] = ()
) -> list[dict[str, Any]]:
    """How far every result is.

    Parameters
    ----------
    commands : mapping of str to sequence of Step
        The results of each command; what several of them need is listed with the first one.
    again : collection of str
        Hashes of steps that are made even if they are finished.

    Returns
    -------
    list of dict
        command, stage, name, hash, state ("done", "3 of 12 parts", "to do", "damaged" or "not
        needed") and bytes on disk.
    """
    from phosphene.pipeline.graph import states

    rows: dict[str, dict[str, Any]] = {}
    for command, roots in commands.items():
        for step, state in states(roots, again):
            if step.hash in rows:
                continue
            done, planned = step.artefact.progress
            begun = state == "to do" and done < planned
            state_text = f"{done} of {planned} parts" if begun else state
            rows[step.hash] = {
                "command": command,
                "stage": step.stage,
                "name": step.name,
                "hash": step.hash,
                "state": state_text,
                "bytes": folder_size(step.artefact.path),
            }
    return list(rows.values())


def show_rows(rows: Sequence[Mapping[str, Any]], notes: Mapping[str, str] | None = None) -> None:
    """Print rows of :func:`progress`; many alike of one stage as one line.

    Parameters
    ----------
    rows : sequence of dict
    notes : mapping, optional
        Hash -> what to say after a row.
    """
    notes = notes or {}
    kinds: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        note = notes.get(row["hash"], "")
        kinds.setdefault((row["stage"], row["state"], note), []).append(row)
    shown = set()
    for row in rows:
        kind = (row["stage"], row["state"], notes.get(row["hash"], ""))
        alike = kinds[kind]
        if len(alike) <= ALIKE:
            _show_row(row["stage"], row["name"], row["hash"], row["bytes"], kind)
        elif kind not in shown:
            shown.add(kind)
            n_bytes = sum(other["bytes"] for other in alike)
            _show_row(row["stage"], f"{len(alike)} results", "", n_bytes, kind)


def _show_row(stage: str, name: str, hash_: str, n_bytes: int, kind: tuple[Any, ...]) -> None:
    _, state, note = kind
    disk = in_bytes(n_bytes) if n_bytes else ""
    typer.echo(f"{stage:<13} {name:<40} {hash_:<10} {disk:>8}  {state}" + (note and f" ({note})"))


def in_bytes(number: float) -> str:
    """Bytes in a unit that suits them: "104 MB"."""
    units = ("B", "kB", "MB", "GB", "TB")
    thousands = min(int(math.log(max(number, 1), 1000)), len(units) - 1)
    digits = 1 if thousands and number < 10 * 1000**thousands else 0
    return f"{number / 1000**thousands:.{digits}f} {units[thousands]}"


def in_time(seconds: float) -> str:
    """Seconds in a unit that suits them: "3.4 min"."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _show_costs(estimated: Sequence[tuple[Sequence[Step], Cost | None]]) -> None:
    """Print what is still to do, stage by stage."""
    from rich.table import Table

    from phosphene.pipeline.cost import total

    if not estimated:
        return typer.echo("\nNothing is left to do.")
    stages: dict[str, list[tuple[int, Cost | None]]] = {}
    for group, cost in estimated:
        stages.setdefault(group[0].stage, []).append((len(group), cost))
    typer.echo("\nEstimated cost of what is to do, one worker")
    table = Table(box=None)
    table.add_column("")
    for name in ("results", "files", "read", "disk", "memory", "time"):
        table.add_column(name, justify="right")
    for stage, costs in stages.items():
        known = [cost for _, cost in costs if cost is not None]
        n = sum(number for number, _ in costs)
        table.add_row(stage, str(n), *_numbers(total(known) if len(known) == len(costs) else None))
    n = sum(len(group) for group, _ in estimated)
    everything = total(cost for _, cost in estimated if cost is not None)
    table.add_row("together", str(n), *_numbers(everything), style="bold")
    console().print(table, highlight=False)
    if any(cost is None for _, cost in estimated):
        typer.echo("Stages without numbers are not estimated, and not counted.")


def _numbers(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return ("", "", "", "", "")
    sizes = (in_bytes(1e9 * gb) for gb in (cost.read_gb, cost.gb, cost.memory_gb))
    return (str(cost.files), *sizes, in_time(cost.seconds))
