"""Tables in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def show_table(title: str, frame: pd.DataFrame, digits: int = 1, width: int = 100) -> None:
    """Print a table of numbers; `width` is that of what is not a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    table.add_column("", no_wrap=True)
    for column in frame.columns:
        table.add_column(str(column).replace("_", " "), justify="right")
    for name, row in frame.iterrows():
        table.add_row(str(name), *(f"{value:.{digits}f}" for value in row))
    console = Console(width=None if sys.stdout.isatty() else width)
    console.print(
        f"[bold]{escape(title)}[/]", highlight=False
    )  # above the table, as wide as it likes
    console.print(table)
