"""The stages as a user calls them: one line each, all subjects of a study at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from phosphene.errors import PhospheneError
from phosphene.methods import MODE_FEATURES
from phosphene.pipeline.store import Artefact
from phosphene.steps import evaluate as evaluation
from phosphene.steps.betas import betas as betas_step
from phosphene.steps.conditions import features_of
from phosphene.steps.decode import decode as decode_step
from phosphene.steps.encode import analyse, maps, permuted_p
from phosphene.steps.extract import extract as extract_step
from phosphene.steps.reconstruct import reconstruct as reconstruct_step
from phosphene.steps.reduce import reduced
from phosphene.study import Compute, Study


def betas(study: Study, compute: Compute | None = None) -> list[Artefact]:
    """Take the responses of the study's regions out of the scans; one artefact per subject and set
    of regions.

    Arrays `betas/session01`, ... (n_trials, n_voxels) as stored, table `voxels`. Data that are
    small are read where they are used and give no artefact.
    """
    found = [
        betas_step(study, subject, getattr(study.decode, feature).rois, compute or Compute())
        for subject in study.data.subjects
        for feature in features_of(study)
    ]
    return [artefact for artefact in found if artefact is not None]


def extract(
    study: Study, compute: Compute | None = None, features: Sequence[str] = (), components: int = 0
) -> list[Artefact]:
    """Compute features of every picture that was seen; one artefact per subject and feature.

    Parameters
    ----------
    study : Study
    compute : Compute, optional
    features : sequence of str
        Names as :mod:`phosphene.features.names` reads them, such as "zc@0.5" or
        "unet/mid@0.8/step=20"; by default the z and c that decoding predicts.
    components : int
        Cut them to that many principal components, fitted on the training pictures; 0 leaves them
        as they are.
    """
    if not features:
        return [
            extract_step(study, subject, feature, compute or Compute())
            for subject in study.data.subjects
            for feature in features_of(study)
        ]
    from phosphene.steps import features as named

    found = []
    for subject in study.data.subjects:
        if components:
            found += reduced(study, subject, features, compute or Compute(), components)
        else:
            found += named.features(study, subject, features, compute or Compute())
    return found


def decode(study: Study, compute: Compute | None = None) -> list[Artefact]:
    """Predict z and c from brain activity; one artefact per subject and feature."""
    return [
        decode_step(study, subject, feature, compute or Compute())
        for subject in study.data.subjects
        for feature in features_of(study)
    ]


def reconstruct(study: Study, mode: str = "zc", compute: Compute | None = None) -> list[Artefact]:
    """Make pictures from decoded features, pulling what is missing; one artefact per subject.

    Parameters
    ----------
    study : Study
    mode : {"z", "c", "zc"}
        Which features the pictures are made from (paper, section C).
    compute : Compute, optional
        How to compute; never changes a result.
    """
    if mode not in MODE_FEATURES:
        raise PhospheneError(f"mode: found {mode!r}, expected one of {', '.join(MODE_FEATURES)}.")
    return [
        reconstruct_step(study, subject, mode, compute or Compute())
        for subject in study.data.subjects
    ]


def evaluate(study: Study, compute: Compute | None = None) -> pd.DataFrame:
    """Score the reconstructions of all subjects by two-way identification.

    Returns
    -------
    DataFrame
        One row per subject, mode, source ("brain", or a baseline: "shuffled", "true"), space,
        preset, direction and selection (which of the samples counts): accuracy from 0 to 1, ci_low,
        ci_high (bootstrap over images), p (permuted pairing), n, samples. :func:`measures` has the
        other measures too.
    """
    columns = [
        "subject",
        "mode",
        "source",
        "space",
        "preset",
        "direction",
        "selection",
        "accuracy",
        "ci_low",
        "ci_high",
        "p",
        "n",
        "samples",
    ]
    found = measures(study, compute)
    if found.empty:
        return pd.DataFrame(columns=columns)
    two_way = found[found["kind"] == "two-way"].drop(columns="space")
    return two_way.rename(columns={"value": "accuracy", "metric": "space"})[columns].reset_index(
        drop=True
    )


def measures(study: Study, compute: Compute | None = None) -> pd.DataFrame:
    """Score the reconstructions of all subjects by every measure of the study's presets
    (docs/scoring.md).

    Returns
    -------
    DataFrame
        One row per subject, mode, source, preset, metric, direction and selection: value, ci_low,
        ci_high (bootstrap over images), p, chance, better ("higher" or "lower"), n, samples.
    """
    return evaluation.all_tables(study, "scores", compute or Compute())


def comparisons(study: Study, compute: Compute | None = None) -> pd.DataFrame:
    """Compare the study's modes on the same images: paired bootstrap, signed-rank, corrected (Holm,
    FDR).
    """
    return evaluation.comparisons(study, compute or Compute())


def score(recons: Any, originals: Any, preset: str = "all", **options: Any) -> pd.DataFrame:
    """Score anyone's pictures, without a study.

    Parameters
    ----------
    recons, originals : path or ndarray of uint8, shape (n, height, width, 3)
        A folder of pictures, a ``.pt`` file of a tensor, or the pictures themselves.
    preset : str
        "all", or names of presets separated by commas (docs/scoring.md).
    **options
        As :func:`phosphene.metrics.score.score_sets` takes them.

    Returns
    -------
    DataFrame
        As :func:`measures`, without subject, mode and source.
    """
    from phosphene.metrics.score import score_sets

    return score_sets(recons, originals, preset, **options).scores


def audit(study: Study, compute: Compute | None = None) -> pd.DataFrame:
    """Ask of a study's results what a sceptical reader would: baselines, leaks, overlap, collapse
    (docs/audit.md).
    """
    from phosphene.steps.audit import audit_table

    return audit_table(study, compute or Compute())


def encode(
    study: Study, features: Sequence[str], compute: Compute | None = None, joint: bool = False
) -> pd.DataFrame:
    """Predict every voxel from features of the diffusion model (paper, section E).

    Parameters
    ----------
    study : Study
    features : sequence of str
        Names as :mod:`phosphene.features.names` reads them, such as "z", "c", "zc@0.5".
    compute : Compute, optional
    joint : bool
        All of them together, each with a penalty of its own, in place of one model for each.

    Returns
    -------
    DataFrame
        subject, model and the columns of :func:`phosphene.steps.encode.maps`, one row per model and
        voxel; p_permuted where `encode.permutations` is set.
    """
    from phosphene import encoding

    models = encoding.asked(features, joint)
    tables = []
    for subject in study.data.subjects:
        analyse(study, subject, [("asked", model) for model in models], compute or Compute())
        for model in models:
            table = maps(study, subject, model).assign(subject=subject, model=str(model))
            if study.encode.permutations:
                table["p_permuted"] = permuted_p(study, subject, model)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def report(study: Study, compute: Compute | None = None) -> Path:
    """Write everything a study found into one self-contained HTML file and return its path."""
    from phosphene.steps.report import report as report_step

    return report_step(study, compute or Compute())
