"""Scores for reading: lines of a table on the screen, and one self-contained page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from phosphene.metrics import published
from phosphene.metrics.image_files import PictureSet
from phosphene.metrics.presets import DIRECTIONS, PRESETS, own_selection
from phosphene.metrics.score import PictureScores

RULES = {
    "mean": "mean over samples",
    "single": "first sample",
    "decoded": "chosen by the decoded features",
    "oracle": "best sample, chosen by looking at the original",
}
HEADS = {"interval": "95 % interval", "direction": "direction", "p": "p", "chance": "chance"}
SHOWN = 12  # best pictures on the page, and as many of the worst
THUMBNAIL = 192  # pixels
LIBRARIES = ("phosphene", "torch", "torchvision", "transformers", "scikit-image", "pillow")


@dataclass(frozen=True)
class Line:
    """One measure for reading; `bar` has places from 0 to 100: low, high, value, chance (or None),
    published.
    """

    metric: str
    direction: str
    value: str
    interval: str
    p: str
    chance: str
    lower: bool
    others: list[str]
    bar: dict[str, Any]


@dataclass(frozen=True)
class Block:
    """All measures of one preset; `others` are the rules beside the preset's own."""

    preset: str
    source: str
    rule: str
    n: int
    samples: int
    others: list[str]
    lines: list[Line]

    @property
    def said(self) -> str:
        """What every number of the block stands on."""
        samples = (
            "one sample each"
            if self.samples == 1
            else f"{self.samples} samples each, {RULES[self.rule]}"
        )
        return f"{self.n} pictures, {samples}"

    @property
    def directions(self) -> list[str]:
        """The directions of identification in the block, explained."""
        used = dict.fromkeys(line.direction for line in self.lines if line.direction)
        return [f"{name}: {DIRECTIONS[name]}" for name in used]

    @property
    def columns(self) -> list[str]:
        """Columns beside the value that are not empty in all lines, in their order on the page."""
        names = ("interval", "direction", "p", "chance")
        return [name for name in names if any(getattr(line, name) for line in self.lines)]

    @property
    def has_published(self) -> bool:
        """Whether any published number has a place on the tracks."""
        return any(line.bar["published"] for line in self.lines)


def blocks(scores: pd.DataFrame) -> list[Block]:
    """One block per preset, its own rule first and the other rules beside it."""
    found = []
    theirs = published.rows()
    for preset, rows in scores.groupby("preset", sort=False):
        own = own_selection(rows)
        rule = PRESETS[str(preset)].selection
        others = [name for name in RULES if name != rule and name in set(rows["selection"])]
        known = theirs[theirs["preset"] == preset]
        lines = [_line(row, rows, others, known) for _, row in own.iterrows()]
        n = int(rows["n"].iloc[0])
        samples = int(rows["samples"].iloc[0])
        found.append(
            Block(str(preset), PRESETS[str(preset)].source, rule, n, samples, others, lines)
        )
    return found


def _line(row: pd.Series, rows: pd.DataFrame, others: Sequence[str], known: pd.DataFrame) -> Line:
    kind = str(row["kind"])
    direction = "" if pd.isna(row["direction"]) else str(row["direction"])
    same = rows[(rows["metric"] == row["metric"]) & (rows["direction"].fillna("") == direction)]
    by_rule = same.set_index("selection")["value"]
    low, high = (published.printed(row[end], kind) for end in ("ci_low", "ci_high"))
    there = known.assign(name=[published.SAME.get((row["preset"], m), m) for m in known["metric"]])
    return Line(
        metric=str(row["metric"]),
        direction=direction,
        value=published.printed(row["value"], kind),
        interval=f"{low} – {high}" if low != high else "",
        p="" if pd.isna(row["p"]) else f"{row['p']:.4f}",
        chance=published.printed(row["chance"], kind),
        lower=row["better"] == "lower",
        others=[published.printed(by_rule[rule], kind) for rule in others],
        bar=_bar(row, there[there["name"] == row["metric"]]),
    )


def _bar(row: pd.Series, known: pd.DataFrame) -> dict[str, Any]:
    """Places on a track, in percent of its length: identification from 40 % on, everything else
    from 0.
    """
    ends = [row["value"], *(row[end] for end in ("ci_low", "ci_high") if not pd.isna(row[end]))]
    start = min(0.4, *ends) if row["kind"] == "two-way" else min(0.0, *ends)
    stop = max(1.0, *ends)

    def place(value: float) -> float:
        return float(round(100 * (value - start) / (stop - start), 2))

    return {
        "low": place(min(ends)),
        "high": place(max(ends)),
        "value": place(row["value"]),
        "chance": None if pd.isna(row["chance"]) else place(row["chance"]),
        "published": [
            {
                "at": place(r.value),
                "method": r.method,
                "value": published.printed(r.value, row["kind"]),
            }
            for r in known.itertuples()
        ],
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that features depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def ranking(found: PictureScores) -> tuple[str, str, pd.Series]:
    """Items from the best to the worst by the mean identification of the first preset that
    identifies.

    Returns
    -------
    (str, str, Series)
        What it is sorted by, its kind, and the values by item; the first measure of all where
        nothing identifies.
    """
    table = own_selection(found.per_image)
    two_way = found.scores[found.scores["kind"] == "two-way"]
    rows = found.scores if two_way.empty else two_way
    preset = str(rows["preset"].iloc[0])
    metric = str(rows["metric"].iloc[0])
    names = [metric] if two_way.empty else rows.loc[rows["preset"] == preset, "metric"].unique()
    some = table[(table["preset"] == preset) & table["metric"].isin(names)]
    mean = some.groupby("item")["value"].mean()
    label = (
        f"{metric} of {preset}"
        if two_way.empty
        else f"the identification measures of {preset}, mean in %"
    )
    return label, str(rows["kind"].iloc[0]), mean.sort_values(ascending=False, kind="stable")


def best_and_worst(order: pd.Series) -> list[tuple[str, pd.Series]]:
    """Choose the pictures of the page, with a title for each group.

    Parameters
    ----------
    order : Series
        Values from the best to the worst. Pictures as good as one that is shown among the best are
        never shown among the worst.
    """
    count = max(min(SHOWN, len(order) // 2), 1)
    best = order.iloc[:count]
    worst = order[~order.isin(best)].iloc[::-1][:count]
    if order.nunique() == 1:
        return [("Some pictures: all score the same", best)]
    groups = [("The best", best), ("The worst", worst)]
    return [(title, chosen) for title, chosen in groups if len(chosen)]


def page(found: PictureScores, made: PictureSet, shown: PictureSet) -> str:
    """Render the page of some scores, with the best and the worst pictures in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    label, kind, order = ranking(found)
    beside = published.beside(found.scores)
    comparisons = {
        name: {"table": published.wide(beside, name), "remarks": published.remarks(beside, name)}
        for name in dict.fromkeys(beside.loc[~beside["yours"].astype(bool), "preset"])
    }
    environment = Environment(
        loader=PackageLoader("phosphene.metrics"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("score.html").render(
        recons=made.source,
        originals=shown.source,
        blocks=blocks(found.scores),
        rules=RULES,
        heads=HEADS,
        comparisons=comparisons,
        marks=published.MARKS,
        absent=grouped(found.absent),
        notes=found.notes,
        ranked_by=label,
        gallery=[
            (
                title,
                [
                    _pair(found, made, shown, int(item), published.printed(value, kind))
                    for item, value in chosen.items()
                ],
            )
            for title, chosen in best_and_worst(order)
        ],
        samples=len(made.samples),
        versions=versions(),
    )


def grouped(absent: dict[str, str]) -> dict[str, list[str]]:
    """Reasons, each with the measures that are absent for it."""
    found: dict[str, list[str]] = {}
    for measure, reason in absent.items():
        found.setdefault(reason, []).append(measure)
    return found


def _pair(
    found: PictureScores, made: PictureSet, shown: PictureSet, item: int, value: str
) -> dict[str, Any]:
    return {
        "name": found.names[item] if found.names else str(item),
        "value": value,
        "original": _url(shown.samples[0][item]),
        "recon": _url(made.samples[0][item]),
    }


def _url(picture: NDArray[Any]) -> str:
    """A small JPEG inside the page."""
    pixels = picture if picture.dtype == np.uint8 else np.rint(255 * picture).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
