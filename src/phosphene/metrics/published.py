"""Published numbers with their source, and yours beside those of the same preset; never beside
those of another.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from phosphene.data.opening import read_table
from phosphene.errors import PhospheneError
from phosphene.metrics.presets import PRESETS, own_selection
from phosphene.numerics.identification import Rule
from phosphene.reading import read_json

MARKS = {"V": "read in the named source", "R": "recalled, not yet checked against the named source"}
HUMAN = "human raters"  # no preset of ours: people chose, no network
# printed as they are; everything else is two-way, in percent
PER_PAIR = (
    "PixCorr",
    "SSIM",
    "Eff",
    "SwAV",
)
# a published name and the preset's own name of the same measure
SAME = {("takagi2023", "Inc"): "Inception"}
COLUMNS = [
    "preset",
    "method",
    "yours",
    "metric",
    "kind",
    "value",
    "n",
    "samples",
    "source",
    "mark",
    "note",
]
KEYS = ["subject", "mode", "source", "preset", "metric", "direction", "selection"]
NEEDED = ["preset", "metric", "kind", "direction", "selection", "value", "n", "samples"]


def rows() -> pd.DataFrame:
    """The published numbers that have a source.

    Returns
    -------
    DataFrame
        method, year (of the source), preset ("human raters" where people chose), metric (as
        printed), value (two-way from 0 to 1), source, mark (:data:`MARKS`), note, subjects,
        pictures.
    """
    text = (
        resources.files("phosphene.metrics").joinpath("published.toml").read_text(encoding="utf-8")
    )
    found = []
    for entry in tomllib.loads(text)["method"]:
        for metric, printed in entry["values"].items():
            value = printed if metric in PER_PAIR else round(printed / 100, 6)
            found.append({**entry, "metric": metric, "value": value})
    columns = [
        "method",
        "year",
        "preset",
        "metric",
        "value",
        "source",
        "mark",
        "note",
        "subjects",
        "pictures",
    ]
    return pd.DataFrame(found)[columns]


def beside(scores: pd.DataFrame) -> pd.DataFrame:
    """Your scores and the published ones, one block per preset that you scored by.

    Parameters
    ----------
    scores : DataFrame
        As :func:`phosphene.metrics.score.score_pictures` gives it, or the measures of a study
        (with subject, mode and source as well).

    Returns
    -------
    DataFrame
        preset, method, yours (bool), metric (with the direction where a preset has both), kind,
        value, n, samples, source, mark, note. Yours come first in each block, under the preset's
        own rule for choosing among samples. Several subjects are also averaged, as the published
        numbers are. Wherever one side lacks a measure there is no row, and :func:`wide` shows a
        blank.
    """
    blocks = []
    for preset, mine in own_selection(scores).groupby("preset", sort=False):
        blocks += [_yours(str(preset), mine), _theirs(str(preset))]
    return (
        pd.concat([b for b in blocks if len(b)], ignore_index=True)
        if blocks
        else pd.DataFrame(columns=COLUMNS)
    )


def wide(table: pd.DataFrame, preset: str) -> pd.DataFrame:
    """One block of :func:`beside` for reading: methods as rows, measures as columns, text; else
    blank.
    """
    block = table[table["preset"] == preset]
    shown = pd.Series(
        [printed(row.value, row.kind) for row in block.itertuples()],
        index=block.index,
        dtype=object,
    )
    order = [
        name for m in PRESETS[preset].metrics for name in (m.name, f"{m.name} ({m.direction})")
    ]
    there = list(dict.fromkeys(block["metric"]))
    names = [name for name in order if name in there] + [
        name for name in there if name not in order
    ]
    return (
        block.assign(shown=shown)
        .pivot(index="method", columns="metric", values="shown")
        .reindex(index=list(dict.fromkeys(block["method"])), columns=names)
        .fillna("")
    )


def printed(value: float, kind: str) -> str:
    """A number as papers print it: identification in percent, the rest to three places."""
    if np.isnan(value):
        return ""
    return f"{100 * value:.1f}" if kind == "two-way" else f"{value:.3f}"


def remarks(table: pd.DataFrame, preset: str) -> list[str]:
    """What to know about the published rows of a block: source, mark, subjects, pictures, note."""
    known = rows()
    known = known[known["preset"] == preset].drop_duplicates("method")
    there = known[
        known["method"].isin(table.loc[~table["yours"].astype(bool), "method"]) | (preset == HUMAN)
    ]
    found = []
    for (source, mark, subjects, pictures), some in there.groupby(
        ["source", "mark", "subjects", "pictures"], sort=False
    ):
        said = [f"{source} [{mark}]", subjects, pictures and f"{pictures} pictures"]
        found.append(f"{'; '.join(some['method'])}: {', '.join(part for part in said if part)}.")
    return found + [f"{row.method}: {row.note}" for row in there.itertuples() if row.note]


def read_scores(path: Path) -> pd.DataFrame:
    """Read the scores that ``phosphene score`` wrote with ``--csv`` or printed with ``--json``."""
    try:
        if path.suffix == ".json":
            scores = pd.DataFrame(read_json(path)["scores"])
        else:
            scores = read_table(path)
    except PhospheneError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise PhospheneError(
            f"{path}: cannot be read as scores ({error}); expected what `score` wrote"
        ) from None
    return checked_scores(scores, str(path))


def checked_scores(scores: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check a table of scores, whoever has edited it.

    Parameters
    ----------
    scores : DataFrame
    source : str
        Its file, for messages.

    Returns
    -------
    DataFrame
        With numbers as numbers.

    Raises
    ------
    PhospheneError
        When columns or values are missing, unknown or there twice; line 1 is the header.
    """
    lacking = [name for name in NEEDED if name not in scores]
    if lacking:
        raise PhospheneError(
            f"{source}: has no column {', '.join(lacking)}; expected what `phosphene score` wrote"
        )
    if (headers := np.flatnonzero(scores["preset"].astype(str) == "preset")).size:
        raise PhospheneError(
            f"{source}: line {headers[0] + 2} is a second header, so several files were joined; "
            "give one of them"
        )
    _refuse_unknown(scores, source)
    numbers = {name: _numbers(scores[name], source) for name in ("value", "n", "samples")}
    keys = [name for name in KEYS if name in scores]
    twice = scores[scores.duplicated(keys)]
    if len(twice):
        row = twice.iloc[0]
        raise PhospheneError(
            f"{source}: line {twice.index[0] + 2} has {row['preset']} {row['metric']} for the "
            "second time; keep one of these lines"
        )
    return scores.assign(**numbers)


def _refuse_unknown(scores: pd.DataFrame, source: str) -> None:
    for line, row in enumerate(scores.astype(object).fillna("").to_dict("records"), 2):
        if row["preset"] not in PRESETS:
            raise PhospheneError(
                f"{source}: found preset {row['preset']!r}, expected some of {', '.join(PRESETS)}"
            )
        metrics = PRESETS[row["preset"]].metrics
        same = [metric for metric in metrics if metric.name == row["metric"]]
        allowed: dict[str, list[str]] = {
            "metric": [metric.name for metric in metrics],
            "kind": [metric.kind for metric in same],
            "direction": [metric.direction or "" for metric in same],
            "selection": list(get_args(Rule)),
        }
        for name, values in allowed.items():
            if row[name] not in values:
                raise PhospheneError(
                    f"{source}: line {line} has {name} {row[name]!r}, expected "
                    f"{' or '.join(dict.fromkeys(values))} (preset {row['preset']})"
                )


def _numbers(values: pd.Series, source: str) -> pd.Series:
    """Numbers of a column; an empty value is a score that is not defined."""
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna() & values.notna() | np.isinf(numbers)
    if values.name != "value":
        wrong |= ~(numbers >= 1) | (numbers % 1 != 0)
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        expected = "a number" if values.name == "value" else "a whole number from 1"
        raise PhospheneError(
            f"{source}: {values.name} is '{values.iloc[line]}' on line {line + 2}, expected "
            f"{expected}"
        )
    return numbers


def _yours(preset: str, mine: pd.DataFrame) -> pd.DataFrame:
    both = (
        {m.name for m in PRESETS[preset].metrics if m.direction}
        if _directions(preset) > 1
        else set()
    )
    metric = [
        f"{m} ({d})" if m in both else m
        for m, d in zip(mine["metric"], mine["direction"], strict=True)
    ]
    mine = mine.assign(metric=metric, method=[_label(row) for _, row in mine.iterrows()])
    if "subject" in mine and mine["subject"].nunique() > 1:
        mine = pd.concat([mine, _averaged(mine)])
    said = {"source": "", "mark": "", "note": "", "preset": preset, "yours": True}
    return mine.assign(**said)[COLUMNS]


def _directions(preset: str) -> int:
    return len({metric.direction for metric in PRESETS[preset].metrics if metric.direction})


def _label(row: Any, averaged: bool = False) -> str:
    """Name a row of yours: "yours", or "yours, subj01, zc"; the source is named where it is not the
    brain.
    """
    parts = ["mean of subjects"] if averaged else [row["subject"]] if "subject" in row else []
    parts += [row["mode"]] if "mode" in row else []
    parts += [row["source"]] if row.get("source", "brain") not in ("brain", "") else []
    return ", ".join(["yours", *parts])


def _averaged(mine: pd.DataFrame) -> pd.DataFrame:
    """Mean over subjects, for each mode and source that all of them have."""
    keys = [name for name in ("mode", "source") if name in mine] + ["metric", "kind"]
    everyone = mine["subject"].nunique()
    groups = mine.groupby(keys, sort=False, as_index=False)
    mean = groups.agg(
        value=("value", "mean"),
        n=("n", "sum"),
        samples=("samples", "max"),
        k=("subject", "nunique"),
    )
    mean = mean[mean["k"] == everyone]
    return mean.assign(method=[_label(row, averaged=True) for _, row in mean.iterrows()])


def _theirs(preset: str) -> pd.DataFrame:
    known = rows()
    known = known[known["preset"] == preset]
    metric = [SAME.get((preset, name), name) for name in known["metric"]]
    kinds = {m.name: m.kind for m in PRESETS[preset].metrics}
    kind = [kinds.get(name, "two-way") for name in metric]
    said: dict[str, Any] = {"yours": False, "n": pd.NA, "samples": pd.NA}
    return known.assign(metric=metric, kind=kind, **said)[COLUMNS]
