"""Two-way identification: whether a reconstruction is closer to its own original than to another picture's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import PhospheneError

Direction = Literal["takagi2023", "braindiffuser"]

_EPS = np.finfo(np.float64).eps
_FEATURES_PER_BLOCK = 4096  # bounds the float64 copies to n * 4096 * 8 bytes each
_RESAMPLES_PER_BLOCK = 256
_TIE_DECIMALS = 10  # equal pictures must tie although a matrix product may round them apart by 1e-16


@dataclass(frozen=True)
class Identification:
    """Result of :func:`two_way_identification`.

    Attributes
    ----------
    accuracy : float
        Share of won comparisons, 0 to 1; chance is 0.5.
    per_image : ndarray of float64, (n,)
        Share of won comparisons of each image against its n - 1 distractors.
    ci : (float, float)
        95 % bootstrap interval over images; NaN when no resample was asked for.
    p : float
        One-sided permutation p; NaN when no permutation was asked for.
    n : int
        Number of images.
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
        Features of the reconstructions. With s pictures per image their s correlations are averaged, then compared.
    features_original : array_like, (n, d)
        Features of the pictures shown, in the same order.
    direction : {"takagi2023", "braindiffuser"}
        ``takagi2023``: the original is fixed, distractors are the other reconstructions:
        r(original_i, recon_i) > r(original_i, recon_j). ``braindiffuser``: the reconstruction is fixed, distractors
        are the other originals: r(recon_i, original_i) > r(recon_i, original_j).
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
        When shapes do not match, there are fewer than two images or features, or the direction is unknown.

    Notes
    -----
    - Ties (to 1e-10) count half. A comparison with an undefined correlation on *either* side (NaN or infinite features,
      a constant picture; one such sample of s is enough) counts as lost, two undefined ones too: a failure never helps.
    - Interval: the n(n - 1) comparisons share images, so *images* are resampled, each with its row and its column of
      comparisons. An image drawn c_i times gives the accuracy sum c_i c_j w_ij / sum c_i c_j over i != j, where w_ij is
      the outcome of image i against distractor j; copies of one image are never compared with each other.
      Percentiles of that. Resampling only ``per_image`` would take the distractors for granted and be too narrow.
    - p: the pairing of brains and images is permuted; ``(1 + #{permuted >= observed}) / (1 + n_permutations)``.
    - Memory: about 25 n² bytes beside the inputs, which are read in blocks of features.
    """
    recon, original = _checked(features_recon, features_original, direction)
    n = len(original)
    generator = np.random.default_rng(rng)
    r = _mean_correlations(recon, original)
    if direction == "takagi2023":
        r = np.ascontiguousarray(r.T)  # rows: what is fixed; columns: the candidates; own pair on the diagonal
    twice_wins = _twice_wins(r)
    observed = np.diagonal(twice_wins)
    return Identification(
        accuracy=float(observed.sum() / (2 * n * (n - 1))),
        per_image=observed / (2.0 * (n - 1)),
        ci=_bootstrap_ci(_outcomes(r), n_bootstrap, generator),
        p=_permutation_p(twice_wins, n_permutations, generator),
        n=n,
        direction=direction,
    )


def _checked(
    features_recon: ArrayLike, features_original: ArrayLike, direction: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    recon, original = np.asarray(features_recon), np.asarray(features_original)
    if direction not in get_args(Direction):
        known = " or ".join(get_args(Direction))
        raise PhospheneError(f"two_way_identification: direction must be {known}, found {direction!r}.")
    if recon.ndim == 2:
        recon = recon[:, None, :]
    if original.ndim != 2 or recon.ndim != 3 or (len(recon), recon.shape[2]) != original.shape or not recon.shape[1]:
        raise PhospheneError(
            "two_way_identification: features must be (n, d) or (n, samples, d) for reconstructions and (n, d) for "
            f"originals, found {np.shape(features_recon)} and {original.shape}."
        )
    if min(original.shape) < 2:
        raise PhospheneError(
            f"two_way_identification: at least two images and two features are needed, found {original.shape}."
        )
    return recon, original


def _moments(features: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and norm of the deviations of each feature vector (last axis); the norm is NaN for a constant one."""
    d = features.shape[-1]
    mean = np.asarray(features.mean(axis=-1, dtype=np.float64))[..., None]
    squares = np.zeros(mean.shape)
    for start in range(0, d, _FEATURES_PER_BLOCK):
        block = features[..., start : start + _FEATURES_PER_BLOCK] - mean
        squares += (block**2).sum(axis=-1, keepdims=True)
    norm = np.sqrt(squares)
    return mean, np.where(norm <= np.sqrt(d) * d * _EPS * np.abs(mean), np.nan, norm)


def _mean_correlations(recon: NDArray[Any], original: NDArray[Any]) -> NDArray[np.float64]:
    """(n, n) correlations of reconstructions (rows) with originals (columns), averaged over samples, rounded.

    The mean over samples of r is linear in the standardised samples, so they are averaged before the one product.
    """
    n, n_samples, d = recon.shape
    r = np.zeros((n, n))
    with np.errstate(invalid="ignore", over="ignore"):
        original_mean, original_norm = _moments(original)
        moments = [_moments(recon[:, s]) for s in range(n_samples)]
        for start in range(0, d, _FEATURES_PER_BLOCK):
            columns = slice(start, start + _FEATURES_PER_BLOCK)
            right = (original[:, columns] - original_mean) / original_norm
            left = np.zeros_like(right)
            for s, (mean, norm) in enumerate(moments):
                left += (recon[:, s, columns] - mean) / norm
            r += left @ right.T
    r /= n_samples
    return np.round(r, _TIE_DECIMALS)


def _twice_wins(r: NDArray[np.float64]) -> NDArray[np.int64]:
    """Entry (i, j): twice the number of comparisons that candidate j wins within row i, ties counted half.

    Its diagonal is the observed result and any other pairing is read off it, which makes permutations nearly free.
    Doubled to stay in exact integers.
    """
    wins = np.zeros(r.shape, dtype=np.int64)
    for i, row in enumerate(r):
        ordered = np.sort(row[~np.isnan(row)])
        below, up_to = np.searchsorted(ordered, row, "left"), np.searchsorted(ordered, row, "right")
        wins[i] = np.where(np.isnan(row), 0, below + up_to - 1)
    return wins


def _outcomes(r: NDArray[np.float64]) -> NDArray[np.float32]:
    """w_ij: 1, 1/2 or 0 as image i wins, ties or loses against distractor j; zero on the diagonal."""
    own = np.diagonal(r)[:, None]
    outcomes = np.asarray((own > r) + 0.5 * (own == r), dtype=np.float32)
    np.fill_diagonal(outcomes, 0)
    return outcomes


def _bootstrap_ci(
    outcomes: NDArray[np.float32], n_bootstrap: int, generator: np.random.Generator
) -> tuple[float, float]:
    n = len(outcomes)
    draws = np.full(n_bootstrap, np.nan)
    for start in range(0, n_bootstrap, _RESAMPLES_PER_BLOCK):
        size = min(_RESAMPLES_PER_BLOCK, n_bootstrap - start)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=size)
        won = np.einsum("bi,bi->b", counts.astype(np.float32) @ outcomes, counts, dtype=np.float64)
        pairs = n**2 - (counts**2).sum(axis=1)
        with np.errstate(invalid="ignore"):
            draws[start : start + size] = won / pairs  # 0 / 0 = NaN: the same image n times compares nothing
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _permutation_p(twice_wins: NDArray[np.int64], n_permutations: int, generator: np.random.Generator) -> float:
    if n_permutations < 1:
        return float("nan")
    n = len(twice_wins)
    rows = np.arange(n)
    observed = np.diagonal(twice_wins).sum()
    at_least = sum(int(twice_wins[rows, generator.permutation(n)].sum() >= observed) for _ in range(n_permutations))
    return (1 + at_least) / (1 + n_permutations)
