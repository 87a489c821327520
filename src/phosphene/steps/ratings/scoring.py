"""Rating scores: what people saw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.pipeline.formats import parquet
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact
from phosphene.ratings import analysis, check_installed
from phosphene.ratings.server import links
from phosphene.seeds import rng
from phosphene.steps import evaluate
from phosphene.steps.ratings.recipes import (
    methods,
    rating_scores_recipe,
    snapshot,
)
from phosphene.study import Compute, Rate, Study

TABLES = (
    "exclusions",
    "accuracy",
    "compare",
    "odds",
    "consistency",
    "agreement",
    "predicts",
    "absent",
)


def score(study: Study, answers: pd.DataFrame, compute: Compute) -> Artefact:
    """Score answers; they are kept beside the trial list, so that the report finds their scores.

    Tables: `exclusions`, `accuracy`, `compare`, `odds`, `consistency`, `agreement`, `predicts`
    (:mod:`phosphene.ratings.analysis`), and `absent`: what could not be asked, and why.
    """
    check_installed(("statsmodels",))
    _keep(study, answers)
    for subject in study.data.subjects:
        evaluate.evaluate(study, subject, compute)
    recipe = rating_scores_recipe(study)
    assert recipe is not None
    return make(study, recipe, 1, partial(_score_part, study=study), Compute(progress=False))


def _keep(study: Study, answers: pd.DataFrame) -> None:
    target = snapshot(study)
    links.private(target.parent)
    aside = target.with_suffix(".tmp")
    aside.write_bytes(parquet(answers))
    disk.move(aside, target)


def _score_part(artefact: Artefact, index: int, *, study: Study) -> None:
    with artefact.part(index) as part:
        tables = scored(study, pd.read_parquet(snapshot(study)), _per_image(study))
        for name in TABLES:
            part.table(name, tables[name])


def scored(study: Study, answers: pd.DataFrame, per_image: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table of the scores; what cannot be asked of these answers is empty, and named in
    `absent`.
    """
    rate = study.rate
    answers = answers.assign(method=_ordered(answers["method"], methods(study)))
    excluded = analysis.exclusions(answers, rate.least_catch, rate.least_seconds, rate.most_fast)
    kept = analysis.kept(answers, excluded)
    n_bootstrap = study.evaluate.bootstrap
    random = partial(rng, study.seed, "ratings")
    asked: dict[str, Callable[[], pd.DataFrame]] = {
        "accuracy": lambda: analysis.accuracy(
            kept, n_bootstrap=n_bootstrap, rng=random("accuracy")
        ),
        "compare": lambda: analysis.compare(kept),
        "odds": lambda: analysis.mixed(kept),
        "agreement": lambda: analysis.agreement(
            kept, n_bootstrap=n_bootstrap, rng=random("agreement")
        ),
        "predicts": lambda: analysis.predicts(
            kept, per_image, selection=rule(rate), n_bootstrap=n_bootstrap, rng=random("predicts")
        ),
    }
    found = {"exclusions": excluded, "consistency": analysis.consistency(answers)}
    absent = []
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except PhospheneError as error:
            found[name] = pd.DataFrame()
            absent.append((name, str(error)))
    return found | {"absent": pd.DataFrame(absent, columns=["table", "reason"], dtype=str)}


def _ordered(names: pd.Series, known: list[str]) -> pd.Categorical:
    """Methods in the study's order, others after them."""
    others = sorted(set(names.astype(str)) - set(known))
    return pd.Categorical(names.astype(str), categories=[*known, *others])


def rule(rate: Rate) -> str:
    """Which of the machine's scores are of what people saw: those of the first sample, else of all
    of them.
    """
    return "single" if rate.sample == 0 else "mean"


def _per_image(study: Study) -> pd.DataFrame:
    """Scores of all measures per picture; where there is one sample, its only row goes by the name
    of :func:`rule`.
    """
    table = evaluate.all_tables(study, "per_image", Compute(progress=False))
    if table.empty:
        return pd.DataFrame(
            columns=[
                "preset",
                "metric",
                "direction",
                "selection",
                "value",
                "image",
                "subject",
                "mode",
            ]
        )
    rules = table.groupby(["subject", "mode", "source", "preset"])["selection"].transform("nunique")
    return table.assign(selection=table["selection"].where(rules > 1, rule(study.rate)))
