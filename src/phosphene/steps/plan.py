"""What each command makes: its root steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phosphene.data.scans import Scans
from phosphene.encoding.models import Named
from phosphene.features.names import Feature, parsed
from phosphene.methods import BRAIN
from phosphene.pipeline.step import Step, distinct
from phosphene.steps import encode as encoding
from phosphene.steps.audit import Audit
from phosphene.steps.betas import Betas, betas_of
from phosphene.steps.conditions import features_of
from phosphene.steps.decode import Decode
from phosphene.steps.evaluate import Evaluate
from phosphene.steps.features import feature_steps
from phosphene.steps.figures import Figures
from phosphene.steps.ratings import Ratings, RatingScores, answers_are_scored
from phosphene.steps.reconstruct import Reconstruct
from phosphene.steps.reduce import reduced
from phosphene.steps.report import Report
from phosphene.steps.subject import dataset
from phosphene.study import Study


def betas(study: Study) -> list[Betas]:
    """Responses of the study's regions; none of data that are small."""
    steps = [
        betas_of(study, subject, getattr(study.decode, feature).rois)
        for subject in study.data.subjects
        for feature in features_of(study)
    ]
    return distinct([step for step in steps if step is not None])


def extract(
    study: Study, features: Sequence[str | Feature] = (), components: int = 0
) -> list[Step]:
    """The z and c that decoding predicts, or other features, whole or as principal components."""
    names = parsed(features) if features else [Feature(name) for name in features_of(study)]
    steps: list[Step] = []
    for subject in study.data.subjects:
        if components:
            steps += [reduced(study, subject, feature, components) for feature in names]
        else:
            steps += feature_steps(study, subject, names)
    return steps


def decode(study: Study) -> list[Decode]:
    """z and c predicted from the study's regions."""
    return [
        Decode(study, subject, feature)
        for subject in study.data.subjects
        for feature in features_of(study)
    ]


def reconstruct(study: Study, modes: Sequence[str] = ()) -> list[Reconstruct]:
    """Pictures from the brain, of all the study's modes or of these."""
    return [
        Reconstruct(study, subject, mode, BRAIN)
        for mode in modes or study.reconstruct.modes
        for subject in study.data.subjects
    ]


def evaluate(study: Study) -> list[Evaluate]:
    """Scores of all subjects."""
    return [Evaluate(study, subject) for subject in study.data.subjects]


def report(study: Study) -> list[Report]:
    """The report."""
    return [Report(study)]


def encode(study: Study, models: Named = ()) -> list[Step]:
    """The study's encoding models, or these, with their statistics and contrasts."""
    models = models or encoding.planned(study)
    return [
        step
        for subject in study.data.subjects
        for step in encoding.model_steps(study, subject, models)
    ]


def figures(study: Study) -> list[Figures]:
    """Figures of all subjects."""
    return [Figures(study, subject) for subject in study.data.subjects]


def audit(study: Study) -> list[Audit]:
    """The audits of all subjects."""
    return [Audit(study, subject) for subject in study.data.subjects]


def ratings(study: Study) -> list[Ratings]:
    """The trial list of the human study."""
    return [Ratings(study)]


def rating_scores(study: Study) -> list[RatingScores]:
    """The scores of the answers that were scored last; none without answers."""
    return [RatingScores(study)] if answers_are_scored(study) else []


def everything(study: Study) -> dict[str, Sequence[Step]]:
    """All that a study makes, by the command that makes it; without what its data cannot give."""
    roots: dict[str, Sequence[Step]] = {"run": report(study), "audit": audit(study)}
    data = [dataset(study, subject) for subject in study.data.subjects]
    if all(isinstance(one, Scans) for one in data):
        roots |= {"encode": encode(study), "figures": figures(study)}
    if all(one.photographs for one in data):
        roots |= {"rate make": ratings(study), "rate score": rating_scores(study)}
    return roots


# Command -> its results, in the order in which they are made by `phosphene run`
STAGES: dict[str, Callable[[Study], Sequence[Step]]] = {
    "betas": betas,
    "extract": extract,
    "decode": decode,
    "reconstruct": reconstruct,
    "evaluate": evaluate,
    "report": report,
}
