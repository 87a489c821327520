"""The variance of a mean of answers when raters, images, or both are a sample of more of their
kind.

An estimate is a sum over answers plus a constant; each answer's part, its *influence*, is what the
estimate would lose without it. Influences add up to 0. Their sums by rater and by image say how far
the estimate would have been elsewhere with other raters or images: the share of a method, a
difference of shares and a difference of logits alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from phosphene.errors import PhospheneError

Floats = NDArray[np.float64]
MOST_SWEEPS = 500
SMALL = 1e-13
NEEDED = ("rater", "kind", "method", "image", "hit")


@dataclass(frozen=True)
class Variance:
    """Variances of an estimate, each (...), and the degrees of freedom of `both`.

    `rater` for other raters on these images, `image` for these raters on other images, `both` for
    others of both kinds.
    """

    rater: Floats
    image: Floats
    both: Floats
    df: Floats


def crossed_variance(cells: ArrayLike, seen: NDArray[np.bool_] | None = None) -> Variance:
    """Variance of a sum over the cells of a table of raters and images, by rater, by image and by
    both.

    Parameters
    ----------
    cells : array_like, (..., n_raters, n_images)
        Sums of influences, 0 where a rater did not see an image; each table sums to 0.
    seen : ndarray of bool, (n_raters, n_images), optional
        Which cells were answered; all when not given.

    Returns
    -------
    Variance
        NaN for what cannot be known: anything about other raters with one rater, about other images
        with one image.

    Notes
    -----
    ``both = V_rater + V_image - V_noise``: each of the first two counts the noise of single answers
    once (Cameron, Gelbach & Miller 2011). The noise comes from what is left of the table after
    effects of raters and images (additive fit), so that in a complete table this is the analysis of
    variance of two crossed random factors, without bias; where raters saw few images in common it
    is a little too large. Never below the larger of the two, which it contains. `df` is
    Satterthwaite's.
    """
    u = np.asarray(cells, dtype=np.float64)
    n_raters, n_images = u.shape[-2:]
    there = np.ones((n_raters, n_images), bool) if seen is None else seen
    nan = np.full(u.shape[:-2], np.nan)
    by_rater = (u.sum(-1) ** 2).sum(-1) * n_raters / (n_raters - 1) if n_raters > 1 else nan
    by_image = (u.sum(-2) ** 2).sum(-1) * n_images / (n_images - 1) if n_images > 1 else nan
    left = int(there.sum()) - n_raters - n_images + 1
    if left > 0:
        noise = (_residuals(u, there) ** 2).sum((-2, -1)) * there.sum() / left
    else:  # hardly an image was seen twice: the noise cannot be told from the images, nor need it
        noise = (u**2).sum((-2, -1))
    both = np.maximum(by_rater + by_image - noise, np.maximum(by_rater, by_image))
    with np.errstate(invalid="ignore", divide="ignore"):
        df = both**2 / (by_rater**2 / (n_raters - 1) + by_image**2 / (n_images - 1))
    return Variance(
        by_rater,
        by_image,
        both,
        np.asarray(np.where(both > 0, df, np.minimum(n_raters, n_images) - 1)),
    )


def _residuals(u: Floats, there: NDArray[np.bool_]) -> Floats:
    """What an additive fit of raters and images leaves, by taking either's means out in turn."""
    rest = np.where(there, u, 0.0)
    per_rater = there.sum(1)[:, None]
    per_image = there.sum(0)
    scale = np.abs(rest).max(initial=0.0)
    for _ in range(MOST_SWEEPS):
        means = rest.sum(-1, keepdims=True) / per_rater
        rest = np.where(there, rest - means, 0.0)
        of_images = rest.sum(-2, keepdims=True) / per_image
        rest = np.where(there, rest - of_images, 0.0)
        if (
            max(np.abs(of_images).max(initial=0.0), np.abs(means).max(initial=0.0)) <= SMALL * scale
            or there.all()
        ):
            break
    return rest


def t_interval(estimate: float, variance: float, df: float) -> tuple[float, float, float]:
    """95 % interval of an estimate and the two-sided p of its being 0, by Student's t."""
    if not np.isfinite([estimate, variance, df]).all():
        return np.nan, np.nan, np.nan
    half = float(student_t.ppf(0.975, df)) * float(np.sqrt(variance))
    if variance == 0:
        return estimate, estimate, 1.0 if estimate == 0 else np.nan
    p = 2 * float(student_t.sf(abs(estimate) / np.sqrt(variance), df))
    return estimate - half, estimate + half, p


@dataclass(frozen=True)
class Counted:
    """The answers that count: no catch trials, no repeats. `hit` and the codes are (n_answers,)."""

    hit: Floats
    method: NDArray[np.intp]
    rater: NDArray[np.intp]
    image: NDArray[np.intp]
    methods: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of raters and images."""
        return int(self.rater.max()) + 1, int(self.image.max()) + 1

    def cells(self, values: Floats) -> Floats:
        """Sums of values by rater and image, (n_raters, n_images)."""
        n_raters, n_images = self.shape
        flat = np.bincount(
            self.rater * n_images + self.image, weights=values, minlength=n_raters * n_images
        )
        return np.asarray(flat.reshape(n_raters, n_images), dtype=np.float64)

    def share(self, method: int) -> float:
        """Share of right answers of a method."""
        return float(self.hit[self.method == method].mean())

    def influence(self, method: int) -> Floats:
        """What each answer adds to the share of a method, around that share, (n_answers,)."""
        own = self.method == method
        return np.asarray(np.where(own, self.hit - self.share(method), 0.0) / own.sum())

    def variance(self, influence: Floats, *methods: int) -> Variance:
        """See :func:`crossed_variance`; only raters and images with an answer to one of the methods
        take part.
        """
        counts = self.cells(np.isin(self.method, methods).astype(np.float64))
        raters = counts.any(1)
        images = counts.any(0)
        return crossed_variance(
            self.cells(influence)[raters][:, images], (counts > 0)[raters][:, images]
        )


def counted(answers: pd.DataFrame) -> Counted:
    """Take the answers that count out of a table as the export gives it.

    Methods come in the order of the categories where `method` is categorical, else by name.
    Images are told apart by `image` alone: of two subjects who saw one photograph, both
    reconstructions belong to it.

    Raises
    ------
    PhospheneError
        When a column is missing or no answer is left.
    """
    rows = trials_of(answers)
    methods = methods_of(rows)
    method = pd.Index(methods).get_indexer(rows["method"].astype(str))
    rater, _ = pd.factorize(rows["rater"].astype(str), sort=True)
    image, _ = pd.factorize(rows["image"].astype(str), sort=True)
    return Counted(rows["hit"].to_numpy(np.float64), method, rater, image, methods)


def trials_of(answers: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table of answers that are neither catch trials nor repeats."""
    checked(answers, NEEDED)
    rows = answers[answers["kind"] == "trial"]
    if rows.empty:
        raise PhospheneError(
            f"answers: none of the {len(answers)} rows counts (kind 'trial'); raters must answer "
            "first, or all of them "
            "were excluded."
        )
    return rows


def methods_of(rows: pd.DataFrame) -> list[str]:
    """Methods in the order of the categories where `method` is categorical, else by name."""
    there = set(rows["method"].astype(str))
    order = (
        rows["method"].cat.categories
        if isinstance(rows["method"].dtype, pd.CategoricalDtype)
        else sorted(there)
    )
    return [str(name) for name in order if str(name) in there]


def checked(answers: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Refuse a table that lacks columns."""
    missing = [name for name in columns if name not in answers]
    if missing:
        raise PhospheneError(
            f"answers: columns {', '.join(missing)} are missing, found "
            f"{', '.join(map(str, answers))}; expected a "
            "table as the export or read_csv gives it."
        )
