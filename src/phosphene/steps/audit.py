"""Audit: sanity checks on the results of a study (:mod:`phosphene.auditing`)."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.auditing import asking, checks
from phosphene.auditing.baselines import compared, conditions
from phosphene.auditing.case import Case, Decoded, Decoder, Rows, Scoring
from phosphene.data import Dataset
from phosphene.numerics.ridge import PAPER_ALPHAS
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.steps import regression
from phosphene.steps.betas import betas, responses
from phosphene.steps.conditions import features_of, richest_mode
from phosphene.steps.decode import decode, decode_recipe
from phosphene.steps.evaluate import measures_stamp, reconstructed, score_made
from phosphene.steps.extract import extract_recipe
from phosphene.steps.reconstruct import reconstruct, reconstruct_recipe
from phosphene.steps.subject import data_fingerprint, dataset, items
from phosphene.study import Compute, Study

VERSION = 1
COLUMNS = ["subject", "check", "found", "expected", "verdict", "sentence"]
# Parts, in the order of the table's lines: a killed audit goes on with the first one that is not
# done.
QUESTIONS = (
    asking.leaks,
    asking.penalties,
    asking.statistics,
    asking.variety,
    asking.overlap,
    asking.held_out,
    compared,
)


def case_of(study: Study, subject: str, compute: Compute) -> Case:
    """Take what the questions need out of a subject's results; nothing is read yet."""
    data = dataset(study, subject)
    store = Store(study.root)

    def decoded(feature: str) -> Decoded:
        artefact = store.artefact(decode_recipe(study, subject, feature))
        return Decoded(*(artefact.array(name) for name in ("prediction", "r", "best_alphas")))

    def true(feature: str) -> checks.RowsOf:
        extracted: checks.RowsOf = store.artefact(extract_recipe(study, subject, feature)).array(
            "features"
        )
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


def audit_recipe(study: Study, subject: str) -> Recipe:
    """What the audit of a subject is made from."""
    case = case_of(study, subject, Compute())
    inputs = {"data": data_fingerprint(study, subject), "measures": measures_stamp(study)}
    for feature in case.features:
        inputs[feature] = extract_recipe(study, subject, feature).hash
        inputs[f"{feature}-decoded"] = decode_recipe(study, subject, feature).hash
    for mode, source in conditions(case):
        inputs[f"{mode}-{source}"] = reconstruct_recipe(study, subject, mode, source).hash
    settings = study.settings("evaluate") | {"seed": study.seed}
    return Recipe("audit", subject, VERSION, settings, inputs)


def audit(study: Study, subject: str, compute: Compute) -> Artefact:
    """Audit one subject, pulling what is missing (the baselines' pictures).

    Tables: `audit` (check, found, expected, verdict "ok", "look", "fault" or "not asked",
    sentence), and where they can be made `scores` (of every kind of picture, with mode and source),
    `nearest`, `overlap`, `dimensions`, `clusters`, `leaks`.
    """
    case = case_of(study, subject, compute)
    for feature in case.features:
        decode(study, subject, feature, compute)
        # the clusters are decoded from them
        betas(study, subject, getattr(study.decode, feature).rois, compute)
    for mode, source in conditions(case):
        reconstruct(study, subject, mode, compute, source)
    work = partial(_audit_part, study=study, subject=subject, compute=compute)
    return make(study, audit_recipe(study, subject), len(QUESTIONS), work, compute)


def _audit_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, compute: Compute
) -> None:
    with artefact.part(index) as part:
        found = QUESTIONS[index](case_of(study, subject, compute))
        lines = [asdict(line) for line in found.lines]
        part.table(f"audit/{index}", pd.DataFrame(lines, dtype=str))
        for name, table in found.tables.items():
            part.table(name, table)


def audit_table(study: Study, compute: Compute) -> pd.DataFrame:
    """Audit all subjects.

    Returns
    -------
    DataFrame
        One row per subject and question: subject, check, found, expected, verdict, sentence.
    """
    tables = [
        audit(study, subject, compute).table("audit").assign(subject=subject)
        for subject in study.data.subjects
    ]
    return pd.concat(tables, ignore_index=True)[COLUMNS]
