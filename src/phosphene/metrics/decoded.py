"""How well features were decoded, and how often a judge names what reconstructions show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.models.judge.labels import CATEGORIES
from phosphene.models.judge.network import judge_labels
from phosphene.models.preparing import Pictures
from phosphene.numerics.identification import correlations, identify, retrieval
from phosphene.numerics.stats import bootstrap_ci

Floats = NDArray[np.floating[Any]]


def correlated_features(r: Floats, ceiling: Floats) -> dict[str, float]:
    """Summarise how well each number of a feature was decoded.

    Parameters
    ----------
    r : ndarray, shape (d,)
        Correlation over items of predicted and true values; NaN (predicted as constant) counts
        as 0.
    ceiling : ndarray, shape (d,)
        What r would be if the decoder were right and only the scans noisy: square root of the
        reliability of predictions over repeats.

    Returns
    -------
    dict
        r (mean), q25, q75 (quartiles), ceiling (mean, NaN where it is not known) and normalised,
        the ratio of the two means.
    """
    known = np.nan_to_num(r)
    low, high = np.percentile(known, (25, 75))
    mean = float(known.mean())
    top = float(np.nanmean(ceiling)) if np.isfinite(ceiling).any() else np.nan
    return {
        "r": mean,
        "q25": float(low),
        "q75": float(high),
        "ceiling": top,
        "normalised": mean / top if top > 0 else np.nan,
    }


def identified_features(
    decoded: Floats,
    true: Floats,
    *,
    n_bootstrap: int,
    n_permutations: int,
    rng: np.random.Generator,
) -> dict[str, object]:
    """Two-way identification and retrieval of the true features by the decoded ones.

    Parameters
    ----------
    decoded, true : ndarray, shape (n_items, d)
    n_bootstrap, n_permutations : int
    rng : Generator

    Returns
    -------
    dict
        accuracy, ci_low, ci_high, p, candidates, retrieval_chance, and image_retrieval and
        brain_retrieval with their intervals.
    """
    two_way = identify(
        correlations(decoded, true)[0],
        direction="braindiffuser",
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        rng=rng,
    )
    retrieved = retrieval(decoded, true, n_bootstrap=n_bootstrap, rng=rng)
    row: dict[str, object] = {
        "accuracy": two_way.accuracy,
        "ci_low": two_way.ci[0],
        "ci_high": two_way.ci[1],
        "p": two_way.p,
        "candidates": retrieved.n_candidates,
        "retrieval_chance": retrieved.chance,
    }
    for name, share, ci in (
        ("image", retrieved.image, retrieved.image_ci),
        ("brain", retrieved.brain, retrieved.brain_ci),
    ):
        row |= {
            f"{name}_retrieval": share,
            f"{name}_retrieval_low": ci[0],
            f"{name}_retrieval_high": ci[1],
        }
    return row


def named_categories(
    reconstructions: Sequence[Pictures],
    truth: Sequence[Sequence[str]],
    groups: NDArray[Any],
    *,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Let the judge name the likeliest category, out of those of the data set; right if the seen
    picture has it.

    Parameters
    ----------
    reconstructions : sequence of pictures, (n_samples,)
        For every sample the pictures of all items.
    truth : sequence of sequences of str, (n_items,)
        Names of the things in each seen picture.
    groups : ndarray, shape (n_items,)
        Items of one group are resampled together.
    n_bootstrap : int
    rng : Generator

    Returns
    -------
    dict
        accuracy, ci_low, ci_high, chance, choices, n; NaN with n = 0 where the judge does not know
        the categories.
    """
    choices = sorted({name for names in truth for name in names})
    unknown = [name for name in choices if name not in CATEGORIES]
    if unknown or not choices:
        nothing = dict.fromkeys(("accuracy", "ci_low", "ci_high", "chance"), np.nan)
        return nothing | {"choices": len(choices), "n": 0}
    among = [CATEGORIES.index(name) for name in choices]
    logits = [judge_labels(pictures)["category"][:, among] for pictures in reconstructions]
    named = np.stack([sample.argmax(axis=1) for sample in logits], axis=1)
    right = np.array(
        [[choices[k] in names for k in row] for row, names in zip(named, truth, strict=True)]
    )
    units = pd.Series(right.mean(axis=1)).groupby(groups).mean().to_numpy()
    low, high = bootstrap_ci(units, n_bootstrap=n_bootstrap, rng=rng)
    chance = float(np.mean([len(set(names)) for names in truth])) / len(choices)
    return {
        "accuracy": float(right.mean()),
        "ci_low": low,
        "ci_high": high,
        "chance": chance,
        "choices": len(choices),
        "n": len(truth),
    }
