"""Report: everything that a study found, in one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.data.scans import Scans
from phosphene.encoding.models import Named
from phosphene.errors import without_warnings
from phosphene.methods import BRAIN
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Artefact, Part
from phosphene.steps import encode
from phosphene.steps.audit import Audit
from phosphene.steps.conditions import conditions, features_of, richest_mode
from phosphene.steps.encode.models import Encode
from phosphene.steps.encode.statistics import Statistics
from phosphene.steps.evaluate import Evaluate, comparisons, reconstructed
from phosphene.steps.figures import drawing_keys, tables_of
from phosphene.steps.ratings.scoring import RatingScores, answers_are_scored
from phosphene.steps.reconstruct import Reconstruct
from phosphene.steps.subject import data_key, dataset, items
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.reporting.content import Content
    from phosphene.reporting.encoded import Encoded
    from phosphene.reporting.gallery import Album

TABLES = ("scores", "per_image", "absent", "names", "features", "rois")
PEOPLE = "people"


@dataclass(frozen=True, eq=False)
class Report(Step):
    """Everything that a study found, in one HTML page: file ``report.html``.

    Audits, encoding models and the scores of the human study are part of it where they are
    finished.
    """

    stage: ClassVar[str] = "report"
    version: ClassVar[int] = 4

    @property
    def name(self) -> str:
        """The study."""
        return self.study.name

    def settings(self) -> dict[str, Any]:
        """All settings, which the page shows."""
        shown = self.study.to_dict()
        # a place, neither shown nor hashed
        del shown["data"]["root"]
        shown["model"]["name"] = self.model_name
        shown["evaluate"].pop("weights", None)
        # places, passwords
        shown["rate"] = {k: v for k, v in shown["rate"].items() if k not in ("database", "consent")}
        return {"study": shown}

    @property
    def model_name(self) -> str:
        """The model's name; of a folder or file the last part, since a page may be given away."""
        name = self.study.model.name
        is_path = Path(name).is_absolute() or name.startswith((".", "~"))
        return Path(name).name if is_path else name

    def inputs(self) -> Mapping[str, Step | Key]:
        """Scores of all subjects, and what pictures and brain maps are drawn with."""
        study = self.study
        inputs: dict[str, Step | Key] = {}
        for subject in study.data.subjects:
            inputs[subject] = Evaluate(study, subject)
            for part in ("captions", "ncsnr"):
                inputs[f"{subject}-{part}"] = data_key(study, subject, part)
            if self.fitted(subject):
                keys = drawing_keys(study, subject)
                inputs |= {f"{subject}-{name}": key for name, key in keys.items()}
        return inputs

    def requires(self) -> Sequence[Step]:
        """The pictures that the page shows."""
        return [
            Reconstruct(self.study, subject, mode)
            for subject in self.study.data.subjects
            for mode in self.study.reconstruct.modes
        ]

    def optional(self) -> Mapping[str, Step]:
        """Audits, encoding models and their statistics, and what people saw."""
        study = self.study
        steps: dict[str, Step] = {f"{s}-audit": Audit(study, s) for s in study.data.subjects}
        for subject in study.data.subjects:
            for _, model in self.models(subject):
                steps[f"{subject}-encode-{model}"] = Encode(study, subject, model)
                steps[f"{subject}-statistics-{model}"] = Statistics(study, subject, model)
        return steps | ({PEOPLE: RatingScores(study)} if answers_are_scored(study) else {})

    def models(self, subject: str) -> Named:
        """The study's encoding models; none of data that are no scans."""
        is_scan = isinstance(dataset(self.study, subject), Scans)
        return self._planned if is_scan else []

    @cached_property
    def _planned(self) -> Named:
        return encode.planned(self.study)

    def fitted(self, subject: str) -> Named:
        """The encoding models that are finished."""
        options = self.finished_options
        return [
            (analysis, model)
            for analysis, model in self.models(subject)
            if f"{subject}-encode-{model}" in options
        ]

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Write the page."""
        from phosphene.reporting.page import render

        part.file("report.html", render(gather(self)).encode())


def gather(step: Report) -> Content:
    """Read everything that the page of an evaluated study shows."""
    import tomlkit

    from phosphene.reporting import encoded
    from phosphene.reporting.content import Content, with_pictures
    from phosphene.reporting.tables import headline_preset

    study = step.study
    subjects = list(study.data.subjects)
    data = {s: dataset(study, s) for s in subjects}
    scored = [Evaluate(study, s).artefact for s in subjects]
    tables = {name: _of_all(scored, name) for name in TABLES}
    facts = scored[0].manifest["facts"]
    drawn = _encoded(step)
    content = Content(
        name=study.name,
        model=step.model_name,
        preset=headline_preset(study.evaluate.presets, tables["scores"]),
        subjects=subjects,
        modes=[mode for mode, source in conditions(study) if source == BRAIN],
        richest=richest_mode(study),
        regions={f: list(getattr(study.decode, f).rois) for f in features_of(study)},
        simulated=study.data.kind == "nsd" and (study.data_root / "SIMULATED.json").exists(),
        comparisons=comparisons(study),
        noise={s: ceiling for s in subjects if (ceiling := noise_ceiling(study, s)) is not None},
        audit=_audits(step),
        n_items={s: len(items(study, data[s])) for s in subjects},
        settings=tomlkit.dumps(step.settings()["study"]),
        facts=json.dumps(
            {k: facts[k] for k in ("python", "platform", "packages", "commit") if k in facts},
            indent=1,
        ),
        encoded=drawn,
        surface=encoded.spin(study.name, drawn, data),
        people=_people(step),
        **tables,
    )
    return with_pictures(content, {s: _album(study, s, content) for s in subjects})


def _album(study: Study, subject: str, content: Content) -> Album:
    from phosphene.reporting.content import item_scores
    from phosphene.reporting.gallery import Album

    data = dataset(study, subject)
    return Album(
        data,
        items(study, data)["image"].to_numpy(),
        {mode: reconstructed(study, subject, mode)[0] for mode in content.modes},
        item_scores(content, subject),
        worded="c" in features_of(study),
    )


def _audits(step: Report) -> pd.DataFrame:
    import pandas as pd

    audits = [
        audit.artefact.table("audit").assign(subject=audit.subject)
        for audit in step.finished_options.values()
        if isinstance(audit, Audit)
    ]
    return pd.concat(audits, ignore_index=True) if audits else pd.DataFrame()


def _of_all(artefacts: Sequence[Artefact], name: str) -> pd.DataFrame:
    """One table of all subjects, empty where nobody has it."""
    import pandas as pd

    tables = [
        a.table(name)
        for a in artefacts
        if (a.path / name).is_dir() or (a.path / f"{name}.parquet").exists()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def noise_ceiling(study: Study, subject: str) -> float | None:
    """Mean noise ceiling, in percent of variance, of the voxels that a subject is decoded from;
    None if not known.
    """
    import numpy as np

    from phosphene.numerics import correlation

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


def _encoded(step: Report) -> list[Encoded]:
    """Read and draw every encoding model that is finished."""
    from phosphene.reporting import encoded

    study = step.study
    drawn: list[Encoded] = []
    for subject in study.data.subjects:
        fitted = step.fitted(subject)
        if not fitted:
            continue
        tables = {
            analysis: tables_of(study, subject, [m for name, m in fitted if name == analysis])
            for analysis in dict.fromkeys(name for name, _ in fitted)
        }
        regions = encode.regions(study, subject, fitted)
        size = encoded.SMALLER if drawn else 1.0
        models = (step.models(subject), fitted)
        data = dataset(study, subject)
        drawn.append(encoded.of_subject(subject, data, models, tables, regions, size))
    return drawn


def _people(step: Report) -> dict[str, pd.DataFrame]:
    """Read the tables of the human study; empty where no answers were scored."""
    from phosphene.reporting import people

    scores = step.finished_options.get(PEOPLE)
    return {} if scores is None else {name: scores.artefact.table(name) for name in people.TABLES}
