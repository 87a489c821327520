"""Output of the commands: tables, JSON, paths."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

WIDTH = 100  # columns, where the output is not a terminal


def console(width: int = WIDTH) -> Console:
    """A console as wide as the terminal, else `width` columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def show_table(title: str, frame: pd.DataFrame, digits: int = 1, width: int = WIDTH) -> None:
    """Print a table of numbers, its index as row names."""
    from rich.table import Table

    table = Table()
    table.add_column("", no_wrap=True)
    for column in frame.columns:
        table.add_column(str(column).replace("_", " "), justify="right")
    for name, row in frame.iterrows():
        table.add_row(str(name), *(f"{value:.{digits}f}" for value in row))
    show_titled(title, table, width)


def show_titled(title: str, table: Table, width: int = WIDTH) -> None:
    """Print a title, as wide as it likes, above a table."""
    from rich.markup import escape

    screen = console(width)
    screen.print(f"[bold]{escape(title)}[/]", highlight=False)
    screen.print(table)


def show_paths(paths: Sequence[Path], as_json: bool) -> None:
    """Print paths, one a line."""
    typer.echo(json.dumps([str(p) for p in paths]) if as_json else "\n".join(map(str, paths)))


def records(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Tables as lists of rows, for JSON."""
    return {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
