"""Report: everything that a study found, in one HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from phosphene import disk, maps
from phosphene.data.scans import Scans
from phosphene.encoding.models import Named
from phosphene.errors import without_warnings
from phosphene.methods import BRAIN
from phosphene.numerics import correlation
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.reporting import encoded, people
from phosphene.reporting.content import Content, item_scores, with_pictures
from phosphene.reporting.encoded import Encoded
from phosphene.reporting.gallery import Album
from phosphene.reporting.page import render
from phosphene.reporting.tables import headline_preset
from phosphene.steps import encode
from phosphene.steps.audit import audit_recipe
from phosphene.steps.conditions import conditions, features_of, richest_mode
from phosphene.steps.encode.statistics import statistics_recipe
from phosphene.steps.evaluate import comparisons, evaluate, evaluate_recipe, reconstructed
from phosphene.steps.figures import tables_of
from phosphene.steps.ratings.recipes import rating_scores_recipe
from phosphene.steps.subject import dataset, items
from phosphene.study import Compute, Study

TABLES = ("scores", "per_image", "absent", "names", "features", "rois")
VERSION = 3


def report_recipe(study: Study) -> Recipe:
    """What the report is made from; audits and encoding models are part of it where they are
    finished.
    """
    inputs = {subject: evaluate_recipe(study, subject).hash for subject in study.data.subjects}
    inputs |= {f"{subject}-audit": artefact.hash for subject, artefact in _audits(study).items()}
    inputs |= _encoded_inputs(study)
    inputs |= _people_inputs(study)
    shown = study.to_dict()
    del shown["data"]["root"]  # a place, neither shown nor hashed
    shown["evaluate"].pop("weights", None)
    # places, passwords
    shown["rate"] = {k: v for k, v in shown["rate"].items() if k not in ("database", "consent")}
    return Recipe("report", study.name, VERSION, {"study": shown}, inputs)


def report(study: Study, compute: Compute) -> Path:
    """Make the report of a study, pulling what is missing; returns the path of ``report.html``."""
    for subject in study.data.subjects:
        evaluate(study, subject, compute)

    def work(artefact: Artefact, index: int) -> None:
        with artefact.part(index) as part:
            part.file("report.html", page(study).encode())

    serial = Compute(progress=False)
    return make(study, report_recipe(study), 1, work, serial).file("report.html")


def page(study: Study) -> str:
    """Render the page of a study whose subjects have all been evaluated."""
    return render(gather(study))


def gather(study: Study) -> Content:
    """Read everything that the page of an evaluated study shows."""
    import tomlkit

    store = Store(study.root)
    subjects = list(study.data.subjects)
    data = {s: dataset(study, s) for s in subjects}
    scored = {s: store.artefact(evaluate_recipe(study, s)) for s in subjects}
    found = {name: _of_all(list(scored.values()), name) for name in TABLES}
    facts = scored[subjects[0]].manifest["facts"]
    audits = [
        artefact.table("audit").assign(subject=subject)
        for subject, artefact in _audits(study).items()
    ]
    drawn = _encoded(study)
    content = Content(
        name=study.name,
        model=study.model.name,
        preset=headline_preset(study.evaluate.presets, found["scores"]),
        subjects=subjects,
        modes=[mode for mode, source in conditions(study) if source == BRAIN],
        richest=richest_mode(study),
        regions={f: list(getattr(study.decode, f).rois) for f in features_of(study)},
        simulated=study.data.kind == "nsd" and (study.data_root / "SIMULATED.json").exists(),
        comparisons=comparisons(study, Compute(progress=False)),
        noise={s: ceiling for s in subjects if (ceiling := noise_ceiling(study, s)) is not None},
        audit=pd.concat(audits, ignore_index=True) if audits else pd.DataFrame(),
        n_items={s: len(items(study, data[s])) for s in subjects},
        settings=tomlkit.dumps(dict(report_recipe(study).settings["study"])),
        facts=json.dumps(
            {k: facts[k] for k in ("python", "platform", "packages", "commit") if k in facts},
            indent=1,
        ),
        encoded=drawn,
        surface=encoded.spin(study.name, drawn, data),
        people=_people(study),
        **found,
    )
    return with_pictures(content, {s: _album(study, s, content) for s in subjects})


def _album(study: Study, subject: str, content: Content) -> Album:
    data = dataset(study, subject)
    return Album(
        data,
        items(study, data)["image"].to_numpy(),
        {mode: reconstructed(study, subject, mode)[0] for mode in content.modes},
        item_scores(content, subject),
        worded="c" in features_of(study),
    )


def _audits(study: Study) -> dict[str, Artefact]:
    found = {s: Store(study.root).artefact(audit_recipe(study, s)) for s in study.data.subjects}
    return {subject: artefact for subject, artefact in found.items() if artefact.done}


def _of_all(artefacts: Sequence[Artefact], name: str) -> pd.DataFrame:
    """One table of all subjects, empty where nobody has it."""
    some = [
        a.table(name)
        for a in artefacts
        if (a.path / name).is_dir() or (a.path / f"{name}.parquet").exists()
    ]
    return pd.concat(some, ignore_index=True) if some else pd.DataFrame()


def noise_ceiling(study: Study, subject: str) -> float | None:
    """Mean noise ceiling, in percent of variance, of the voxels that a subject is decoded from;
    None if not known.
    """
    data = dataset(study, subject)
    rois = list(dict.fromkeys(r for f in features_of(study) for r in getattr(study.decode, f).rois))
    with without_warnings():
        voxels = data.voxels(rois)
    if (
        study.decode.leave_out == "run"
        or "ncsnr" not in voxels
        or not np.isfinite(voxels["ncsnr"]).any()
    ):
        return None
    repeats = items(study, data)["n_trials"]
    return float(
        np.nanmean(correlation.noise_ceiling(voxels["ncsnr"].to_numpy(np.float64), repeats))
    )


# Encoding models


def _planned(study: Study) -> dict[str, tuple[Named, Named]]:
    """Subject -> the study's encoding models and those of them that are finished; only subjects
    that have any.
    """
    if not (Path(study.root) / "encode").is_dir():
        return {}
    models = encode.planned(study)
    done = {subject: encode.finished(study, subject, models) for subject in study.data.subjects}
    return {subject: (models, some) for subject, some in done.items() if some}


def _encoded_inputs(study: Study) -> dict[str, str]:
    """What the page is made from: finished models and statistics, by name -> hash; files that lead
    to the surface.
    """
    found = {}
    for subject, (_, done) in _planned(study).items():
        if done and (transforms := _transforms(study, subject)) is not None:
            found[f"{subject}-transforms"] = disk.fingerprint(
                "transforms", transforms, transforms.glob("*.mgz")
            )
        for _, model in done:
            found[f"{subject}-encode-{model}"] = encode.encode_recipe(study, subject, model).hash
            numbers = Store(study.root).artefact(statistics_recipe(study, subject, model))
            if numbers.done:
                found[f"{subject}-statistics-{model}"] = numbers.hash
    return found


def _transforms(study: Study, subject: str) -> Path | None:
    """Folder of the files that lead from the scans to the cortical surface, which is drawn."""
    data = dataset(study, subject)
    return maps.transforms_of(data) if isinstance(data, Scans) else None


def _encoded(study: Study) -> list[Encoded]:
    """Read and draw every encoding model that is finished."""
    drawn = []
    for k, (subject, (models, done)) in enumerate(_planned(study).items()):
        tables = {
            analysis: tables_of(study, subject, [m for name, m in done if name == analysis])
            for analysis in dict.fromkeys(name for name, _ in done)
        }
        regions = encode.regions(study, subject, done)
        size = 1.0 if k == 0 else encoded.SMALLER
        data = dataset(study, subject)
        drawn.append(encoded.of_subject(subject, data, (models, done), tables, regions, size))
    return drawn


# The human study


def _people_inputs(study: Study) -> dict[str, str]:
    """What the report owes to the human study: nothing, or the hash of its scores."""
    found = _scores(study)
    return {"people": found.hash} if found else {}


def _people(study: Study) -> dict[str, pd.DataFrame]:
    """Read the tables of the human study; empty where no answers were scored."""
    found = _scores(study)
    return {name: found.table(name) for name in people.TABLES} if found else {}


def _scores(study: Study) -> Artefact | None:
    recipe = rating_scores_recipe(study)
    artefact = Store(study.root).artefact(recipe) if recipe else None
    return artefact if artefact is not None and artefact.done else None
