"""The stages as a user calls them: one line each, all subjects of a study at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from phosphene.errors import PhospheneError
from phosphene.methods import MODE_FEATURES
from phosphene.pipeline.caches import begin_command
from phosphene.pipeline.graph import make
from phosphene.pipeline.step import Step
from phosphene.pipeline.store import Artefact
from phosphene.steps import evaluate as evaluation
from phosphene.steps import plan
from phosphene.study import Compute, Study


def betas(study: Study, compute: Compute | None = None) -> list[Artefact]:
    """Take the responses of the study's regions out of the scans; one artefact per subject and set
    of regions.

    Arrays `betas/session01`, ... (n_trials, n_voxels) as stored, table `voxels`. Data that are
    small are read where they are used and give no artefact.
    """
    return _make(lambda: plan.betas(study), compute)


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
    return _make(lambda: plan.extract(study, features, components), compute)


def decode(study: Study, compute: Compute | None = None) -> list[Artefact]:
    """Predict z and c from brain activity; one artefact per subject and feature."""
    return _make(lambda: plan.decode(study), compute)


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
    return _make(lambda: plan.reconstruct(study, [mode]), compute)


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
    _make(lambda: plan.evaluate(study), compute)
    return evaluation.all_tables(study, "scores")


def comparisons(study: Study, compute: Compute | None = None) -> pd.DataFrame:
    """Compare the study's modes on the same images: paired bootstrap, signed-rank, corrected (Holm,
    FDR).
    """
    _make(lambda: plan.evaluate(study), compute)
    return evaluation.comparisons(study)


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

    _make(lambda: plan.audit(study), compute)
    return audit_table(study)


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
    from phosphene.steps.encode import maps, permuted_p

    models = encoding.asked(features, joint)
    _make(lambda: plan.encode(study, [("asked", model) for model in models]), compute)
    tables = []
    for subject in study.data.subjects:
        for model in models:
            table = maps(study, subject, model).assign(subject=subject, model=str(model))
            if study.encode.permutations:
                table["p_permuted"] = permuted_p(study, subject, model)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def report(study: Study, compute: Compute | None = None) -> Path:
    """Write everything a study found into one self-contained HTML file and return its path."""
    (artefact,) = _make(lambda: plan.report(study), compute)
    return artefact.file("report.html")


def _make(roots: Callable[[], Sequence[Step]], compute: Compute | None) -> list[Artefact]:
    """Make results from files as they are now, which may have changed since the last call."""
    begin_command()
    return make(roots(), compute or Compute())
