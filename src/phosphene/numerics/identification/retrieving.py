"""Retrieval: how often a decoded embedding finds its own picture among many, and a picture its own
brain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import PhospheneError
from phosphene.numerics.identification.similarity import TIE_DECIMALS, checked, products
from phosphene.numerics.stats import bootstrap_ci


@dataclass(frozen=True)
class Retrieval:
    """Result of :func:`retrieval`.

    Attributes
    ----------
    image, brain : float
        Top-1 accuracy, 0 to 1: of the image given the brain ("image retrieval"), of the brain given
        the image.
    image_ci, brain_ci : (float, float)
        95 % bootstrap intervals over images; NaN when no resample was asked for.
    per_image : ndarray of float64, (n, 2)
        Share of candidate sets in which each image was retrieved (column 0), and its brain (column
        1); NaN where an image was in no set.
    n_candidates : int
        Size of a candidate set, its own included.
    chance : float
        ``1 / n_candidates``.
    """

    image: float
    brain: float
    image_ci: tuple[float, float]
    brain_ci: tuple[float, float]
    per_image: NDArray[np.float64]
    n_candidates: int
    chance: float


def retrieval(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    n_candidates: int = 300,
    repeats: int | None = 30,
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> Retrieval:
    """Top-1 retrieval by cosine similarity within random sets of images, in both directions
    (MindEye).

    Parameters
    ----------
    predicted : array_like, (n, d)
        Embeddings decoded from the brain.
    true : array_like, (n, d)
        Embeddings of the pictures shown, in the same order.
    n_candidates : int
        Images in a set; all n where there are fewer.
    repeats : int or None
        Number of random sets: every image of a set is looked for within it, as MindEye does. None
        gives what endless repeats would, without randomness.
    n_bootstrap : int
        Resamples for the intervals; 0 leaves them out (NaN).
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    Retrieval
        Accuracies, intervals, per-image accuracies, size of a set, chance.

    Raises
    ------
    PhospheneError
        When shapes do not match, there are fewer than two images or features, or no set of two can
        be drawn.

    Notes
    -----
    - Of k candidates that tie (to 1e-10) at the top each is right with 1 / k. Undefined
      similarities (NaN, a zero vector) lose, as what is looked for and as what it is compared with.
    - Intervals: an image counts as what is looked for and as a distractor of all others. Its whole
      influence is n - 1 times what the accuracy of endless repeats changes by without it
      (jackknife); influences are resampled.
    """
    recon, original = checked(predicted, true)
    n = len(original)
    if n_candidates < 2 or (repeats is not None and repeats < 1):
        raise PhospheneError(
            "retrieval: n_candidates must be 2 or more and repeats 1 or more or None, found "
            f"{n_candidates} and {repeats}."
        )
    size = min(n_candidates, n)
    generator = np.random.default_rng(rng)
    cosine = np.round(products(recon, original, centred=False)[0], TIE_DECIMALS)
    sets = None if repeats is None else [generator.permutation(n)[:size] for _ in range(repeats)]
    image, of_image = _accuracy(cosine, sets, size)  # rows: what looks; columns: what is looked for
    brain, of_brain = _accuracy(cosine.T, sets, size)
    return Retrieval(
        image=image,
        brain=brain,
        image_ci=_interval(image, cosine, size, n_bootstrap, generator),
        brain_ci=_interval(brain, cosine.T, size, n_bootstrap, generator),
        per_image=np.column_stack([of_image, of_brain]),
        n_candidates=size,
        chance=1 / size,
    )


def _accuracy(
    similarity: NDArray[np.float64], sets: list[NDArray[np.int64]] | None, size: int
) -> tuple[float, NDArray[np.float64]]:
    """Accuracy over all sets, or over every set there could be, and that of each image."""
    n = len(similarity)
    if sets is None:
        better, equal = _rivals(similarity)
        won = _chance_to_win(better.sum(axis=1), equal.sum(axis=1), n - 1, size)
        looked = np.ones(n)
    else:
        won = np.zeros(n)
        looked = np.zeros(n)
        for members in sets:
            better, equal = _rivals(similarity[np.ix_(members, members)])
            won[members] += (better.sum(axis=1) == 0) / (1 + equal.sum(axis=1))
            looked[members] += 1
    share = np.divide(won, looked, out=np.full(n, np.nan), where=looked > 0)
    return float(won.sum() / looked.sum()), share


def _rivals(similarity: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which other columns are better than a row's own, and which are as good; undefined
    similarities lose.
    """
    own = np.diagonal(similarity)[:, None]
    equal = own == similarity
    better = ~(own > similarity) & ~equal
    np.fill_diagonal(equal, False)
    np.fill_diagonal(better, False)
    return better, equal


def _chance_to_win(
    better: NDArray[np.int64], equal: NDArray[np.int64], others: int, size: int
) -> NDArray[np.float64]:
    """Probability to come out on top of a set of `size` with random ones out of `others`, by the
    number of rivals.

    With b better ones it is that none is drawn, C(others - b, size - 1) / C(others, size - 1). One
    of t + 1 equal ones is as often before all the others as behind u of them, u = 0 to t: the mean
    over b to b + t.
    """
    left = np.arange(others, 0, -1)
    none_drawn = np.cumprod(np.append(1.0, np.maximum(left - (size - 1), 0) / left))
    summed = np.append(0.0, np.cumsum(none_drawn))
    return np.asarray((summed[better + equal + 1] - summed[better]) / (equal + 1))


def _interval(
    accuracy: float,
    similarity: NDArray[np.float64],
    size: int,
    n_bootstrap: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    if n_bootstrap < 1:
        return float("nan"), float("nan")
    n = len(similarity)
    better, equal = _rivals(similarity)
    # column j: rivals that are left without image j
    left_better = better.sum(axis=1)[:, None] - better
    left_equal = equal.sum(axis=1)[:, None] - equal
    np.fill_diagonal(left_better, 0)  # an image without itself is asked nothing
    np.fill_diagonal(left_equal, 0)
    won = _chance_to_win(left_better, left_equal, n - 2, min(size, n - 1))
    np.fill_diagonal(won, 0)
    without = won.sum(axis=0) / (n - 1)
    influences = (n - 1) * (without.mean() - without)
    low, high = np.clip(
        bootstrap_ci(accuracy + influences, n_bootstrap=n_bootstrap, rng=generator), 0, 1
    )
    return float(low), float(high)
