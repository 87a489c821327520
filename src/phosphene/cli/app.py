"""The command line: one command per stage, the twin of a Python function."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from phosphene.cli import audit, data, encode, fetch, rate, score, study


class Command(TyperCommand):
    """A command whose help shows flags without a type."""

    def get_params(self, ctx: Any) -> Any:
        """Parameters of the command, ``--help`` included."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help shows flags without a type."""

    def get_params(self, ctx: Any) -> Any:
        """Parameters of the group, ``--help`` included."""
        return _without_types(super().get_params(ctx))


class OldOrder(Group):
    """Takes ``rate STUDY make`` for ``rate make STUDY``, with a hint."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Put the command first."""
        if args and args[0] not in self.commands:
            named = next((word for word in args if word in self.commands), None)
            if named is not None:
                args.remove(named)
                args.insert(0, named)
                typer.echo(
                    f"Note: the order is now `phosphene rate {named} STUDY`; the old one goes with "
                    "the next version.",
                    err=True,
                )
        return super().parse_args(ctx, args)


def _without_types(params: Any) -> Any:
    """Flags take no value; typer would show them as ``<bool>``."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.display_type_rich = lambda ctx: None
    return params


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
    study.status,
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
    OldOrder,
)
for function in (rate.make, rate.serve, rate.score, rate.power):
    rate_app.command(cls=Command)(function)
fetch_app = _group("Download the public data that a study reads.")
fetch_app.command(cls=Command)(fetch.nsd)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"phosphene {version('phosphene')}")
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
