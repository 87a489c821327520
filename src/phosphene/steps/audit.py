"""The stage that doubts: what a sceptical reader would ask of a study, each answer one line with a
plain verdict.

``judging`` numbers in, verdict and sentence out; every threshold with its reason · ``asking`` the
numbers out of a study's artefacts · ``baselines`` pictures that needed no brain. The arithmetic is
in :mod:`phosphene.auditing.checks`, every line is explained in docs/audit.md.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import pandas as pd

from phosphene.auditing import asking
from phosphene.auditing.asking import Case
from phosphene.auditing.baselines import compared, conditions
from phosphene.auditing.verdicts import FAULT, LOOK, NOT_ASKED, OK, Line, Verdict
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Recipe
from phosphene.steps.betas import betas
from phosphene.steps.decode import decode, decode_recipe
from phosphene.steps.evaluate import measures_stamp
from phosphene.steps.extract import extract_recipe
from phosphene.steps.reconstruct import reconstruct, reconstruct_recipe
from phosphene.steps.subject import data_fingerprint
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

__all__ = [
    "COLUMNS",
    "FAULT",
    "LOOK",
    "NOT_ASKED",
    "OK",
    "Line",
    "Verdict",
    "audit",
    "audit_recipe",
    "audit_table",
]


def audit_recipe(study: Study, subject: str) -> Recipe:
    """What the audit of a subject is made from."""
    case = Case(study, subject, Compute())
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
    case = Case(study, subject, compute)
    for feature in case.features:
        decode(study, subject, feature, compute)
        betas(
            study, subject, getattr(study.decode, feature).rois, compute
        )  # the clusters are decoded from them
    for mode, source in conditions(case):
        reconstruct(study, subject, mode, compute, source)
    work = partial(_audit_part, study=study, subject=subject, compute=compute)
    return make(study, audit_recipe(study, subject), len(QUESTIONS), work, compute)


def _audit_part(
    artefact: Artefact, index: int, *, study: Study, subject: str, compute: Compute
) -> None:
    with artefact.part(index) as part:
        found = QUESTIONS[index](Case(study, subject, compute))
        part.table(
            f"audit/{index}", pd.DataFrame([asdict(line) for line in found.lines], dtype=str)
        )
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
