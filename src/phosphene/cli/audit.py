"""The command that audits a study. Heavy imports wait inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from phosphene.cli.options import STUDY, Options, command
from phosphene.cli.terminal import console

if TYPE_CHECKING:
    import pandas as pd

# in the order of the table
COLOURS = {"fault": "red", "look": "yellow", "not asked": "bright_black", "ok": "green"}
MEANINGS = {
    "fault": "cannot be published like this",
    "look": "a reader will ask",
    "not asked": "these data or settings have no answer",
    "ok": "as it should be",
}


@command
def audit(study: STUDY, *, options: Options) -> None:
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
    from rich.markup import escape
    from rich.table import Table

    screen = console(120)
    counts = lines["verdict"].value_counts()
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in COLOURS if verdict in counts)
    screen.print(f"[bold]{escape(subject)}[/]: {summary}", highlight=False)
    for verdict, colour in COLOURS.items():
        rows = lines[lines["verdict"] == verdict]
        if rows.empty:
            continue
        title = f"[{colour}]{verdict}[/]: {MEANINGS[verdict]}"
        table = Table(title=title, title_justify="left", show_lines=False)
        for name in ("asked", "found", "expected", "what it means"):
            table.add_column(name, overflow="fold")
        for row in rows.itertuples():
            table.add_row(
                *(escape(text) for text in (row.check, row.found, row.expected, row.sentence))
            )
        screen.print(table, highlight=False)
