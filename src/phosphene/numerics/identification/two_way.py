"""Two-way identification: whether a reconstruction is closer to its own original than to another
picture's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components

from phosphene.errors import PhospheneError
from phosphene.numerics.directions import Direction
from phosphene.numerics.identification.similarity import (
    TIE_DECIMALS,
    as_array,
    checked,
    mean_correlations,
)

_RESAMPLES_PER_BLOCK = 256
_NO_ERROR = 1e-9


@dataclass(frozen=True)
class Identification:
    """Result of :func:`identify` and :func:`two_way_identification`.

    Attributes
    ----------
    accuracy : float
        Mean of ``per_image``, 0 to 1; chance is 0.5. NaN where no image has a distractor.
    per_image : ndarray of float64, (n,)
        Share of won comparisons of each image against its distractors; NaN for an image that has
        none.
    ci : (float, float)
        95 % studentised bootstrap interval over images; NaN when no resample was asked for.
    p : float
        One-sided permutation p; NaN when no permutation was asked for.
    n : int
        Number of images that have a distractor.
    direction : str
        ``takagi2023`` or ``braindiffuser``.
    """

    accuracy: float
    per_image: NDArray[np.float64]
    ci: tuple[float, float]
    p: float
    n: int
    direction: Direction


def two_way_identification(
    features_recon: ArrayLike,
    features_original: ArrayLike,
    *,
    direction: Direction = "takagi2023",
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    rng: np.random.Generator | int = 0,
) -> Identification:
    """Two-way identification accuracy by Pearson correlation of feature vectors.

    Parameters
    ----------
    features_recon : array_like, (n, d) or (n, s, d)
        Features of the reconstructions. With s pictures per image their s correlations are
        averaged, then compared.
    features_original : array_like, (n, d)
        Features of the pictures shown, in the same order.
    direction : {"takagi2023", "braindiffuser"}
        ``takagi2023``: the original is fixed, distractors are the other reconstructions:
        r(original_i, recon_i) > r(original_i, recon_j). ``braindiffuser``: the reconstruction is
        fixed, distractors are the other originals: r(recon_i, original_i) > r(recon_i, original_j).
    n_bootstrap, n_permutations : int
        Resamples for the interval and permutations for p; 0 leaves that one out (NaN).
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    Identification
        Accuracy, per-image accuracy, interval, p, n and direction.

    Raises
    ------
    PhospheneError
        When shapes do not match, there are fewer than two images or features, or the direction is
        unknown.

    Notes
    -----
    - Ties (to 1e-10) count half. A comparison with an undefined correlation on *either* side (NaN
      or infinite features, a constant picture; one such sample of s is enough) counts as lost, two
      undefined ones too: a failure never helps.
    - Interval: the n(n - 1) comparisons share images, so *images* are resampled, each with its row
      and its column of comparisons. An image drawn c_i times gives the accuracy sum c_i c_j w_ij /
      sum c_i c_j over i != j, where w_ij is the outcome of image i against distractor j; copies of
      one image are never compared with each other. Studentised: each resample's distance from the
      accuracy is divided by its own standard error, because resamples of an accuracy near 1 that
      lost little also spread little; percentiles alone cover 82 to 93 % there. Where nothing was
      lost the interval has no width: these images say nothing about how seldom a comparison is
      lost.
    - p: the pairing of brains and images is permuted; ``(1 + #{permuted >= observed}) / (1 +
      n_permutations)``.
    - Memory: about 50 n² bytes beside the inputs, which are read in blocks of features.
    """
    recon, original = checked(features_recon, features_original)
    _check_direction(direction)
    return identify(
        mean_correlations(recon, original),
        direction=direction,
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        rng=rng,
    )


def identify(
    r: ArrayLike,
    *,
    direction: Direction = "takagi2023",
    among: ArrayLike | None = None,
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    rng: np.random.Generator | int = 0,
) -> Identification:
    """Two-way identification from similarities that are already there.

    Parameters
    ----------
    r : array_like, (n, n)
        Similarity, larger is closer, of reconstructions (rows) with originals (columns), own pairs
        on the diagonal.
    direction : {"takagi2023", "braindiffuser"}
        What is fixed, see :func:`two_way_identification`.
    among : array_like of bool, (n, n), optional
        ``among[i, j]``: picture j may be a distractor of image i, for example because it shows the
        same category. The diagonal is not read. All others where not given.
    n_bootstrap, n_permutations : int
        Resamples for the interval and permutations for p; 0 leaves that one out (NaN).
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    Identification
        Accuracy, per-image accuracy, interval, p, n and direction.

    Raises
    ------
    PhospheneError
        When `r` or `among` is not (n, n) with n of two or more, or the direction is unknown.

    Notes
    -----
    Ties, NaN, interval and p as in :func:`two_way_identification`. With `among` every image that
    has distractors counts the same, however many it has, in the accuracy and (as weights 1 /
    #distractors of i on w_ij) in the interval; and images change places only within connected parts
    of `among`, within categories for example: the p of a decoder that knows the category and
    nothing else is uniform.
    """
    _check_direction(direction)
    similarity = np.asarray(as_array(r), dtype=np.float64).round(TIE_DECIMALS)
    n = len(similarity) if similarity.ndim else 0
    if similarity.shape != (n, n) or n < 2:
        raise PhospheneError(
            f"identify: r must be (n, n) with at least two images, found {similarity.shape}."
        )
    # rows: what is fixed; columns: the candidates; own pair on the diagonal
    if direction == "takagi2023":
        similarity = np.ascontiguousarray(similarity.T)
    generator = np.random.default_rng(rng)
    outcomes = _outcomes(similarity)
    mask = None
    weights = None
    distractors = np.full(n, n - 1)
    if among is not None:
        mask = _mask(among, n)
        distractors = mask.sum(axis=1)
        weights = np.asarray(mask / np.maximum(distractors, 1)[:, None], dtype=np.float64)
        outcomes *= mask
    won = outcomes.sum(axis=1, dtype=np.float64)
    known = int((distractors > 0).sum())
    per_image = np.divide(won, distractors, out=np.full(n, np.nan), where=distractors > 0)
    accuracy = won.sum() / (n * (n - 1)) if mask is None else _mean(per_image)
    return Identification(
        accuracy=float(accuracy),
        per_image=per_image,
        ci=_bootstrap_ci(outcomes, weights, n_bootstrap, generator),
        p=_permutation_p(similarity, mask, n_permutations if known else 0, generator),
        n=known,
        direction=direction,
    )


def _mean(per_image: NDArray[np.float64]) -> float:
    known = per_image[~np.isnan(per_image)]
    return float(known.mean()) if len(known) else float("nan")


def _check_direction(direction: str) -> None:
    if direction not in get_args(Direction):
        known = " or ".join(get_args(Direction))
        raise PhospheneError(f"identification: direction must be {known}, found {direction!r}.")


def _mask(among: ArrayLike, n: int) -> NDArray[np.bool_]:
    mask = np.array(among)
    if mask.shape != (n, n) or mask.dtype != bool:
        raise PhospheneError(
            f"identify: among must be bool ({n}, {n}), found {mask.dtype} of shape {mask.shape}."
        )
    np.fill_diagonal(mask, False)
    return mask


def _twice_wins(r: NDArray[np.float64]) -> NDArray[np.int64]:
    """Entry (i, j): twice the number of comparisons that candidate j wins within row i, ties
    counted half.

    Its diagonal is the observed result and any other pairing is read off it, which makes
    permutations nearly free. Doubled to stay in exact integers.
    """
    wins = np.zeros(r.shape, dtype=np.int64)
    for i, row in enumerate(r):
        ordered = np.sort(row[~np.isnan(row)])
        below = np.searchsorted(ordered, row, "left")
        up_to = np.searchsorted(ordered, row, "right")
        wins[i] = np.where(np.isnan(row), 0, below + up_to - 1)
    return wins


def _outcomes(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """w_ij: 1, 1/2 or 0 as image i wins, ties or loses against distractor j; zero on the
    diagonal.
    """
    own = np.diagonal(r)[:, None]
    outcomes = np.asarray((own > r) + 0.5 * (own == r), dtype=np.float64)
    np.fill_diagonal(outcomes, 0)
    return outcomes


def _bootstrap_ci(
    outcomes: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    n_bootstrap: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Studentised bootstrap (bootstrap-t; Efron & Tibshirani 1993, section 12.5) over images,
    within 0 to 1.
    """
    n = len(outcomes)
    draws = []
    for start in range(0, n_bootstrap, _RESAMPLES_PER_BLOCK):
        size = min(_RESAMPLES_PER_BLOCK, n_bootstrap - start)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=size)
        draws.append(_accuracy_and_error(counts.astype(np.float64), outcomes, weights))
    (estimate,), (error,) = _accuracy_and_error(np.ones((1, n)), outcomes, weights)
    if not draws or np.isnan(estimate):
        return float("nan"), float("nan")
    accuracies, errors = np.concatenate(draws, axis=1)
    known = errors > _NO_ERROR  # not so where the same image was drawn n times, or nothing was lost
    if error <= _NO_ERROR or not known.any():
        return float(estimate), float(estimate)
    low, high = np.quantile((accuracies[known] - estimate) / errors[known], [0.025, 0.975])
    return float(np.clip(estimate - max(high, 0) * error, 0, 1)), float(
        np.clip(estimate - min(low, 0) * error, 0, 1)
    )


def _accuracy_and_error(
    counts: NDArray[np.float64], outcomes: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Accuracy and its standard error, (2, b), when each image is there so many times, (b, n).

    With A = sum c_i c_j m_ij w_ij and B = sum c_i c_j m_ij (w the outcomes, m the weights, 1 where
    not given) the accuracy is A / B and its derivative by c_i, the influence of image i as what is
    identified and as a distractor, is (sum_j c_j (m_ij w_ij + m_ji w_ji) - A / B sum_j c_j (m_ij +
    m_ji)) / B (infinitesimal jackknife).
    """
    n = len(outcomes)
    weighted = outcomes if weights is None else outcomes * weights
    as_image = counts @ weighted.T
    won = as_image + counts @ weighted
    compared = 2 * (n - counts) if weights is None else counts @ weights.T + counts @ weights
    with np.errstate(invalid="ignore"):  # 0 / 0 = NaN: the same image n times compares nothing
        pairs = np.einsum("bi,bi->b", counts, compared) / 2
        accuracy = np.einsum("bi,bi->b", counts, as_image) / pairs
        influence = (won - accuracy[:, None] * compared) / pairs[:, None]
        error = np.sqrt(np.einsum("bi,bi->b", counts, influence**2) * n / (n - 1))
    return np.stack([accuracy, error])


def _permutation_p(
    r: NDArray[np.float64],
    mask: NDArray[np.bool_] | None,
    n_permutations: int,
    generator: np.random.Generator,
) -> float:
    if n_permutations < 1:
        return float("nan")
    n = len(r)
    least_apart = 0.0
    parts = np.zeros(n, dtype=np.int32)
    if mask is None:
        table = _twice_wins(r)
    else:
        _, parts = connected_components(mask, directed=False)
        table = _twice_wins_among(r, mask, parts) / np.maximum(mask.sum(axis=1), 1)
        least_apart = 1e-9 * n  # sums of fractions that are equal may be rounded apart
    observed = np.diagonal(table).sum() - least_apart
    pairings = (_pairing(parts, generator) for _ in range(n_permutations))
    at_least = sum(int(table[np.arange(n), pairing].sum() >= observed) for pairing in pairings)
    return (1 + at_least) / (1 + n_permutations)


def _pairing(parts: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int64]:
    """A random permutation within parts."""
    if not parts.any():
        return generator.permutation(len(parts))
    pairing = np.empty(len(parts), dtype=np.int64)
    pairing[np.argsort(parts, kind="stable")] = np.lexsort((generator.random(len(parts)), parts))
    return pairing


def _twice_wins_among(
    r: NDArray[np.float64], mask: NDArray[np.bool_], parts: NDArray[np.int32]
) -> NDArray[np.int64]:
    """As `_twice_wins`, candidate j against the distractors of j only; zero for pairs from
    different parts.
    """
    wins = np.zeros(r.shape, dtype=np.int64)
    for part in np.flatnonzero(np.bincount(parts) > 1):
        members = np.flatnonzero(parts == part)
        allowed = mask[np.ix_(members, members)]
        for i in members:
            row = r[i, members]
            below = (row[:, None] > row) & allowed
            equal = (row[:, None] == row) & allowed
            wins[i, members] = 2 * below.sum(axis=1) + equal.sum(axis=1)
    return wins
