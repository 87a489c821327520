"""The commands of the human study: make, serve, score, power. Heavy imports wait inside."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli.options import STUDY, Group, Options, command
from phosphene.cli.plan import has_data, show_plan, warn_without_data
from phosphene.cli.terminal import records
from phosphene.errors import PhospheneError
from phosphene.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.pipeline.store import Artefact


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


@dataclass(frozen=True)
class RateOptions(Options):
    """Settings of the human study that often change."""

    raters: Annotated[int | None, typer.Option(metavar="N", help="In place of rate.raters.")] = None
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Per method and rater: in place of rate.trials.")
    ] = None
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="In place of rate.database: where answers go (any of SQLAlchemy)."
        ),
    ] = None

    def study(self, path: Path, root: Path | None = None) -> Study:
        """Load a study and change its settings."""
        study = super().study(path, root)
        for name in ("raters", "trials", "database"):
            if getattr(self, name) is not None:
                study = study.replace(f"rate.{name}", getattr(self, name))
        return study


@command
def make(study: STUDY, *, options: RateOptions) -> None:
    """Draw up the trial list and its pictures."""
    chosen = options.study(study)
    if options.dry_run:
        return _show_list(chosen, options)
    from phosphene.pipeline.graph import make as make_steps
    from phosphene.steps import plan, ratings

    (artefact,) = make_steps(plan.ratings(chosen), options.compute, options.force)
    numbers = summary(artefact, ratings.methods(chosen))
    if options.json:
        return typer.echo(json.dumps(numbers))
    typer.echo(
        f"{numbers['raters']} raters, {numbers['per_rater']} trials each: {numbers['trials']} of "
        f"each method ({', '.join(numbers['methods'])}), {numbers['catch']} catch trials, "
        f"{numbers['repeats']} repeats; {numbers['pictures']} picture files."
    )
    typer.echo(str(artefact.path))


@command
def serve(
    study: STUDY,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    base_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="How raters reach the server, such as https://rate.lab.org."
        ),
    ] = "",
    show_links: Annotated[
        bool, typer.Option("--show-links", help="Print the links; without it they are in files.")
    ] = False,
    *,
    options: RateOptions,
) -> None:
    """Show the trials to raters, in the browser; writes one link per rater."""
    chosen = options.study(study)
    from phosphene.steps import ratings

    if options.dry_run:
        _show_list(chosen, options)
        return typer.echo(f"links and answers: {ratings.answers_folder(chosen)}")

    if not _is_loopback(host):
        warnings.warn(
            f"--host {host}: everyone on the network can reach this server, and read what is sent, "
            "without encryption; on the internet put a web server with TLS in front of it "
            "(docs/rating.md)",
            stacklevel=2,
        )

    def show(links: dict[str, str]) -> None:
        _announce(chosen, links, options.json, show_links)
        if host in ("0.0.0.0", "::") and not base_url:
            typer.echo(
                "Raters need this machine's own name in place of the address: see --base-url.",
                err=True,
            )
        sys.stdout.flush()

    ratings.serve(chosen, options.compute, (host, port), base_url, show)


@command
def score(
    study: STUDY,
    import_: Annotated[
        list[Path] | None,
        typer.Option(
            "--import", metavar="FILE", help="CSV of answers from elsewhere; may be repeated."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS",
            help="How the CSV calls a column, such as rater=participant; may be repeated.",
        ),
    ] = None,
    *,
    options: RateOptions,
) -> None:
    """Say what raters saw: accuracy, differences, which metric predicts people."""
    chosen = options.study(study)
    from phosphene.steps import plan, ratings

    if options.dry_run:
        return _show_scored(chosen, options)
    from phosphene.pipeline.graph import make as make_steps

    answers = _imported(import_ or [], column or [])
    if answers is None:
        answers = ratings.answers_given(chosen, options.compute)
    ratings.keep(chosen, answers)
    (artefact,) = make_steps(plan.rating_scores(chosen), options.compute, options.force)
    tables = {name: artefact.table(name) for name in ratings.TABLES}
    if options.json:
        return typer.echo(json.dumps(records(tables) | {"path": str(artefact.path)}))
    from phosphene.cli.rating_tables import scores, show

    for title, rows in scores(tables):
        show(title, rows)
    for reason, rows in tables["absent"].groupby("reason", sort=False):
        typer.echo(f"Left out: {', '.join(rows['table'])}: {reason}", err=True)
    typer.echo(f"All tables: {artefact.path}")
    if tables["accuracy"].empty:
        return typer.echo("Nothing is left to report: see above who was left out.")
    typer.echo("The next `phosphene report` shows them.")
    if import_:
        typer.echo("They stand in for answers given here until `score` is called without --import.")


@command
def power(
    study: STUDY,
    raters: Annotated[
        str, typer.Option(metavar="N,...", help="Numbers of raters, such as 6,12,24.")
    ] = "",
    trials: Annotated[
        str, typer.Option(metavar="N,...", help="Numbers of trials per method and rater.")
    ] = "",
    *,
    options: Options,
) -> None:
    """Say how many raters it takes, by simulation."""
    chosen = options.study(study)
    from phosphene.cli.rating_tables import powers, show
    from phosphene.ratings.power import power as simulated_power
    from phosphene.steps.ratings import methods

    n = len(methods(chosen))
    table = simulated_power(
        _numbers("raters", raters) or [chosen.rate.raters],
        _numbers("trials", trials) or [chosen.rate.trials],
        comparisons=max(n * (n - 1) // 2, 1),
        rng=chosen.seed,
    )
    if options.json:
        return typer.echo(table.to_json(orient="records"))
    show(*powers(table))


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach an address."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _announce(study: Study, links: dict[str, str], as_json: bool, show_links: bool) -> None:
    """Print where the links are, or the links themselves."""
    from phosphene.steps import ratings

    where = {"links": str(ratings.links_file(study)), "admin": str(ratings.admin_file(study))}
    if as_json:
        return typer.echo(json.dumps(links if show_links else where))
    typer.echo("Whoever has a link answers as that rater. Ctrl-C stops, nothing is lost.")
    if not show_links:
        return typer.echo(
            f"Links of {len(links) - 1} raters: {where['links']}\n"
            f"Link of the progress page, for you alone: {where['admin']}\n"
            "Only your account can read these files; --show-links prints the links."
        )
    for name, link in links.items():
        if name == "admin":
            typer.echo(f"\nProgress and answers, for you alone:\n{link}")
        else:
            typer.echo(f"{name:<10} {link}")


def _imported(files: list[Path], columns: list[str]) -> pd.DataFrame | None:
    """Answers from elsewhere; None without files."""
    if columns and not files:
        raise PhospheneError("--column: found without --import; expected both.")
    if not files:
        return None
    from phosphene.ratings.importing import read_csv

    return read_csv(files, dict(_column(text) for text in columns))


def _numbers(name: str, text: str) -> list[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise PhospheneError(
            f"--{name}: found {text!r}, expected a whole number, or several as in 6,12,24."
        ) from None


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours.strip() and equals and theirs.strip()):
        raise PhospheneError(
            f"--column: found {text!r}, expected OURS=THEIRS, as in rater=participant."
        )
    return ours.strip(), theirs.strip()


def _show_list(study: Study, options: Options) -> None:
    """What making the trial list takes, for ``--dry-run``."""
    if not has_data(study):
        return warn_without_data(study, options)
    from phosphene.steps import plan

    show_plan(study, plan.ratings(study), options)


def _show_scored(study: Study, options: Options) -> None:
    """What scoring answers takes, for ``--dry-run``."""
    if not has_data(study):
        return warn_without_data(study, options)
    from phosphene.steps import plan

    show_plan(study, [*plan.ratings(study), *plan.rating_scores(study)], options)


def summary(made: Artefact, names: list[str]) -> dict[str, Any]:
    """What a trial list holds, in numbers."""
    trials = made.table("trials")
    first = trials[trials["slot"] == 0]
    plain = first[first["kind"] == "trial"]
    counts = {kind: int((first["kind"] == kind).sum()) for kind in ("catch", "repeat")}
    return {
        "raters": int(trials["slot"].nunique()),
        "per_rater": len(first),
        "methods": names,
        "trials": int(plain["method"].value_counts().iloc[0]),
        "catch": counts["catch"],
        "repeats": counts["repeat"],
        "pictures": int(made.table("picture_ids")["file"].nunique()),
        "hash": made.hash,
        "path": str(made.path),
    }
