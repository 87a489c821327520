"""Methods compared on the scale of odds: a marginal logistic model, and the mixed one that it is
compared with.
"""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import logit
from scipy.stats import norm

from phosphene.errors import PhospheneError
from phosphene.numerics.stats import holm
from phosphene.ratings.analysis.crossed import Counted, Floats, counted, t_interval

MARGINAL = "logistic, crossed errors"
MIXED = "mixed logistic, variational"
COLUMNS = [
    "model",
    "headline",
    "a",
    "b",
    "log_odds",
    "odds_ratio",
    "or_low",
    "or_high",
    "p",
    "p_holm",
    "rater_sd",
    "image_sd",
    "converged",
]


def mixed(answers: pd.DataFrame) -> pd.DataFrame:
    """Odds of a right answer: every pair of methods, and every method against chance.

    Parameters
    ----------
    answers : DataFrame
        As the export gives it, without excluded raters.

    Returns
    -------
    DataFrame
        One row per model and comparison: ``model, headline, a, b`` ("chance" last), ``log_odds``
        (difference of a and b), ``odds_ratio, or_low, or_high`` (95 %), ``p`` (two-sided),
        ``p_holm`` (over the pairs of a model; its comparisons with chance by themselves),
        ``rater_sd, image_sd`` (of the mixed model, logits), ``converged``.

    Notes
    -----
    - "logistic, crossed errors", the headline: logistic regression on the method, which is the
      logit of each method's share, with errors that allow for other raters and other images
      (:func:`crossed_variance`), t. Its odds ratio is that of the average answer. Infinite where a
      method is never wrong; then there is no interval.
    - "mixed logistic, variational": normal effects of raters and images (``BinomialBayesMixedGLM``
      of statsmodels, mean-field). Its odds ratio is that within one rater and image, further from
      1. This approximation takes the effects of raters and images for known, and knows no effects
      within methods (with them it covered no better): its intervals hold 95 % only where every
      method suits all raters and images alike, about 80 % where not (docs/rating.md). Shown for
      comparison, and not against chance, where it held 42 to 68 %. statsmodels' other fit, Laplace,
      is of no use here: its maximum lies where images have a standard deviation of exp(- number of
      images).
    """
    table = counted(answers)
    rows = _marginal(table) + (_variational(table) if len(table.methods) > 1 else [])
    found = pd.DataFrame(rows, columns=COLUMNS)
    for _, index in found.groupby(["model", found["b"] == "chance"]).groups.items():
        found.loc[index, "p_holm"] = holm(found.loc[index, "p"])
    return found


def _marginal(table: Counted) -> list[tuple[Any, ...]]:
    shares = np.array([table.share(method) for method in range(len(table.methods))])
    with np.errstate(divide="ignore"):
        logits = logit(shares)
    pairs: list[tuple[int, ...]] = list(combinations(range(len(shares)), 2))
    rows = []
    for methods in [*pairs, *[(method,) for method in range(len(shares))]]:
        signs = (1.0, -1.0)[: len(methods)]
        estimate = float(
            sum(sign * logits[method] for sign, method in zip(signs, methods, strict=True))
        )
        known = bool(np.isfinite(logits[list(methods)]).all())
        low = np.nan
        high = np.nan
        p = np.nan
        if known:
            parts = [
                sign * table.influence(m) / (shares[m] * (1 - shares[m]))
                for sign, m in zip(signs, methods, strict=True)
            ]
            spread = table.variance(np.sum(parts, axis=0), *methods)
            low, high, p = t_interval(estimate, float(spread.both), float(spread.df))
        names = (
            table.methods[methods[0]],
            table.methods[methods[1]] if len(methods) > 1 else "chance",
        )
        rows.append(
            (
                MARGINAL,
                True,
                *names,
                estimate,
                *np.exp([estimate, low, high]),
                p,
                np.nan,
                np.nan,
                np.nan,
                known,
            )
        )
    return rows


def _variational(table: Counted) -> list[tuple[Any, ...]]:
    means, sds, (rater_sd, image_sd), converged = variational_fit(table)
    rows = []
    for a, b in combinations(range(len(table.methods)), 2):
        # every method has a coefficient of its own: coded as differences from the first one, this
        # approximation would leave out the first one's own error, and intervals would be 1.4 times
        # narrower still
        estimate = means[a] - means[b]
        error = float(np.hypot(sds[a], sds[b]))
        low, high = estimate + error * norm.ppf([0.025, 0.975])
        p = 2 * float(norm.sf(abs(estimate) / error))
        rows.append(
            (
                MIXED,
                False,
                table.methods[a],
                table.methods[b],
                estimate,
                *np.exp([estimate, low, high]),
                p,
                np.nan,
                rater_sd,
                image_sd,
                converged,
            )
        )
    return rows


def variational_fit(table: Counted) -> tuple[Floats, Floats, Floats, bool]:
    """Posterior means and standard deviations of the methods' logits, standard deviations of raters
    and images.
    """
    try:
        from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM
        from statsmodels.tools.sm_exceptions import ConvergenceWarning
    except ImportError as error:
        raise PhospheneError(
            "The mixed logistic model needs statsmodels, which is not installed; pip install "
            "'phosphene[ratings]'."
        ) from error
    n_raters, n_images = table.shape
    rows = np.arange(len(table.hit))
    columns = np.concatenate([table.rater, n_raters + table.image])
    shape = (len(rows), n_raters + n_images)
    effects = sparse.csr_matrix((np.ones(2 * len(rows)), (np.tile(rows, 2), columns)), shape)
    means = np.eye(len(table.methods))[table.method]
    model = BinomialBayesMixedGLM(
        table.hit, means, effects, np.repeat([0, 1], [n_raters, n_images])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said by `converged`
        fit = model.fit_vb(fit_method="L-BFGS-B", rng=0)
    return fit.fe_mean, fit.fe_sd, np.exp(fit.vcp_mean), bool(fit.optim_retvals.success)
