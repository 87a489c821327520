"""Audit: sanity checks on the results of a study (:mod:`phosphene.auditing`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene.auditing.conditions import Condition, compared_conditions
from phosphene.data import Dataset
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Part
from phosphene.steps.betas import betas_of, responses
from phosphene.steps.conditions import features_of, richest_mode
from phosphene.steps.decode import Decode
from phosphene.steps.evaluate import measures_key, reconstructed, score_made
from phosphene.steps.extract import Extract
from phosphene.steps.reconstruct import Reconstruct
from phosphene.steps.subject import SubjectStep, dataset, items
from phosphene.study import Compute, Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from phosphene.auditing import checks
    from phosphene.auditing.case import Case, Decoded, Decoder, Rows

COLUMNS = ["subject", "check", "found", "expected", "verdict", "sentence"]
# In the order of the table's lines: a killed audit goes on with the first one that is not done.
N_QUESTIONS = 7


@dataclass(frozen=True, eq=False)
class Audit(SubjectStep):
    """Sanity checks on the results of a subject.

    Tables: `audit` (check, found, expected, verdict "ok", "look", "fault" or "not asked",
    sentence), and where they can be made `scores` (of every kind of picture, with mode and source),
    `nearest`, `overlap`, `dimensions`, `clusters`, `leaks`.
    """

    stage: ClassVar[str] = "audit"
    sections: ClassVar[tuple[str, ...]] = ("evaluate",)

    @property
    def name(self) -> str:
        """The subject."""
        return self.subject

    def settings(self) -> dict[str, Any]:
        """Those of the scores."""
        return {**self.study.settings("evaluate"), "seed": self.study.seed}

    def conditions(self) -> list[Condition]:
        """Every kind of picture that is compared; nothing where no test photograph is known."""
        study = self.study
        if not self.data.photographs or study.decode.leave_out == "run":
            return []
        images = items(study, self.data)["image"].tolist()
        has_categories = any(self.data.categories(images))
        return compared_conditions(richest_mode(study), features_of(study), has_categories)

    def inputs(self) -> Mapping[str, Step | Key]:
        """Features, decoded features, pictures, and what they are compared with."""
        inputs: dict[str, Step | Key] = {
            "measures": measures_key(self.study),
            "images": self.key("images"),
            "categories": self.key("categories"),
            "trials": self.key("trials"),
        }
        for feature in features_of(self.study):
            inputs[f"true-{feature}"] = Extract(self.study, self.subject, feature)
            inputs[f"decoded-{feature}"] = Decode(self.study, self.subject, feature)
        for mode, source in self.conditions():
            inputs[f"pictures-{mode}-{source}"] = Reconstruct(
                self.study, self.subject, mode, source
            )
        return inputs

    def requires(self) -> Sequence[Step]:
        """The responses, which are decoded again."""
        steps = [
            betas_of(self.study, self.subject, getattr(self.study.decode, feature).rois)
            for feature in features_of(self.study)
        ]
        return [step for step in steps if step is not None]

    def check(self, compute: Compute) -> None:
        """Refuse a device that is not there."""
        from phosphene.models.diffusion.batching import own_device

        own_device(compute.device)

    def n_parts(self) -> int:
        """One for each group of questions."""
        return N_QUESTIONS

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Ask one group of questions."""
        import pandas as pd

        from phosphene.auditing import asking
        from phosphene.auditing.baselines import compared

        questions = (
            asking.leaks,
            asking.penalties,
            asking.statistics,
            asking.variety,
            asking.overlap,
            asking.held_out,
            compared,
        )
        assert len(questions) == N_QUESTIONS
        answers = questions[index](case_of(self.study, self.subject, compute))
        lines = [asdict(line) for line in answers.lines]
        part.table(f"audit/{index}", pd.DataFrame(lines, dtype=str))
        for name, table in answers.tables.items():
            part.table(name, table)


def case_of(study: Study, subject: str, compute: Compute) -> Case:
    """Take what the questions need out of a subject's results; nothing is read yet."""
    from phosphene.auditing.case import Case, Decoded, Scoring

    data = dataset(study, subject)

    def decoded(feature: str) -> Decoded:
        artefact = Decode(study, subject, feature).artefact
        return Decoded(*(artefact.array(name) for name in ("prediction", "r", "best_alphas")))

    def true(feature: str) -> checks.RowsOf:
        extracted: checks.RowsOf = Extract(study, subject, feature).artefact.array("features")
        return extracted

    return Case(
        data=data,
        read_items=partial(items, study, data),
        features=tuple(features_of(study)),
        mode=richest_mode(study),
        decoder=_decoder(study, data),
        scoring=Scoring(
            presets=study.evaluate.presets,
            n_bootstrap=study.evaluate.bootstrap,
            weights=study.weights,
            cache=study.root / "perceptual",
            device=compute.device,
            score=lambda made: score_made(study, data, made, device=compute.device).scores,
        ),
        decoded=decoded,
        true=true,
        reconstructed=partial(reconstructed, study, subject),
        seed=study.seed,
    )


def _decoder(study: Study, data: Dataset) -> Decoder:
    import numpy as np

    from phosphene.auditing.case import Decoder
    from phosphene.numerics.ridge import PAPER_ALPHAS
    from phosphene.steps import regression

    settings = study.decode
    paper = settings.preset == "paper"

    def fitted(X: Rows, targets: NDArray[np.float64]) -> checks.FitPredict:
        def fit_predict(train: NDArray[np.intp], test: NDArray[np.intp]) -> NDArray[np.float64]:
            scale = regression.scaler(study, X, train)
            model = regression.estimator(study)
            model.fit(scale(X[train]), targets[train].astype(np.float32))
            # without an intercept predictions lack the mean
            mean = 0.0 if settings.intercept else targets[train].mean(axis=0)
            return np.asarray(model.predict(scale(X[test])), np.float64) + mean

        return fit_predict

    return Decoder(
        alphas=np.array(PAPER_ALPHAS if paper else settings.alphas),
        paper=paper,
        leaves_runs_out=settings.leave_out == "run",
        zscore=study.data.zscore,
        folds=partial(regression.folds, study, data),
        responses=lambda f: responses(study, data.subject, getattr(settings, f).rois),
        fitted=fitted,
    )


def audit_table(study: Study) -> pd.DataFrame:
    """The finished audits of all subjects.

    Returns
    -------
    DataFrame
        One row per subject and question: subject, check, found, expected, verdict, sentence.
    """
    import pandas as pd

    tables = [
        Audit(study, subject).artefact.table("audit").assign(subject=subject)
        for subject in study.data.subjects
    ]
    return pd.concat(tables, ignore_index=True)[COLUMNS]
