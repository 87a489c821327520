"""The command of the human study: make, serve, score, power. Heavy imports wait inside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.pipeline.store import Artefact
    from phosphene.study import Study

WIDTH = 110  # columns, where the output is not a terminal
MANY = 12  # raters that are listed one by one; of more, those who were left out


class Action(StrEnum):
    """What the command does."""

    make = "make"
    serve = "serve"
    score = "score"
    power = "power"


def rate(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    action: Annotated[
        Action,
        typer.Argument(
            help=(
                "make: draw up the trial list. serve: show it to raters. score: what they saw. "
                "power: how many raters?"
            )
        ),
    ],
    raters: Annotated[
        str,
        typer.Option(
            metavar="N", help="In place of rate.raters; for power several, such as 6,12,24."
        ),
    ] = "",
    trials: Annotated[
        str,
        typer.Option(
            metavar="N", help="Per method and rater, in place of rate.trials; for power several."
        ),
    ] = "",
    host: Annotated[
        str, typer.Option(help="serve: address to listen on; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="serve: 0 takes a free one.")] = 8000,
    base_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="serve: how raters reach the server, such as https://rate.lab.org."
        ),
    ] = "",
    database: Annotated[
        str,
        typer.Option(
            metavar="URL", help="In place of rate.database: where answers go (any of SQLAlchemy)."
        ),
    ] = "",
    import_: Annotated[
        list[Path] | None,
        typer.Option(
            "--import",
            metavar="FILE",
            help="score: CSV of answers from elsewhere; may be repeated.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS",
            help="score: how the CSV calls a column, such as rater=participant.",
        ),
    ] = None,
    *,
    options: Any,
) -> None:
    """Ask people: which of two reconstructions is more like the photograph? (docs/rating.md)"""
    if import_ and action is not Action.score:
        raise PhospheneError(f"--import: found with {action}, expected with score.")
    chosen: Study = options.study(study)
    if action is Action.power:
        return _power(chosen, _numbers("raters", raters), _numbers("trials", trials), options)
    for name, text in (("raters", raters), ("trials", trials)):
        if text:
            chosen = chosen.replace(f"rate.{name}", _one(name, text))
    if database:
        chosen = chosen.replace("rate.database", database)
    if options.dry_run:
        return _plan(chosen, action)
    if action is Action.make:
        _make(chosen, options)
    elif action is Action.serve:
        _serve(chosen, (host, port), base_url, options)
    else:
        _score(chosen, import_ or [], column or [], options)


def _numbers(name: str, text: str) -> list[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise PhospheneError(
            f"--{name}: found {text!r}, expected a whole number, or several as in 6,12,24."
        ) from None


def _one(name: str, text: str) -> int:
    numbers = _numbers(name, text)
    if len(numbers) != 1:
        raise PhospheneError(
            f"--{name}: found {text!r}, expected one number; only power takes several."
        )
    return numbers[0]


def _plan(study: Study, action: Action) -> None:
    """Say what is there, for ``--dry-run``."""
    from phosphene.pipeline.store import Store
    from phosphene.steps.rating_recipes import answers_folder, rating_scores_recipe, ratings_recipe

    artefact = Store(study.root).artefact(ratings_recipe(study))
    typer.echo(
        f"ratings {artefact.recipe.name} {artefact.hash}  {'done' if artefact.done else 'to do'}"
    )
    if action is Action.serve:
        typer.echo(f"links and answers: {answers_folder(study)}")
    if action is Action.score:
        recipe = rating_scores_recipe(study)
        done = recipe is not None and Store(study.root).artefact(recipe).done
        typer.echo(
            f"rating_scores {study.name}  {'done for the answers scored last' if done else 'to do'}"
        )


# make, serve


def _make(study: Study, options: Any) -> None:
    from phosphene.pipeline.store import Store
    from phosphene.steps import ratings
    from phosphene.steps.rating_recipes import methods, ratings_recipe

    if options.force:
        Store(study.root).artefact(ratings_recipe(study)).clear()
    made = ratings.make_list(study, options.compute)
    said = summary(made, methods(study))
    if options.json:
        return typer.echo(json.dumps(said))
    typer.echo(
        f"{said['raters']} raters, {said['per_rater']} trials each: {said['trials']} of each "
        "method "
        f"({', '.join(said['methods'])}), {said['catch']} catch trials, {said['repeats']} repeats; "
        f"{said['pictures']} picture files."
    )
    typer.echo(str(made.path))


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


def _serve(study: Study, address: tuple[str, int], base_url: str, options: Any) -> None:
    from phosphene.steps import ratings

    def say(links: dict[str, str]) -> None:
        if options.json:
            return typer.echo(json.dumps(links))
        typer.echo(
            "One link per rater; whoever has it answers as that rater. Ctrl-C stops, nothing is "
            "lost."
        )
        for name, link in links.items():
            typer.echo(
                f"{name:<10} {link}"
                if name != "admin"
                else f"\nProgress and answers, for you alone:\n{link}"
            )
        if address[0] in ("0.0.0.0", "::") and not base_url:
            typer.echo(
                "Raters need this machine's own name in place of the address: see --base-url.",
                err=True,
            )
        sys.stdout.flush()

    ratings.serve(study, options.compute, address, base_url, say)


# score


def _score(study: Study, files: list[Path], columns: list[str], options: Any) -> None:
    from phosphene.steps import ratings

    if files:
        from phosphene.ratings.importing import read_csv

        answers = read_csv(files, dict(_column(text) for text in columns))
    elif columns:
        raise PhospheneError("--column: found without --import; expected both.")
    else:
        answers = ratings.answers_given(study, options.compute)
    made = ratings.score(study, answers, options.compute)
    if options.force:
        made.clear()
        made = ratings.score(study, answers, options.compute)
    tables = {name: made.table(name) for name in ratings.TABLES}
    if options.json:
        shown = {
            name: json.loads(table.to_json(orient="records")) for name, table in tables.items()
        }
        return typer.echo(json.dumps(shown | {"path": str(made.path)}))
    for title, rows in _shown(tables):
        _print(title, rows)
    for row in tables["absent"].itertuples():
        typer.echo(f"Left out: {row.table}: {row.reason}", err=True)
    typer.echo(f"All tables: {made.path}")
    if tables["accuracy"].empty:
        return typer.echo("Nothing is left to report: see above who was left out.")
    typer.echo("The next `phosphene report` shows them.")
    if files:
        typer.echo("They stand in for answers given here until `score` is called without --import.")


def _column(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours.strip() and equals and theirs.strip()):
        raise PhospheneError(
            f"--column: found {text!r}, expected OURS=THEIRS, as in rater=participant."
        )
    return ours.strip(), theirs.strip()


Rows = list[dict[str, str]]


def _shown(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, Rows]]:
    """Tables for a terminal: title, and rows of texts."""
    out = tables["exclusions"]
    left = int(out["excluded"].sum())
    listed = out if len(out) <= MANY else out[out["excluded"]]
    yield (
        f"Raters: {len(out) - left} of {len(out)} stay",
        [
            {
                "rater": r.rater,
                "answers": str(r.answered),
                "catch trials right": f"{r.catch_hits} of {r.catch_n}",
                "too fast, %": _percent(r.fast),
                "median, s": _number(r.median_ms / 1000, 2),
                "left out": r.reason or "no",
            }
            for r in listed.itertuples()
        ],
    )
    yield (
        "Share of right choices, % (chance 50), 95 % intervals for other ...",
        [
            {
                "method": r.method,
                "right": _percent(r.accuracy),
                "raters and images": _ends(r.ci_low, r.ci_high),
                "raters": _ends(r.rater_low, r.rater_high),
                "images": _ends(r.image_low, r.image_high),
                "N raters, images, trials": f"{r.n_raters}, {r.n_images}, {r.n_trials}",
            }
            for r in tables["accuracy"].itertuples()
        ],
    )
    yield (
        "Differences, points of percent; p two-sided, Holm: t for other raters and images; "
        "signed-rank",
        [
            {
                "": f"{r.a} − {r.b}",
                "difference": _signed(r.difference),
                "95 %": f"{_signed(r.ci_low)} to {_signed(r.ci_high)}",
                "p": _p(r.p_both_holm),
                "p over images": _p(r.p_image_holm),
                "p over raters": _p(r.p_rater_holm),
            }
            for r in tables["compare"].itertuples()
        ],
    )
    yield (
        "Odds of a right choice",
        [
            {
                "": f"{r.a} : {r.b}",
                "model": r.model,
                "odds ratio": _number(r.odds_ratio, 2),
                "95 %": _between(r.or_low, r.or_high),
                "p, Holm": _p(r.p_holm),
                "converged": "yes" if r.converged else "no",
            }
            for r in tables["odds"].itertuples()
            if r.b != "chance"
        ],
    )
    agreed = {str(r.method): r for r in tables["agreement"].itertuples()}
    yield (
        "Do raters agree about the same reconstruction?",
        [
            {
                "method": name,
                "alike, %": _percent(r.agreement),
                "by chance, %": _percent(r.expected),
                "kappa": _number(r.kappa, 2),
                "95 %": _between(r.kappa_low, r.kappa_high),
            }
            for name, r in agreed.items()
        ],
    )
    best = tables["predicts"]
    yield (
        "Which metrics tell what people see? (rank correlation over images; the three best of "
        "each method)",
        [
            {
                "method": r.method,
                "preset": r.preset,
                "metric": r.metric,
                "direction": r.direction,
                "r": _number(r.r, 2),
                "95 %": _between(r.ci_low, r.ci_high),
                "ceiling": _number(r.ceiling, 2),
            }
            for r in (best.groupby("method", sort=False).head(3).itertuples() if len(best) else ())
        ],
    )


def _percent(value: float) -> str:
    return _number(100 * value, 1)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if value == value else "–"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−") if value == value else "–"


def _ends(low: float, high: float) -> str:
    return f"{_percent(low)}–{_percent(high)}" if low == low else "–"


def _between(low: float, high: float) -> str:
    return f"{_number(low, 2)} to {_number(high, 2)}" if low == low else "–"


def _p(value: float) -> str:
    return "–" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _print(title: str, rows: Rows) -> None:
    if not rows:
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for k, name in enumerate(rows[0]):
        table.add_column(
            name, justify="left" if k == 0 or name in ("left out", "model") else "right"
        )
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(
        f"[bold]{escape(title)}[/]", highlight=False
    )  # above the table, as wide as it likes
    console.print(table)


# power


def _power(study: Study, raters: list[int], trials: list[int], options: Any) -> None:
    from phosphene.ratings.power import power
    from phosphene.steps.rating_recipes import methods

    n = len(methods(study))
    found = power(
        raters or [study.rate.raters],
        trials or [study.rate.trials],
        comparisons=max(n * (n - 1) // 2, 1),
        rng=study.seed,
    )
    if options.json:
        return typer.echo(found.to_json(orient="records"))
    _print(
        "Chance of finding that one method is better, % (corrected p ≤ 0.05), for a method people "
        "get right "
        f"in {100 * found['accuracy'].iloc[0]:.0f} %; differences and widths of 95 % intervals in "
        "points",
        [
            {
                "raters": str(r.raters),
                "trials": str(r.trials),
                "better by": f"{100 * r.effect:.0f}",
                "raters and images": _percent(r.power_both),
                "over images": _percent(r.power_image),
                "over raters": _percent(r.power_rater),
                "interval of a share": _percent(r.width_accuracy),
                "of a difference": _percent(r.width_difference),
            }
            for r in found.itertuples()
        ],
    )
