"""The command line: one command per stage, the twin of a Python function."""

from __future__ import annotations

from typing import Annotated

import typer

import phosphene
from phosphene.cli import audit, data, encode, fetch, rate, results, score, study
from phosphene.cli.options import Command, Group


def _group(help_text: str, cls: type[Group] = Group) -> typer.Typer:
    return typer.Typer(cls=cls, help=help_text, no_args_is_help=True)


app = typer.Typer(
    cls=Group,
    help="Brain activity in, pictures and scores out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    data.check,
    score.score,
    score.compare,
    study.demo,
    study.init,
    study.run,
    results.status,
    results.results,
    results.clean,
    study.simulate,
    study.betas,
    study.extract,
    study.decode,
    study.reconstruct,
    study.evaluate,
    study.report,
    encode.encode,
    encode.figures,
    audit.audit,
)
for function in COMMANDS:
    app.command(cls=Command)(function)
rate_app = _group(
    "Ask people: which of two reconstructions is more like the photograph? (docs/rating.md)",
    rate.OldOrder,
)
for function in (rate.make, rate.serve, rate.score, rate.power):
    rate_app.command(cls=Command)(function)
fetch_app = _group("Download the public data that a study reads.")
fetch_app.command(cls=Command)(fetch.nsd)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phosphene {phosphene.__version__}")
        raise typer.Exit


@fetch_app.callback()
def _fetch() -> None:
    """Keeps `nsd` a command of its own while it is the only one."""


@app.callback()
def _main(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Brain activity in, pictures and scores out."""


app.add_typer(rate_app, name="rate")
app.add_typer(fetch_app, name="fetch")


def main() -> None:
    """Run the command line."""
    app()
