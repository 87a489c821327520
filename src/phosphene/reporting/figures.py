"""Figures of the report: tables in, SVG out, in the colours of the page that they stand in.

Every figure is a pure function of a table. Colours are roles ("ink", "z"); in the SVG they are CSS
variables with the light page's values to fall back on, so that a figure follows the page into the
dark and still looks right on its own.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# From Okabe & Ito's colours, which colour-blind readers can tell apart; c and the baselines
# darkened until they reach 3 to 1 on white. The page's style sheet has the same names, and lighter
# values for the dark.
COLOURS = {
    "ink": "#1b1c1e",
    "soft": "#5a5e63",
    "line": "#d9dadc",
    "paper": "#fdfdfc",
    "z": "#0072b2",
    "c": "#c17a00",
    "zc": "#008a64",
    "shuffled": "#787c80",
    "true": "#b5558f",
}
# matplotlib knows no CSS variables: it draws in these colours, which are exchanged afterwards
MARKS = {role: f"#{k + 1:02x}fe{k + 1:02x}" for k, role in enumerate(COLOURS)}
MARKERS = {"z": "o", "c": "s", "zc": "D", "shuffled": "v", "true": "^"}
# inches, at 72 points
WIDE = 9.4
NARROW = 3.9  # readable on a phone
FONT = 9.0


def svg(figure: Figure, name: str, text: str) -> str:
    """Write a figure as an SVG element for a page.

    Parameters
    ----------
    figure : matplotlib Figure
        Drawn in the colours of this module.
    name : str
        Unique on the page: what the ids within are made from.
    text : str
        What a reader who cannot see the figure is told.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    # the same figure gives the same bytes
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(
            stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    drawn = stream.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(
        r"<!--.*?-->|<style.*?</style>|(?<=<g) id=\"[^\"]*\"| font-family: [^;]*;",
        "",
        drawn,
        flags=re.S,
    )
    drawn = re.sub(r"(?<=<svg) ([^>]*?)width=\"\S+\" height=\"\S+\"", r" \1", drawn)
    for role, mark in MARKS.items():
        drawn = drawn.replace(mark, f"var(--{role}, {COLOURS[role]})")
    quoted = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return drawn.replace("<svg", f'<svg role="img" aria-label="{quoted}"', 1).replace("\n", " ")


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=MARKS["ink"], labelsize=FONT)
    axes.xaxis.label.set(color=MARKS["soft"], size=FONT)
    axes.yaxis.label.set(color=MARKS["soft"], size=FONT)
    axes.set_axisbelow(True)
    return figure, axes


def identification(
    table: pd.DataFrame, narrow: bool = False, points: pd.DataFrame | None = None
) -> Figure:
    """Draw two-way identification by measure and kind of reconstruction (the paper's figure 5).

    Bars begin at chance, so that their length is what was found; filled bars are decoded from the
    brain, hollow ones are baselines.

    Parameters
    ----------
    table : DataFrame
        metric, kind, role ("z", "c", "zc", "shuffled", "true"), value, low and high, from 0 to 1;
        in order.
    narrow : bool
        Lying bars, for a phone.
    points : DataFrame, optional
        metric, kind and value of single subjects.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    kinds = list(dict.fromkeys(table["kind"]))
    step = 0.82 / len(kinds)
    tall = 0.7 + 0.2 * (len(kinds) + 1) * len(metrics)
    figure, axes = new_axes(NARROW, tall) if narrow else new_axes(WIDE, 3.7)
    bar, lines, dots = (axes.barh, axes.hlines, 1) if narrow else (axes.bar, axes.vlines, -1)
    for k, kind in enumerate(kinds):
        some = table[table["kind"] == kind].set_index("metric").reindex(metrics)
        role = str(table.loc[table["kind"] == kind, "role"].iloc[0])
        place = np.arange(len(metrics)) + (k - (len(kinds) - 1) / 2) * step
        hollow = role in ("shuffled", "true")
        colour = MARKS[role]
        bar(
            place,
            100 * some["value"] - 50,
            0.84 * step,
            50,
            color=MARKS["paper"] if hollow else colour,
            edgecolor=colour,
            linewidth=1.1,
            label=kind,
        )
        lines(place, 100 * some["low"], 100 * some["high"], color=MARKS["ink"], lw=1.1)
        if points is not None:
            own = points[points["kind"] == kind]
            at = place[[metrics.index(metric) for metric in own["metric"]]] + 0.22 * step
            across, up = (100 * own["value"], at)[::dots]
            axes.scatter(
                across,
                up,
                s=7,
                color=MARKS["paper"],
                edgecolors=MARKS["ink"],
                linewidths=0.7,
                zorder=3,
            )
    lowest = np.nanmin([100 * table["low"].min(), 100 * table["value"].min(), 42.0])
    _finish_bars(axes, metrics, narrow, float(np.floor(lowest / 5) * 5))
    add_legend(figure, axes, 2 if narrow else len(kinds))
    return figure


def _finish_bars(axes: Axes, metrics: list[str], narrow: bool, lowest: float) -> None:
    """Scales, grid and the line of chance."""
    ticks = [t for t in range(0, 101, 10) if t >= lowest]
    if narrow:
        axes.set_yticks(range(len(metrics)), metrics)
        axes.set_ylim(len(metrics) - 0.5, -0.5)
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xlim(lowest, 101)
        axes.grid(axis="x", color=MARKS["line"], lw=0.8)
        axes.axvline(50, color=MARKS["ink"], lw=1)
        axes.set_xlabel("two-way identification, % (line: chance)")
    else:
        axes.set_xticks(range(len(metrics)), metrics)
        axes.set_xlim(-0.5, len(metrics) - 0.5)
        axes.set_yticks(ticks, [str(t) for t in ticks])
        axes.set_ylim(lowest, 101)
        axes.grid(axis="y", color=MARKS["line"], lw=0.8)
        axes.axhline(50, color=MARKS["ink"], lw=1)
        axes.set_ylabel("two-way identification, %")
        axes.annotate(
            "chance",
            (1, 50),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            size=FONT,
            color=MARKS["soft"],
            annotation_clip=False,
        )


def add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        frameon=False,
        ncol=columns,
        loc="outside upper left",
        fontsize=FONT,
        labelcolor=MARKS["ink"],
        handlelength=1.1,
        handleheight=0.9,
        columnspacing=1.4,
        handletextpad=0.5,
    )


def regions(table: pd.DataFrame) -> Figure:
    """Draw how well each part of the brain predicts z and c.

    Parameters
    ----------
    table : DataFrame
        feature, roi, r, q25, q75, ceiling (NaN where it is not known), n_voxels.
    """
    names = list(dict.fromkeys(table["roi"]))
    features = list(dict.fromkeys(table["feature"]))
    figure, axes = new_axes(NARROW, 0.9 + 0.42 * len(names))
    for k, feature in enumerate(features):
        some = table[table["feature"] == feature].set_index("roi").loc[names]
        place = np.arange(len(names)) + 0.3 * (k - (len(features) - 1) / 2)
        colour = MARKS[feature]
        axes.hlines(place, some["q25"], some["q75"], color=colour, lw=2.2)
        axes.scatter(
            some["r"],
            place,
            s=34,
            marker=MARKERS[feature],
            color=colour,
            edgecolors=MARKS["paper"],
            linewidths=0.8,
            zorder=3,
            label=f"{feature} from this region",
        )
        known = (
            some["ceiling"].notna().to_numpy() if "ceiling" in some else np.zeros(len(names), bool)
        )
        if known.any():
            axes.scatter(
                some["ceiling"][known], place[known], marker="|", s=60, linewidths=1.6, color=colour
            )
    voxels = table.drop_duplicates("roi").set_index("roi")["n_voxels"]
    axes.set_yticks(
        range(len(names)), [f"{name}\n{voxels[name]:,} voxels".replace(",", " ") for name in names]
    )
    axes.set_ylim(len(names) - 0.45, -0.55)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.02), max(high, 0.1))
    axes.axvline(0, color=MARKS["ink"], lw=1)
    axes.grid(axis="x", color=MARKS["line"], lw=0.8)
    axes.set_xlabel("correlation of decoded with true features")
    add_legend(figure, axes, 2)
    return figure


def ceilings(table: pd.DataFrame) -> Figure:
    """Draw identification against the quality of the data, one column of marks per subject.

    Parameters
    ----------
    table : DataFrame
        subject, mode, ceiling (percent of variance), value (mean over measures, 0 to 1), low and
        high (the lowest and the highest measure).
    """
    figure, axes = new_axes(NARROW, 3.3)
    modes = list(dict.fromkeys(table["mode"]))
    width = max(float(np.ptp(table["ceiling"])), 1.0)
    for k, mode in enumerate(modes):
        some = table[table["mode"] == mode]
        x = some["ceiling"] + 0.018 * width * (k - (len(modes) - 1) / 2)
        axes.vlines(x, 100 * some["low"], 100 * some["high"], color=MARKS[mode], lw=1.2, alpha=0.7)
        axes.scatter(
            x,
            100 * some["value"],
            s=34,
            marker=MARKERS[mode],
            color=MARKS[mode],
            edgecolors=MARKS["paper"],
            linewidths=0.8,
            zorder=3,
            label=mode,
        )
    for subject, some in table.groupby("subject", sort=False):
        axes.annotate(
            str(subject),
            (some["ceiling"].iloc[0], 100 * some["high"].max()),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            size=FONT,
            color=MARKS["ink"],
        )
    axes.margins(x=0.16, y=0.1)
    axes.grid(color=MARKS["line"], lw=0.8)
    axes.set_xlabel("mean noise ceiling of the voxels, % of variance")
    axes.set_ylabel("two-way identification, %")
    add_legend(figure, axes, len(modes))
    return figure


def describe(table: pd.DataFrame, sentence: str) -> str:
    """Say in words what bars show: for readers who cannot see them."""
    parts = [
        f"{kind}: "
        + ", ".join(
            f"{m} {100 * v:.1f}" for m, v in zip(some["metric"], some["value"], strict=True)
        )
        for kind, some in table.groupby("kind", sort=False)
    ]
    return f"{sentence} {'; '.join(parts)}."
