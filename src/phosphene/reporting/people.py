"""What people saw: the report's section on the human study, where its answers have been scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene.methods import BRAIN
from phosphene.metrics.presets import KEYS, own_selection
from phosphene.reporting import figures, tables
from phosphene.reporting.tables import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLES = ("exclusions", "accuracy", "compare", "odds", "consistency", "agreement", "predicts")
MARK: dict[str, Any] = {"s": 38, "linewidths": 1.3}
MOST_METRICS = 12  # that are listed


def section(found: dict[str, pd.DataFrame], scores: pd.DataFrame) -> dict[str, Any] | None:
    """Arrange the section for its template (``report_people.html``); None where there is nothing to
    say.

    Parameters
    ----------
    found : dict of str to DataFrame
        As the stage `rating_scores` gives them (:class:`phosphene.steps.ratings.RatingScores`).
    scores : DataFrame
        The machine's scores of all subjects, as the stage `evaluate` gives them.
    """
    if not found or found["accuracy"].empty:
        return None
    accuracy = found["accuracy"]
    out = found["exclusions"]
    best = best_metric(found["predicts"])
    machine = (
        machine_scores(scores, *best[:3])
        if best and len(scores)
        else pd.DataFrame(columns=["value", "low", "high"])
    )
    drawn = _drawn(accuracy, machine)
    stay = out[~out["excluded"]]
    title = f"{best[0]} {best[1]}" if best else ""
    return {
        "figure": figures.svg(figure(drawn, title), "people", _described(drawn, title)),
        "metric": title,
        "direction": best[2] if best else "",
        "agrees": tables.number(best[3], "r") if best else "",
        "rows": _rows(found, machine),
        "pairs": _pairs(found["compare"]),
        "metrics": _metrics(found["predicts"]),
        "methods": list(accuracy["method"].astype(str)),
        "raters": len(stay),
        "left_out": out.loc[out["excluded"], ["rater", "reason"]].to_dict("records"),
        "images": int(accuracy["n_images"].max()),
        "answers": int(accuracy["n_trials"].sum()),
        "alike": _alike(found["consistency"], out),
        "caught": _share(stay["catch_hits"].sum(), stay["catch_n"].sum()),
    }


def _share(part: float, whole: float) -> str:
    return tables.number(part / whole) if whole else ""


def _alike(consistency: pd.DataFrame, out: pd.DataFrame) -> str:
    """Share of repeats that were answered as before, of the raters who stay."""
    stay = consistency[~consistency["rater"].isin(out.loc[out["excluded"], "rater"])]
    stay = stay[stay["n_repeats"] > 0]
    return _share((stay["alike"] * stay["n_repeats"]).sum(), stay["n_repeats"].sum())


# The machine beside people


def best_metric(predicts: pd.DataFrame) -> tuple[str, str, str, float] | None:
    """Which two-way measure agrees best with people: preset, metric, direction, mean rank
    correlation over methods.
    """
    if predicts.empty:
        return None
    two_way = predicts[predicts["direction"] != ""]
    means = two_way.groupby(KEYS, sort=False)["r"].mean().dropna()
    if means.empty:
        return None
    preset, metric, direction = means.idxmax()
    return str(preset), str(metric), str(direction), float(means.max())


def machine_scores(scores: pd.DataFrame, preset: str, metric: str, direction: str) -> pd.DataFrame:
    """One measure's identification of what was decoded from the brain, by mode: value, low,
    high.
    """
    some = own_selection(scores)
    some = some[
        (some["preset"] == preset) & (some["metric"] == metric) & (some["direction"] == direction)
    ]
    some = some[some["source"] == BRAIN]
    if some["subject"].nunique() > 1:
        some = tables.means(some)
    found = some.set_index("mode")[["value", "ci_low", "ci_high"]]
    return found.rename(columns={"ci_low": "low", "ci_high": "high"})


def _drawn(accuracy: pd.DataFrame, machine: pd.DataFrame) -> pd.DataFrame:
    people = accuracy[["method", "accuracy", "ci_low", "ci_high"]]
    people = people.set_axis(["method", "value", "low", "high"], axis=1).assign(who="people")
    beside = (
        machine.reindex(people["method"].astype(str))
        .rename_axis("method")
        .reset_index()
        .assign(who="machine")
    )
    return pd.concat([people.astype({"method": str}), beside], ignore_index=True).dropna(
        subset="value"
    )


def figure(table: pd.DataFrame, metric: str) -> Figure:
    """Draw the share of right choices, filled, above what the best metric makes of the same
    pictures, hollow.

    Parameters
    ----------
    table : DataFrame
        method, who ("people" or "machine"), value, low and high, from 0 to 1.
    metric : str
        Name of the measure.
    """
    methods = list(dict.fromkeys(table["method"]))
    drawing, axes = figures.new_axes(figures.NARROW, 1.0 + 0.5 * len(methods))
    marks = figures.MARKS
    hollow = figures.MARKS["paper"]
    for who, shift, width in (("people", -0.14, 2.0), ("machine", 0.14, 1.2)):
        rows = table[table["who"] == who]
        for row in rows.itertuples():
            place = methods.index(row.method) + shift
            colour = marks.get(row.method, marks["ink"])
            axes.hlines(place, 100 * row.low, 100 * row.high, color=colour, lw=width)
            axes.scatter(
                100 * row.value,
                place,
                marker=figures.MARKERS.get(row.method, "o"),
                color=colour if who == "people" else hollow,
                edgecolors=colour,
                zorder=3,
                **MARK,
            )
        if len(rows):  # the legend's marks are of no method
            axes.scatter(
                [],
                [],
                marker="o",
                color=marks["ink"] if who == "people" else hollow,
                edgecolors=marks["ink"],
                label="people" if who == "people" else metric,
                **MARK,
            )
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    lowest = min(45.0, 100 * float(np.nanmin(table[["low", "value"]].to_numpy(float))) - 2)
    axes.set_xlim(lowest, 101)
    axes.axvline(50, color=marks["ink"], lw=1)
    axes.grid(axis="x", color=marks["line"], lw=0.8)
    axes.set_xlabel("right of two, % (line: chance)")
    figures.add_legend(drawing, axes, 2)
    return drawing


def _described(table: pd.DataFrame, metric: str) -> str:
    parts = [
        f"{row.method}: {'people' if row.who == 'people' else metric} {tables.number(row.value)} "
        f"({tables.interval(row.low, row.high)})"
        for row in table.itertuples()
    ]
    return f"Right choices in percent, chance 50, with 95 % intervals. {'; '.join(parts)}."


# Tables


def _rows(found: dict[str, pd.DataFrame], machine: pd.DataFrame) -> list[dict[str, Any]]:
    compare = found["compare"]
    agreement = found["agreement"]
    against = (
        compare[compare["b"] == "chance"].set_index("a")["p_both_holm"]
        if len(compare)
        else pd.Series(dtype=float)
    )
    kappa = (
        agreement.set_index(agreement["method"].astype(str)) if len(agreement) else pd.DataFrame()
    )
    lines = []
    for row in found["accuracy"].itertuples():
        name = str(row.method)
        beside = machine.loc[name] if name in machine.index else None
        agreed = kappa.loc[name] if name in kappa.index else None
        lines.append(
            {
                "name": name,
                "people": Cell(
                    tables.number(row.accuracy),
                    tables.interval(row.ci_low, row.ci_high),
                    tables.p_text(float(against.get(name, np.nan))),
                ),
                "images": Cell(tables.interval(row.image_low, row.image_high) or "–"),
                "raters": Cell(tables.interval(row.rater_low, row.rater_high) or "–"),
                "machine": None
                if beside is None
                else Cell(
                    tables.number(beside["value"]), tables.interval(beside["low"], beside["high"])
                ),
                "agreement": None
                if agreed is None
                else Cell(
                    tables.number(agreed["agreement"]),
                    f"by chance {tables.number(agreed['expected'])}",
                ),
                "n": int(row.n_trials),
            }
        )
    return lines


def _pairs(compare: pd.DataFrame) -> list[dict[str, Any]]:
    """Differences between methods, in points of percent."""
    if compare.empty:
        return []
    return [
        {
            "name": f"{row.a} − {row.b}",
            "difference": Cell(
                _points(row.difference),
                f"{_points(row.ci_low)} to {_points(row.ci_high)}",
                tables.p_text(row.p_both_holm),
                bool(row.p_both_holm < 0.05),
            ),
            "image": tables.p_text(row.p_image_holm) or "–",
            "rater": tables.p_text(row.p_rater_holm) or "–",
        }
        for row in compare[compare["b"] != "chance"].itertuples()
    ]


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−") if np.isfinite(value) else "–"


def _metrics(predicts: pd.DataFrame) -> list[dict[str, Any]]:
    """The metrics that agree best with people, one cell per method."""
    if predicts.empty:
        return []
    means = (
        predicts.groupby(KEYS, sort=False)["r"]
        .mean()
        .dropna()
        .sort_values(ascending=False)
        .head(MOST_METRICS)
    )
    lines = []
    for key in means.index:
        some = predicts[[tuple(row) == key for row in predicts[KEYS].to_numpy()]].set_index(
            "method"
        )
        cells = {
            str(m): Cell(tables.number(r.r, "r"), tables.interval(r.ci_low, r.ci_high, "r"))
            for m, r in some.iterrows()
        }
        lines.append(
            {
                "name": key[1],
                "note": ", ".join(part for part in (key[0], key[2]) if part),
                "cells": cells,
            }
        )
    ceilings = predicts.drop_duplicates("method").set_index("method")["ceiling"]
    top = {str(m): Cell(tables.number(value, "r")) for m, value in ceilings.items()}
    return [
        *lines,
        {"name": "ceiling", "note": "a metric that knew what raters agree on", "cells": top},
    ]
