"""The report: a study's content, tables and figures in one HTML page that needs nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from phosphene.methods import BRAIN, condition_name
from phosphene.metrics import published
from phosphene.reporting import encoded, figures, gallery, people, tables
from phosphene.reporting.content import Content

VERDICTS = {
    "fault": "cannot be published like this",
    "look": "a reader will ask",
    "not asked": "these data or settings have no answer",
    "ok": "as it should be",
}
FEATURE_COLUMNS = (
    "subject",
    "feature",
    "source",
    "n",
    "r",
    "q25",
    "q75",
    "ceiling",
    "normalised",
    "accuracy",
    "ci_low",
    "ci_high",
    "p",
    "image_retrieval",
    "image_retrieval_low",
    "image_retrieval_high",
    "brain_retrieval",
    "brain_retrieval_low",
    "brain_retrieval_high",
    "candidates",
    "retrieval_chance",
)


def render(content: Content) -> str:
    """Render a page.

    Returns
    -------
    str
        HTML that loads nothing; at most `gallery.PAGE_MB` megabytes with the pictures that
        :func:`phosphene.reporting.content.with_pictures` chooses.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("phosphene.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "interval": tables.interval,
        "p": tables.p_text,
    }
    text = environment.get_template("report.html").render(
        content=content,
        tiles=[*_identified(content), *_named(content)],
        measures=_measures(content),
        decoding=_decoding(content),
        compared=[
            (s, *tables.pairs(_of(content.comparisons, s), content.preset))
            for s in content.subjects
        ],
        audit=_audit(content.audit),
        verdicts=VERDICTS,
        beside=_beside(content.scores),
        marks=published.MARKS,
        absent=_absent(content.absent),
        gallery=_gallery(content),
        page_mb=gallery.PAGE_MB,
        encoded_titles=encoded.TITLES,
        people=people.section(content.people, content.scores),
    )
    return str(text).strip() + "\n"


def _of(table: pd.DataFrame, subject: str) -> pd.DataFrame:
    return table[table["subject"] == subject] if "subject" in table else table


# Scores of pictures


def _measures(content: Content) -> dict[str, Any] | None:
    """Everything about the scores; None where pictures could not be compared with what was seen."""
    scores = content.scores
    preset = content.preset
    several = len(content.subjects) > 1
    if scores.empty:
        return None
    shown = tables.means(scores) if several else scores
    samples = [
        (s, tables.selections(_of(scores, s), preset, content.richest)) for s in content.subjects
    ]
    return {
        "blocks": tables.blocks(shown, len(content.subjects)),
        "subjects": [(s, tables.blocks(_of(scores, s))) for s in content.subjects]
        if several
        else [],
        "bars": _bars(content, shown) if len(tables.bars(shown, preset)) else None,
        "samples": [(s, lines) for s, lines in samples if lines],
        "columns": list(dict.fromkeys(tables.two_way(scores, preset)["metric"])),
        "direction": tables.first_direction(preset),
        "quality": _quality(content),
    }


def _identified(content: Content) -> list[dict[str, str]]:
    """The headline in up to three numbers, for a reader who reads nothing else."""
    if content.scores.empty:
        return []
    table = tables.headline(content.scores, content.preset)
    richest = content.richest
    found = []
    n = len(table.columns) - 1
    measures = "one measure" if n == 1 else f"{n} measures"
    people = f" and {len(content.subjects)} subjects" if len(content.subjects) > 1 else ""
    said = {
        richest: (
            "identified",
            f"{richest}: comparisons in which a reconstruction was found to be its own picture’s",
        ),
        condition_name(richest, "shuffled"): (
            "shuffled brain",
            "the control, which must stay at 50",
        ),
        condition_name(richest, "true"): (
            "true features",
            "what the generator itself can reach",
        ),
    }
    for kind, (title, text) in said.items():
        if kind in table.index and np.isfinite(table.loc[kind, "mean"]):
            text = f"{text}; mean of {measures} of {content.preset}{people}, chance 50"
            found.append({"value": f"{table.loc[kind, 'mean']:.1f}", "title": title, "text": text})
    return found


def _named(content: Content) -> list[dict[str, str]]:
    """How often a judge names the right category, if it was asked."""
    if content.names.empty:
        return []
    names = content.names[(content.names["n"] > 0) & (content.names["mode"] == content.richest)]
    named = names[names["source"] == BRAIN]
    if named.empty:
        return []
    text = f"{content.richest}: reconstructions whose category a judge named right"
    text = f"{text}; chance {100 * named['chance'].mean():.1f}"
    return [{"value": f"{100 * named['accuracy'].mean():.1f}", "title": "named", "text": text}]


def _bars(content: Content, shown: pd.DataFrame) -> dict[str, str]:
    """Figure 5, twice: for wide and for narrow screens."""
    table = tables.bars(shown, content.preset)
    points = None
    if len(content.subjects) > 1:
        points = tables.bars(content.scores, content.preset)
    text = figures.describe(
        table, f"Two-way identification in percent, chance 50, preset {content.preset}."
    )
    return {
        name: figures.svg(figures.identification(table, narrow, points), f"bars-{name}", text)
        for name, narrow in (("wide", False), ("narrow", True))
    }


def _quality(content: Content) -> str:
    table = tables.quality(content.scores, content.preset, content.noise)
    if table["subject"].nunique() < 2:
        return ""
    parts = [
        f"{row.subject} {row.mode}: noise ceiling {row.ceiling:.1f} %, identification "
        f"{100 * row.value:.1f} %"
        for row in table.itertuples()
    ]
    return figures.svg(figures.ceilings(table), "ceilings", f"By subject. {'; '.join(parts)}.")


# Features


def _decoding(content: Content) -> dict[str, Any]:
    table = content.features
    drawn = []
    for subject in content.subjects if len(content.rois) else []:
        rois = _of(content.rois, subject)
        parts = [f"{row.feature} from {row.roi} {row.r:.3f}" for row in rois.itertuples()]
        text = f"Correlation of decoded with true features, {subject}. {'; '.join(parts)}."
        drawn.append((subject, figures.svg(figures.regions(rois), f"regions-{subject}", text)))
    rows = list(tables.records(table, FEATURE_COLUMNS))
    for row in rows:
        row["name"] = condition_name(str(row["feature"]), str(row["source"]))
        row["role"] = tables.role_of(str(row["feature"]), str(row["source"]))
    names = content.names[content.names["n"] > 0] if len(content.names) else content.names
    judged = names.to_dict("records")
    for row in judged:
        row["name"] = condition_name(row["mode"], row["source"])
        row["role"] = tables.role_of(row["mode"], row["source"])
    return {
        "rows": rows,
        "regions": drawn,
        "names": judged,
        "found_again": any(np.isfinite(float(str(row["accuracy"]))) for row in rows),
    }


# Audit, published numbers, what is missing


def _audit(lines: pd.DataFrame) -> dict[str, Any] | None:
    """Lines by verdict, faults first; None where no audit was made."""
    if lines.empty:
        return None
    counts = {v: int((lines["verdict"] == v).sum()) for v in VERDICTS}
    rank = lines["verdict"].map({v: k for k, v in enumerate(VERDICTS)}).fillna(0)
    ordered = lines.assign(rank=rank).sort_values(["rank", "subject"], kind="stable")
    return {"counts": {v: n for v, n in counts.items() if n}, "lines": ordered.to_dict("records")}


def _beside(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Published rows beside yours, one block per preset that has both."""
    if scores.empty:
        return []
    table = published.beside(scores)
    found = []
    for preset in dict.fromkeys(table["preset"]):
        theirs = table.loc[(table["preset"] == preset) & ~table["yours"].astype(bool), "method"]
        if len(theirs):
            wide = published.wide(table, preset)
            rows = [
                (str(method), method not in set(theirs), list(row))
                for method, row in zip(wide.index, wide.to_numpy(), strict=True)
            ]
            found.append(
                {
                    "preset": preset,
                    "columns": list(wide.columns),
                    "rows": rows,
                    "remarks": published.remarks(table, preset),
                }
            )
    return found


def _absent(table: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Reasons, each with the measures that are absent for it."""
    if table.empty:
        return []
    groups = table.groupby("reason", sort=False)["measure"]
    return [(str(reason), list(dict.fromkeys(some))) for reason, some in groups]


# Gallery


def _gallery(content: Content) -> dict[str, Any]:
    shown = content.gallery
    counts = {s: sum(one.subject == s for one in shown) for s in content.subjects}
    left_out = {s: (counts[s], n) for s, n in content.n_items.items() if counts[s] < n}
    return {
        "columns": list(shown[0].pictures) if shown else [],
        "scored": [mode for mode in content.modes if any(mode in one.scores for one in shown)],
        "categories": sorted({name for one in shown for name in one.categories}),
        "left_out": left_out,
    }
