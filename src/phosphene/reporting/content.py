"""What a report says, gathered from the artefacts of a study: tables, pictures, settings. It
computes no score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from phosphene.errors import without_warnings
from phosphene.methods import BRAIN
from phosphene.numerics import correlation
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Artefact, Store
from phosphene.reporting import encoded, people, tables
from phosphene.reporting import gallery as galleries
from phosphene.reporting.encoded import Encoded
from phosphene.reporting.gallery import Album, Shown
from phosphene.reporting.tables import headline_preset
from phosphene.steps import audit as auditing
from phosphene.steps import evaluate
from phosphene.steps import subject as sources
from phosphene.steps.conditions import conditions, features_of, richest_mode
from phosphene.steps.subject import items
from phosphene.study import Compute, Study

VERSION = 3
TABLES = ("scores", "per_image", "absent", "names", "features", "rois")


@dataclass(frozen=True)
class Content:
    """All that a page shows.

    Attributes
    ----------
    name, model : str
    preset : str
        Whose measures are the headline.
    subjects, modes : list of str
    richest : str
        The mode that uses most features, by which pictures are ranked.
    regions : dict of str to list of str
        "z" and "c": the parts of the brain that they are decoded from.
    simulated : bool
    scores, per_image, absent, names, features, rois, comparisons : DataFrame
        As the stage `evaluate` and :func:`phosphene.steps.evaluate.comparisons` give them, of all
        subjects; may be empty.
    noise : dict of str to float
        Subject -> mean noise ceiling of the decoded regions, percent of variance; only where it is
        known.
    audit : DataFrame
        Lines of the audit, empty where none was made.
    examples : dict of str to list of Shown
        Subject -> pictures of figure 3.
    shared : list of Shown
        Pictures of figure 4; empty with one subject.
    gallery : list of Shown
    n_items : dict of str to int
        Subject -> number of test pictures, shown or not.
    settings, facts : str
    encoded : list of Encoded
        Subjects that encoding models are finished of; empty where there are none.
    surface : str
        Page with the cortex that can be turned, base64 of gzip; empty where no surface is known.
    people : dict of str to DataFrame
        Tables of the human study (:mod:`phosphene.reporting.people`); empty where no answers were
        scored.
    """

    name: str
    model: str
    preset: str
    subjects: list[str]
    modes: list[str]
    richest: str
    regions: dict[str, list[str]]
    simulated: bool
    scores: pd.DataFrame
    per_image: pd.DataFrame
    absent: pd.DataFrame
    names: pd.DataFrame
    features: pd.DataFrame
    rois: pd.DataFrame
    comparisons: pd.DataFrame
    noise: dict[str, float] = field(default_factory=dict)
    audit: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: dict[str, list[Shown]] = field(default_factory=dict)
    shared: list[Shown] = field(default_factory=list)
    gallery: list[Shown] = field(default_factory=list)
    n_items: dict[str, int] = field(default_factory=dict)
    settings: str = ""
    facts: str = ""
    encoded: list[Encoded] = field(default_factory=list)
    surface: str = ""
    people: dict[str, pd.DataFrame] = field(default_factory=dict)


def report_recipe(study: Study) -> Recipe:
    """What the report is made from; audits and encoding models are part of it where they are
    finished.
    """
    inputs = {
        subject: evaluate.evaluate_recipe(study, subject).hash for subject in study.data.subjects
    }
    inputs |= {f"{subject}-audit": artefact.hash for subject, artefact in _audits(study).items()}
    inputs |= encoded.inputs(study)
    inputs |= people.inputs(study)
    shown = study.to_dict()
    del shown["data"]["root"]  # a place, neither shown nor hashed
    shown["evaluate"].pop("weights", None)
    shown["rate"] = {
        k: v for k, v in shown["rate"].items() if k not in ("database", "consent")
    }  # places, passwords
    return Recipe("report", study.name, VERSION, {"study": shown}, inputs)


def _audits(study: Study) -> dict[str, Artefact]:
    found = {
        s: Store(study.root).artefact(auditing.audit_recipe(study, s)) for s in study.data.subjects
    }
    return {subject: artefact for subject, artefact in found.items() if artefact.done}


def gather(study: Study) -> Content:
    """Read everything that the page of an evaluated study shows."""
    import tomlkit

    store = Store(study.root)
    subjects = list(study.data.subjects)
    scored = {s: store.artefact(evaluate.evaluate_recipe(study, s)) for s in subjects}
    found = {name: _table(list(scored.values()), name) for name in TABLES}
    preset = headline_preset(study.evaluate.presets, found["scores"])
    compared = evaluate.comparisons(study, Compute(progress=False))
    facts = scored[subjects[0]].manifest["facts"]
    lines = [
        artefact.table("audit").assign(subject=subject)
        for subject, artefact in _audits(study).items()
    ]
    maps = encoded.gather(study)
    content = Content(
        name=study.name,
        model=study.model.name,
        preset=preset,
        subjects=subjects,
        modes=[mode for mode, source in conditions(study) if source == BRAIN],
        richest=richest_mode(study),
        regions={f: list(getattr(study.decode, f).rois) for f in features_of(study)},
        simulated=study.data.kind == "nsd" and (study.data_root / "SIMULATED.json").exists(),
        comparisons=compared,
        noise={s: ceiling for s in subjects if (ceiling := noise_ceiling(study, s)) is not None},
        audit=pd.concat(lines, ignore_index=True) if lines else pd.DataFrame(),
        n_items={s: len(items(study, sources.dataset(study, s))) for s in subjects},
        settings=tomlkit.dumps(dict(report_recipe(study).settings["study"])),
        facts=json.dumps(
            {k: facts[k] for k in ("python", "platform", "packages", "commit") if k in facts},
            indent=1,
        ),
        encoded=maps,
        surface=encoded.spin(study, maps),
        people=people.gather(study),
        **found,
    )
    return replace(content, **_pictures(study, content))


def _table(artefacts: Sequence[Artefact], name: str) -> pd.DataFrame:
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
    data = sources.dataset(study, subject)
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


# Pictures


def _pictures(study: Study, content: Content) -> dict[str, Any]:
    scores = {s: _item_scores(content, s) for s in content.subjects}
    albums = {s: Album(study, s, scores[s]) for s in content.subjects}
    richest = {
        s: table[content.richest] if content.richest in table else None
        for s, table in scores.items()
    }
    examples = {
        s: _examples(albums[s], ranked) for s, ranked in richest.items() if ranked is not None
    }
    shared = (
        _shared(albums, richest, content.richest) if len(content.subjects) > 1 and examples else []
    )
    spent = galleries.megabytes([one for some in examples.values() for one in some] + shared)
    spent += encoded.megabytes(content.encoded, content.surface)
    budget = max(galleries.GALLERY_MB - spent, 1.0) / len(albums)
    gallery = [
        one for s, album in albums.items() for one in galleries.fill(album, richest[s], budget)
    ]
    return {"examples": examples, "shared": shared, "gallery": gallery}


def _item_scores(content: Content, subject: str) -> pd.DataFrame:
    if content.per_image.empty:
        return pd.DataFrame()
    return tables.item_scores(
        content.per_image[content.per_image["subject"] == subject], content.preset
    )


def _examples(album: Album, ranked: pd.Series) -> list[Shown]:
    return [
        one
        for group, chosen in galleries.tenths(ranked).items()
        for one in album.show(chosen, group)
    ]


def _shared(
    albums: dict[str, Album], richest: dict[str, pd.Series | None], mode: str
) -> list[Shown]:
    """Figure 4: pictures that all subjects saw, drawn from each of their brains, chosen by their
    mean score.
    """
    by_image = {
        s: pd.Series(ranked.to_numpy(), index=albums[s].images[ranked.index])
        for s, ranked in richest.items()
        if ranked is not None
    }
    together = pd.DataFrame(by_image).dropna()
    if together.empty or len(by_image) < 2:
        return []
    found = []
    for group, images in galleries.tenths(together.mean(axis=1)).items():
        for image in images:
            each = {
                s: albums[s].show([int(np.flatnonzero(albums[s].images == image)[0])])[0]
                for s in by_image
            }
            first = next(iter(each.values()))
            seen = {"seen": first.pictures["seen"]} if "seen" in first.pictures else {}
            pictures = seen | {s: one.pictures[mode] for s, one in each.items()}
            scores = {s: one.scores[mode] for s, one in each.items()}
            found.append(replace(first, pictures=pictures, scores=scores, group=group))
    return found
