"""One self-contained HTML page of what a study found. It only reads artefacts."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from phosphene import evaluation, sources, stages
from phosphene.decoding import items
from phosphene.store import Artefact, Recipe, Store
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 2
SHOWN = 48  # pictures of a subject in the gallery, evenly spread from the best to the worst
# Okabe & Ito's colours, which colour-blind readers can tell apart
COLOURS = {"z": "#0072B2", "c": "#E69F00", "zc": "#009E73", "shuffled": "#999999", "true": "#CC79A7"}


@dataclass(frozen=True)
class Row:
    """One test picture of the gallery: what was seen, then one reconstruction per mode, as data URLs."""

    image: int
    score: float | None
    pictures: list[str]
    caption: str


def report_recipe(study: Study) -> Recipe:
    """What the report is made from."""
    inputs = {subject: evaluation.evaluate_recipe(study, subject).hash for subject in study.data.subjects}
    shown = study.to_dict()
    del shown["data"]["root"]  # a place, neither shown nor hashed
    return Recipe("report", study.name, VERSION, {"study": shown}, inputs)


def report(study: Study, compute: Compute) -> Path:
    """Make the report of a study, pulling what is missing; returns the path of ``report.html``."""
    for subject in study.data.subjects:
        evaluation.evaluate(study, subject, compute)

    def work(artefact: Artefact, index: int) -> None:
        with artefact.part(index) as part:
            part.file("report.html", page(study).encode())

    serial = Compute(progress=False)
    return stages.make(study, report_recipe(study), 1, work, serial).file("report.html")


def page(study: Study) -> str:
    """Render the page of a study whose subjects have all been evaluated."""
    import tomlkit
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("phosphene"), autoescape=True, undefined=StrictUndefined)
    scored = [
        (subject, Store(study.root).artefact(evaluation.evaluate_recipe(study, subject)))
        for subject in study.data.subjects
    ]
    facts = scored[0][1].manifest["facts"]
    simulated = study.data.kind == "nsd" and (study.data_root / "SIMULATED.json").exists()
    return environment.get_template("report.html").render(
        study=study,
        simulated=simulated,
        features=evaluation.features_of(study),
        subjects=[_section(study, subject, artefact) for subject, artefact in scored],
        settings=tomlkit.dumps(dict(report_recipe(study).settings["study"])),
        preset=study.evaluate.directions[0],
        facts=json.dumps({k: facts[k] for k in ("python", "platform", "packages", "commit") if k in facts}, indent=1),
    )


def headline(scores: pd.DataFrame, preset: str) -> pd.DataFrame:
    """Identification accuracy in percent: one row per kind of reconstruction, one column per space, and their mean."""
    rows = scores[scores["preset"] == preset].copy()
    rows["kind"] = [evaluation.condition_name(m, s) for m, s in zip(rows["mode"], rows["source"], strict=True)]
    table = 100 * rows.pivot_table(index="kind", columns="space", values="accuracy", sort=False)
    return table.assign(mean=table.mean(axis=1))


def _section(study: Study, subject: str, artefact: Artefact) -> dict[str, Any]:
    """Everything the page shows about one subject."""
    data = sources.dataset(study, subject)
    has_scores = (artefact.path / "scores").is_dir()
    scores = artefact.table("scores") if has_scores else None
    rois, names = artefact.table("rois"), artefact.table("names")
    names["kind"] = [evaluation.condition_name(m, s) for m, s in zip(names["mode"], names["source"], strict=True)]
    return {
        "subject": subject,
        "headline": headline(scores, study.evaluate.directions[0]).round(1) if scores is not None else None,
        "scores": scores.round(4).to_dict("records") if scores is not None else [],
        "names": names[names["n"] > 0].to_dict("records"),
        "bars": _svg(_bars(scores, study.evaluate.directions[0])) if scores is not None else "",
        "rois": _svg(_roi_bars(rois)),
        "columns": [*(["seen"] if data.photographs else []), *study.reconstruct.modes],
        "gallery": _gallery(study, subject, artefact if has_scores else None),
    }


def _gallery(study: Study, subject: str, scored: Artefact | None) -> list[Row]:
    """Test pictures from the best to the worst reconstructed, by the richest mode's mean accuracy over spaces."""
    data = sources.dataset(study, subject)
    wanted = items(study, data)
    score, order = None, np.arange(len(wanted))
    if scored is not None:
        table = scored.table("per_image")
        richest = evaluation.richest_mode(study)
        chosen = table[
            (table["mode"] == richest)
            & (table["source"] == stages.BRAIN)
            & (table["preset"] == study.evaluate.directions[0])
        ]
        score = chosen.groupby("item")["accuracy"].mean().sort_index().to_numpy()
        order = np.argsort(-score, kind="stable")
    spread = np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))
    shown = order[:SHOWN] if score is None else order[spread]
    artefacts = [
        Store(study.root).artefact(stages.reconstruct_recipe(study, subject, m)) for m in study.reconstruct.modes
    ]
    made = [stages.pictures(artefact, shown.tolist(), samples=1)[:, 0] for artefact in artefacts]
    images = wanted["image"].to_numpy()[shown].tolist()
    seen = data.images(images) if data.photographs else None
    captions = data.captions(images) if "c" in evaluation.features_of(study) else [[""]] * len(images)
    return [
        Row(
            image=int(wanted["image"].iloc[item]),
            score=None if score is None else float(score[item]),
            pictures=[_url(p) for p in ([] if seen is None else [seen[k]]) + [m[k] for m in made]],
            caption=captions[k][0],
        )
        for k, item in enumerate(shown)
    ]


def _url(picture: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "phosphene", "svg.fonttype": "none"}):  # the same figure gives the same bytes
        figure.savefig(
            stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), bbox_inches="tight"
        )
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _bars(scores: pd.DataFrame, preset: str) -> Figure:
    """Identification accuracy per space and kind of reconstruction, with intervals and the chance line."""
    rows = scores[scores["preset"] == preset]
    spaces = list(dict.fromkeys(rows["space"]))
    kinds = list(dict.fromkeys(zip(rows["mode"], rows["source"], strict=True)))
    figure, axes = _axes(9, 3.6)
    width = 0.8 / len(kinds)
    for k, (mode, source) in enumerate(kinds):
        some = rows[(rows["mode"] == mode) & (rows["source"] == source)].set_index("space").loc[spaces]
        x = np.arange(len(spaces)) + (k - (len(kinds) - 1) / 2) * width
        colour = COLOURS[mode if source == stages.BRAIN else source]
        axes.bar(x, 100 * some["accuracy"], 0.9 * width, color=colour, label=evaluation.condition_name(mode, source))
        axes.vlines(x, 100 * some["ci_low"], 100 * some["ci_high"], color="#333", lw=1.2)
    axes.axhline(50, color="#333", lw=1, ls=(0, (4, 3)))
    axes.text(len(spaces) - 0.45, 50.6, "chance", fontsize=9, color="#333", ha="left")
    axes.set_xticks(range(len(spaces)), spaces)
    axes.set_ylim(min(40, 100 * rows["ci_low"].min() - 2), 101)
    axes.set_ylabel("two-way identification, %")
    axes.legend(frameon=False, ncol=len(kinds), loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return figure


def _roi_bars(rois: pd.DataFrame) -> Figure:
    """How well each part of the brain predicts z and c: mean correlation, quartiles over features as lines."""
    features, names = list(dict.fromkeys(rois["feature"])), list(dict.fromkeys(rois["roi"]))
    figure, axes = _axes(9, 2.9)
    width = 0.8 / len(features)
    for k, feature in enumerate(features):
        some = rois[rois["feature"] == feature].set_index("roi").loc[names]
        x = np.arange(len(names)) + (k - (len(features) - 1) / 2) * width
        axes.bar(x, some["r"], 0.9 * width, color=COLOURS[feature], label=f"{feature} from this region")
        axes.vlines(x, some["q25"], some["q75"], color="#333", lw=1.2)
    voxels = rois.drop_duplicates("roi").set_index("roi")["n_voxels"]
    axes.set_xticks(range(len(names)), [f"{name}\n{voxels[name]} voxels" for name in names], fontsize=9)
    axes.axhline(0, color="#333", lw=0.8)
    axes.set_ylabel("correlation, test items")
    axes.legend(frameon=False, ncol=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    return figure
