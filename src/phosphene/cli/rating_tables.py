"""Tables of the human study for a terminal: a title, and rows of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from phosphene.cli.terminal import show_titled

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 110  # columns, where the output is not a terminal
MANY = 12  # raters that are listed one by one; of more, those who were left out
Rows = list[dict[str, str]]


def show(title: str, rows: Rows) -> None:
    """Print one table, if it has rows."""
    if not rows:
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for k, name in enumerate(rows[0]):
        left = k == 0 or name in ("left out", "model")
        table.add_column(name, justify="left" if left else "right")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    show_titled(title, table, WIDTH)


def scores(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Rows]]:
    """What raters saw, table by table.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As :class:`phosphene.steps.ratings.RatingScores` makes them.
    """
    yield _raters(tables["exclusions"])
    yield _accuracy(tables["accuracy"])
    yield _differences(tables["compare"])
    yield "Odds of a right choice", _odds(tables["odds"])
    yield "Do raters agree about the same reconstruction?", _agreement(tables["agreement"])
    yield (
        "Which metrics tell what people see? (rank correlation over images; the three best of "
        "each method)",
        _metrics(tables["predicts"]),
    )


def _raters(out: pd.DataFrame) -> tuple[str, Rows]:
    left = int(out["excluded"].sum())
    listed = out if len(out) <= MANY else out[out["excluded"]]
    rows = [
        {
            "rater": r.rater,
            "answers": str(r.answered),
            "catch trials right": f"{r.catch_hits} of {r.catch_n}",
            "too fast, %": _percent(r.fast),
            "implausible, %": _percent(r.implausible),
            "median, s": _number(r.median_ms / 1000, 2),
            "left out": r.reason or "no",
        }
        for r in listed.itertuples()
    ]
    return f"Raters: {len(out) - left} of {len(out)} stay", rows


def _accuracy(accuracy: pd.DataFrame) -> tuple[str, Rows]:
    rows = [
        {
            "method": r.method,
            "right": _percent(r.accuracy),
            "raters and images": _ends(r.ci_low, r.ci_high),
            "raters": _ends(r.rater_low, r.rater_high),
            "images": _ends(r.image_low, r.image_high),
            "N raters, images, trials": f"{r.n_raters}, {r.n_images}, {r.n_trials}",
        }
        for r in accuracy.itertuples()
    ]
    return "Share of right choices, % (chance 50), 95 % intervals for other ...", rows


def _differences(compare: pd.DataFrame) -> tuple[str, Rows]:
    rows = [
        {
            "": f"{r.a} − {r.b}",
            "difference": _signed(r.difference),
            "95 %": f"{_signed(r.ci_low)} to {_signed(r.ci_high)}",
            "p": _p(r.p_both_holm),
            "p over images": _p(r.p_image_holm),
            "p over raters": _p(r.p_rater_holm),
        }
        for r in compare.itertuples()
    ]
    title = (
        "Differences, points of percent; p two-sided, Holm: t for other raters and images; "
        "signed-rank"
    )
    return title, rows


def _odds(odds: pd.DataFrame) -> Rows:
    return [
        {
            "": f"{r.a} : {r.b}",
            "model": r.model,
            "odds ratio": _number(r.odds_ratio, 2),
            "95 %": _between(r.or_low, r.or_high),
            "p, Holm": _p(r.p_holm),
            "converged": "yes" if r.converged else "no",
        }
        for r in odds.itertuples()
        if r.b != "chance"
    ]


def _agreement(agreement: pd.DataFrame) -> Rows:
    by_method = {str(r.method): r for r in agreement.itertuples()}
    return [
        {
            "method": name,
            "alike, %": _percent(r.agreement),
            "by chance, %": _percent(r.expected),
            "kappa": _number(r.kappa, 2),
            "95 %": _between(r.kappa_low, r.kappa_high),
        }
        for name, r in by_method.items()
    ]


def _metrics(predicts: pd.DataFrame) -> Rows:
    if predicts.empty:
        return []
    return [
        {
            "method": r.method,
            "preset": r.preset,
            "metric": r.metric,
            "direction": r.direction,
            "r": _number(r.r, 2),
            "95 %": _between(r.ci_low, r.ci_high),
            "ceiling": _number(r.ceiling, 2),
        }
        for r in predicts.groupby("method", sort=False).head(3).itertuples()
    ]


def powers(table: pd.DataFrame) -> tuple[str, Rows]:
    """How many raters it takes.

    Parameters
    ----------
    table : DataFrame
        As :func:`phosphene.ratings.power.power` gives it.
    """
    rows = [
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
        for r in table.itertuples()
    ]
    title = (
        "Chance of finding that one method is better, % (corrected p ≤ 0.05), for a method people "
        f"get right in {100 * table['accuracy'].iloc[0]:.0f} %; differences and widths of 95 % "
        "intervals in points"
    )
    return title, rows


def _percent(value: float) -> str:
    return _number(100 * value, 1)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if value == value else "–"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−") if value == value else "–"


def _ends(low: float, high: float) -> str:
    low_end = _percent(low)
    high_end = _percent(high)
    return f"{low_end}–{high_end}" if low_end != high_end else "–"


def _between(low: float, high: float) -> str:
    low_end = _number(low, 2)
    high_end = _number(high, 2)
    return f"{low_end} to {high_end}" if low_end != high_end else "–"


def _p(value: float) -> str:
    return "–" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"
