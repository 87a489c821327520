"""Tables of the report: what was scored, arranged as a page shows it. Tables in, tables and small
records out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from phosphene.methods import BRAIN, condition_name
from phosphene.metrics.presets import DIRECTIONS, KEYS, PRESETS, own_selection
from phosphene.numerics.correlation import TIE_TOLERANCE

SELECTIONS = {
    "single": "the first sample",
    "mean": "correlations averaged over the samples",
    "decoded": "the sample closest to the decoded features",
    "oracle": "looks at the seen picture: no result",
}
RULES = {
    "single": "single picture",
    "mean": "mean of {n}",
    "decoded": "best of {n}, by decoded features",
    "oracle": "best of {n}, oracle",
}


@dataclass(frozen=True)
class Cell:
    """One number: its text, its interval and p as text ("" where there is none), and whether it
    leads its column.
    """

    text: str
    interval: str = ""
    p: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """One row: its name, the role that colours it, a note, and its cells (None: not measured)."""

    name: str
    role: str
    note: str
    cells: list[Cell | None]


@dataclass(frozen=True)
class Block:
    """Scores of one preset in one direction: the only numbers that may be compared with each
    other.
    """

    preset: str
    source: str
    direction: str
    said: str
    columns: list[tuple[str, str]]
    lines: list[Line]


def role_of(mode: str, source: str) -> str:
    """Name the colour of a kind of reconstruction: its mode, or the baseline."""
    return mode if source == BRAIN else source


def first_direction(preset: str) -> str:
    """Name the direction in which a preset's first two-way measure goes, "" where it has none."""
    return next((str(m.direction) for m in PRESETS[preset].metrics if m.kind == "two-way"), "")


def two_way(table: pd.DataFrame, preset: str, direction: str | None = None) -> pd.DataFrame:
    """Rows of a preset's two-way measures in one direction (its first), chosen among samples by its
    own rule.
    """
    names = [m.name for m in PRESETS[preset].metrics if m.kind == "two-way"]
    wanted = direction or first_direction(preset)
    of_preset = own_selection(table[table["preset"] == preset])
    return of_preset[of_preset["metric"].isin(names) & (of_preset["direction"] == wanted)]


def headline(scores: pd.DataFrame, preset: str) -> pd.DataFrame:
    """Identification accuracy in percent, by a preset in its first direction.

    Returns
    -------
    DataFrame
        One row per kind of reconstruction, one column per two-way measure, and their `mean`;
        averaged over subjects where there are several.
    """
    rows = two_way(scores, preset)
    kinds = [
        condition_name(mode, source)
        for mode, source in zip(rows["mode"], rows["source"], strict=True)
    ]
    table = 100 * rows.assign(kind=kinds).pivot_table(
        index="kind", columns="metric", values="value", sort=False
    )
    return table.assign(mean=table.mean(axis=1))


def item_scores(per_image: pd.DataFrame, preset: str) -> pd.DataFrame:
    """Mean over two-way measures of each item's share of won comparisons: rows items, columns
    modes.
    """
    some = two_way(per_image[per_image["source"] == BRAIN], preset)
    return some.pivot_table(index="item", columns="mode", values="value", sort=True)


# Numbers as text


def number(value: float, kind: str = "two-way") -> str:
    """Write a score: percent for shares, three decimals for what is no share."""
    if not np.isfinite(value):
        return "–"
    return (f"{100 * value:.1f}" if kind == "two-way" else f"{value:.3f}").replace("-", "−")


def interval(low: float, high: float, kind: str = "two-way") -> str:
    """Write an interval, "" where it is not known; one number where both ends print the same."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    ends = list(dict.fromkeys([number(low, kind), number(high, kind)]))
    return ("–" if low >= 0 else " to ").join(ends)


def p_text(p: float) -> str:
    """Write a p-value, "" where it is not known."""
    if not np.isfinite(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


# Blocks: one per preset and direction


def blocks(scores: pd.DataFrame, subjects: int = 1) -> list[Block]:
    """Arrange scores for people, preset by preset and direction by direction, the first one of each
    first.

    Parameters
    ----------
    scores : DataFrame
        mode, source, preset, metric, direction, selection, value, ci_low, ci_high, p, n, samples:
        of one subject, or means over `subjects` of them.
    subjects : int
    """
    found = []
    own = own_selection(scores)
    for preset in dict.fromkeys(own["preset"]):
        some = own[own["preset"] == preset]
        for direction in _directions(preset, some):
            rows = some[some["direction"].isna() | (some["direction"] == direction)]
            found.append(_block(preset, direction, rows, subjects))
    return found


def _directions(preset: str, some: pd.DataFrame) -> list[str]:
    present = list(dict.fromkeys(some["direction"].dropna()))
    first = first_direction(preset)
    return sorted(present, key=lambda direction: direction != first) or [""]


def _block(preset: str, direction: str, rows: pd.DataFrame, subjects: int) -> Block:
    metrics = [m for m in PRESETS[preset].metrics if m.name in set(rows["metric"])]
    metrics = list({m.name: m for m in metrics if m.direction in (None, direction)}.values())
    several = sum(m.kind == "two-way" for m in metrics) > 1
    columns = [
        (m.name, "%" if m.kind == "two-way" else "↑" if m.better == "higher" else "↓")
        for m in metrics
    ]
    lines = []
    best = _best(rows)
    best_means = _best_means(rows, [m.name for m in metrics if m.kind == "two-way"])
    for (mode, source), some in rows.groupby(["mode", "source"], sort=False):
        values = some.set_index("metric")
        cells: list[Cell | None] = [
            _cell(values.loc[m.name], m.kind, (m.name, mode) in best and source == BRAIN)
            if m.name in values.index
            else None
            for m in metrics
        ]
        if several:
            mean = values.loc[
                [m.name for m in metrics if m.kind == "two-way" and m.name in values.index], "value"
            ]
            is_best = source == BRAIN and str(mode) in best_means
            cells.append(Cell(number(float(mean.mean())), best=is_best))
        name = condition_name(str(mode), str(source))
        lines.append(Line(name, role_of(str(mode), str(source)), _samples(some), cells))
    columns += [("mean", "%")] if several else []
    return Block(
        preset,
        PRESETS[preset].source,
        direction,
        _said(preset, direction, rows, subjects),
        columns,
        lines,
    )


def _best(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """Which modes lead each measure, baselines left aside; all of those that are level."""
    brain = rows[(rows["source"] == BRAIN) & rows["value"].notna()]
    if brain["mode"].nunique() < 2:
        return set()
    best = set()
    for metric, some in brain.groupby("metric", sort=False):
        is_lower_better = "better" in some and some["better"].iloc[0] == "lower"
        values = -some["value"] if is_lower_better else some["value"]
        leading = some.loc[np.isclose(values, values.max(), rtol=0, atol=TIE_TOLERANCE), "mode"]
        best |= {(str(metric), str(mode)) for mode in leading}
    return best


def _best_means(rows: pd.DataFrame, metrics: Sequence[str]) -> set[str]:
    """Which modes lead on the mean over these measures, baselines left aside."""
    brain = rows[(rows["source"] == BRAIN) & rows["metric"].isin(metrics)]
    values = brain.groupby("mode")["value"].mean().dropna()
    leading = np.isclose(values, values.max(), rtol=0, atol=TIE_TOLERANCE)
    return set(map(str, values.index[leading])) if len(values) > 1 else set()


def _cell(row: pd.Series, kind: str, best: bool) -> Cell:
    return Cell(
        number(row["value"], kind),
        interval(row["ci_low"], row["ci_high"], kind),
        p_text(row["p"]),
        best,
    )


def _samples(rows: pd.DataFrame) -> str:
    counts = sorted({int(n) for n in rows["samples"].dropna()})
    return "" if not counts else "1 sample" if counts == [1] else f"{counts[-1]} samples"


def _said(preset: str, direction: str, rows: pd.DataFrame, subjects: int) -> str:
    """Say what the numbers of a block are: preset, direction, rule, N."""
    n = sorted({int(n) for n in rows["n"].dropna()})
    count = f"N = {n[0]}" if len(n) == 1 else f"N = {n[0]} to {n[-1]}" if n else "N unknown"
    parts = [f"Preset {preset} ({PRESETS[preset].source})."]
    if direction:
        parts.append(f"Direction {direction}: {DIRECTIONS[direction]}.")
    rule = PRESETS[preset].selection
    parts.append(f"Selection “{rule}”: {SELECTIONS[rule]}. {count} test pictures.")
    if subjects > 1:
        parts.append(f"Means over {subjects} subjects with t intervals.")
    else:
        parts.append(
            "Below each number: its 95 % interval (resampling pictures) and p (permuted pairing), "
            "if it has one."
        )
    return " ".join(parts)


# Further tables


def means(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over subjects of every score, shaped as scores: the interval is a t interval, n that of
    the pictures.
    """
    found = across_subjects(scores)
    keys = ["mode", "source", "preset", "metric", "direction", "selection"]
    rest = scores.groupby(keys, sort=False, dropna=False, as_index=False).agg(
        kind=("kind", "first"),
        better=("better", "first"),
        pictures=("n", "max"),
        samples=("samples", "max"),
    )
    low, high = zip(*found["ci"], strict=True)
    found = found.drop(columns=["n", "ci"]).rename(columns={"mean": "value"}).merge(rest, on=keys)
    return found.assign(ci_low=low, ci_high=high, p=np.nan, n=found["pictures"])


def selections(
    scores: pd.DataFrame, preset: str, mode: str
) -> list[tuple[str, str, list[Cell | None]]]:
    """One line per way of choosing among samples, of one mode decoded from the brain: name, what it
    means, cells.
    """
    names = [m.name for m in PRESETS[preset].metrics if m.kind == "two-way"]
    some = scores[
        (scores["preset"] == preset) & (scores["mode"] == mode) & (scores["source"] == BRAIN)
    ]
    some = some[some["metric"].isin(names) & (some["direction"] == first_direction(preset))]
    found = []
    for rule in [rule for rule in RULES if rule in set(some["selection"])]:
        rows = some[some["selection"] == rule].set_index("metric")
        cells: list[Cell | None] = [
            _cell(rows.loc[name], "two-way", False) if name in rows.index else None
            for name in dict.fromkeys(names)
        ]
        cells.append(Cell(number(float(rows["value"].mean()))))
        found.append((RULES[rule].format(n=int(rows["samples"].max())), SELECTIONS[rule], cells))
    return found if len(found) > 1 else []


def pairs(comparisons: pd.DataFrame, preset: str) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Differences between modes, by measure: names of the pairs, and per measure one cell per pair.

    Measures are those of the preset in its first direction; p is that of the signed-rank test after
    Holm.
    """
    some = comparisons[comparisons["preset"] == preset] if len(comparisons) else comparisons
    if some.empty:
        return [], []
    some = some[some["direction"].isna() | (some["direction"] == first_direction(preset))]
    kinds = {m.name: m.kind for m in PRESETS[preset].metrics} | {"mean": "two-way"}
    some = some.assign(pair=[f"{a} − {b}" for a, b in zip(some["a"], some["b"], strict=True)])
    columns = list(dict.fromkeys(some["pair"]))
    lines = []
    for metric in dict.fromkeys(some["metric"]):
        rows = some[some["metric"] == metric].set_index("pair")
        kind = kinds[metric]
        lines.append((str(metric), [_difference(rows.loc[pair], kind) for pair in columns]))
    return columns, lines


def _difference(row: pd.Series, kind: str) -> Cell:
    scale, digits = (100, 1) if kind == "two-way" else (1, 3)
    low, mid, high = (
        f"{scale * row[c]:+.{digits}f}".replace("-", "−")
        for c in ("ci_low", "difference", "ci_high")
    )
    return Cell(mid, f"{low} to {high}", p_text(row["p_holm"]), bool(row["p_holm"] < 0.05))


def quality(scores: pd.DataFrame, preset: str, noise: dict[str, float]) -> pd.DataFrame:
    """Identification by subject and mode against the subject's noise ceiling, as
    :func:`figures.ceilings` takes it.
    """
    rows = two_way(scores[scores["source"] == BRAIN], preset)
    grouped = rows.groupby(["subject", "mode"], sort=False)["value"]
    found = grouped.agg(value="mean", low="min", high="max").reset_index()
    found["ceiling"] = found["subject"].map(noise).astype(float)
    return found[found["ceiling"].notna()]


def bars(scores: pd.DataFrame, preset: str, direction: str | None = None) -> pd.DataFrame:
    """Two-way identification as :func:`figures.identification` takes it, of one subject or of
    means.
    """
    rows = two_way(scores, preset, direction)
    names = list(zip(rows["mode"], rows["source"], strict=True))
    return pd.DataFrame(
        {
            "metric": rows["metric"].to_numpy(),
            "kind": [condition_name(*name) for name in names],
            "role": [role_of(*name) for name in names],
            "value": rows["value"].to_numpy(float),
            "low": rows["ci_low"].to_numpy(float),
            "high": rows["ci_high"].to_numpy(float),
        }
    )


def records(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[dict[str, object]]:
    """Rows of a table as dictionaries with all of `columns`; NaN where the table has no such
    column.
    """
    yield from table.reindex(columns=list(columns)).to_dict("records")


# Over subjects, and the headline


def headline_preset(presets: Sequence[str], scores: pd.DataFrame) -> str:
    """Name the preset of the headline: the first of `presets` that has scores, else the first."""
    scored = set(scores["preset"]) if len(scores) else set()
    return next((preset for preset in presets if preset in scored), presets[0])


def across_subjects(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over subjects of every score, its standard error and interval (t), as papers report
    it.
    """
    # here, since it needs SciPy, and the command line prints the headline without
    from phosphene.numerics.stats import subject_summary

    keys = ["mode", "source", *KEYS, "selection"]
    rows = [
        dict(zip(keys, key, strict=True)) | asdict(subject_summary(some["value"].to_numpy()))
        for key, some in scores.groupby(keys, sort=False, dropna=False)
    ]
    return pd.DataFrame(rows)
