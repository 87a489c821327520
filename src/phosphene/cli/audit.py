"""The command that audits a study. Heavy imports wait inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from phosphene.cli.options import STUDY, Options, command
from phosphene.cli.plan import has_data, show_plan, warn_without_data
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
    if options.dry_run and not has_data(chosen):
        return warn_without_data(chosen, options)
    from phosphene.steps import plan

    roots = plan.audit(chosen)
    if options.dry_run:
        return show_plan(chosen, roots, options)
    from phosphene.pipeline.graph import make
    from phosphene.steps.audit import audit_table

    make(roots, options.compute, options.force)
    table = audit_table(chosen)
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
