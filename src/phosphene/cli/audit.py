"""The command that audits a study. Heavy imports wait inside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {
    "fault": "red",
    "look": "yellow",
    "not asked": "bright_black",
    "ok": "green",
}  # in the order of the table
MEANINGS = {
    "fault": "cannot be published like this",
    "look": "a reader will ask",
    "not asked": "these data or settings have no answer",
    "ok": "as it should be",
}


def audit(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    *,
    options: Any,
) -> None:
    """Ask of a study's results what a sceptical reader would: baselines, leaks, overlap,
    collapse.
    """
    chosen = options.study(study)
    from phosphene.pipeline.store import Store
    from phosphene.steps.audit import audit_recipe, audit_table

    artefacts = {
        subject: Store(chosen.root).artefact(audit_recipe(chosen, subject))
        for subject in chosen.data.subjects
    }
    if options.dry_run:
        for subject, artefact in artefacts.items():
            typer.echo(f"audit {subject} {artefact.hash}  {'done' if artefact.done else 'to do'}")
        return
    if options.force:
        for artefact in artefacts.values():
            artefact.clear()
    table = audit_table(chosen, options.compute)
    if options.json:
        typer.echo(table.to_json(orient="records"))
        return
    for subject in chosen.data.subjects:
        show(subject, table[table["subject"] == subject])


def show(subject: str, lines: pd.DataFrame) -> None:
    """Print one subject's lines, faults first."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    counts = lines["verdict"].value_counts()
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in COLOURS if verdict in counts)
    console.print(f"[bold]{escape(subject)}[/]: {summary}", highlight=False)
    for verdict, colour in COLOURS.items():
        some = lines[lines["verdict"] == verdict]
        if some.empty:
            continue
        table = Table(
            title=f"[{colour}]{verdict}[/]: {MEANINGS[verdict]}",
            title_justify="left",
            show_lines=False,
        )
        for name in ("asked", "found", "expected", "what it means"):
            table.add_column(name, overflow="fold")
        for row in some.itertuples():
            table.add_row(
                *(escape(text) for text in (row.check, row.found, row.expected, row.sentence))
            )
        console.print(table, highlight=False)
