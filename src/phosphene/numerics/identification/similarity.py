"""How alike every reconstruction is to every original: small (n, n) matrices out of large features,
read in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import PhospheneError

Rule = Literal["mean", "single", "decoded", "oracle"]
Moments = tuple[NDArray[np.float64], NDArray[np.float64]]

TIE_DECIMALS = 10  # equal pictures must tie although a matrix product may round them apart by 1e-16
_EPS = np.finfo(np.float64).eps
_FEATURES_PER_BLOCK = 4096  # bounds the float64 copies to n * 4096 * 8 bytes each


def correlations(features_recon: ArrayLike, features_original: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation of every reconstruction with every original, per sample.

    Parameters
    ----------
    features_recon : array_like, (n, d) or (n, s, d)
        Features of the reconstructions, with s pictures per image. Any float type, memory-mapped or
        not.
    features_original : array_like, (n, d)
        Features of the pictures shown, in the same order.

    Returns
    -------
    ndarray of float64, (s, n, n)
        Rows are reconstructions, columns originals; s is 1 for (n, d). NaN where undefined: NaN or
        infinite features, a constant picture.

    Raises
    ------
    PhospheneError
        When shapes do not match or there are fewer than two images or features.

    Notes
    -----
    Features are read twice, in blocks: beside the inputs and the result it takes about 0.1 MB per
    image.
    """
    recon, original = checked(features_recon, features_original)
    return products(recon, original, centred=True)


def choose(r: ArrayLike, rule: Rule, chosen: ArrayLike | None = None) -> NDArray[np.float64]:
    """One matrix for :func:`identify` out of those of several samples per image.

    Parameters
    ----------
    r : array_like, (s, n, n)
        What :func:`correlations` gives.
    rule : {"mean", "single", "decoded", "oracle"}
        ``mean``: correlations averaged over samples (Takagi & Nishimoto). ``single``: the first
        sample of every image. ``decoded``: the sample that `chosen` names, picked by what was
        decoded from the brain. ``oracle``: the sample closest to its own original; it looks at the
        answer, so it is an upper bound and no result.
    chosen : array_like of int, (n,), optional
        Sample of every image; only ``decoded`` reads it.

    Returns
    -------
    ndarray of float64, (n, n)
        Rows are reconstructions, columns originals.

    Raises
    ------
    PhospheneError
        When the rule is unknown, `r` is not (s, n, n), or `chosen` does not name a sample for every
        image.
    """
    samples: NDArray[np.float64] = np.asarray(as_array(r), dtype=np.float64)
    if samples.ndim != 3 or samples.shape[1] != samples.shape[2] or not samples.shape[0]:
        raise PhospheneError(f"choose: r must be (samples, n, n), found {samples.shape}.")
    n = samples.shape[1]
    if rule == "mean":
        return np.asarray(samples.mean(axis=0), dtype=np.float64)
    if rule == "single":
        picked = np.zeros(n, dtype=np.int64)
    elif rule == "oracle":
        own = np.diagonal(samples, axis1=1, axis2=2)
        picked = np.where(np.isnan(own), -np.inf, own).argmax(axis=0)
    elif rule == "decoded":
        picked = _picked(chosen, samples)
    else:
        raise PhospheneError(
            f"choose: rule must be {', '.join(get_args(Rule)[:-1])} or oracle, found {rule!r}."
        )
    return np.asarray(samples[picked, np.arange(n)], dtype=np.float64)


def _picked(chosen: ArrayLike | None, samples: NDArray[np.float64]) -> NDArray[np.int64]:
    picked = np.asarray(chosen)
    (s, n) = samples.shape[:2]
    if picked.shape == (n,) and picked.dtype.kind in "iu" and np.all((picked >= 0) & (picked < s)):
        return picked.astype(np.int64)
    found = "none" if chosen is None else f"{picked.dtype} of shape {picked.shape}"
    if picked.shape == (n,) and picked.dtype.kind in "iu":
        found = f"{picked.min()} to {picked.max()}"
    raise PhospheneError(
        f"choose: rule 'decoded' needs chosen, a sample from 0 to {s - 1} for each of the {n} "
        f"images, found {found}."
    )


def as_array(values: Any) -> NDArray[Any]:
    """Numbers as an array; torch tensors of any device, type and gradient history too.

    Raises
    ------
    PhospheneError
        Where entries are masked: pictures are compared by all of their features.
    """
    if np.ma.is_masked(values):
        raise PhospheneError(
            "identification: found masked entries, expected a number for every feature of every "
            "picture; fill them in, or leave out these features or pictures."
        )
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such type
            values = values.float()
    return np.asarray(values)


def checked(
    features_recon: ArrayLike, features_original: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, s, d) and (n, d), refused where they do not belong together; nothing is copied."""
    recon = as_array(features_recon)
    original = as_array(features_original)
    if recon.ndim == 2:
        recon = recon[:, None, :]
    if (
        original.ndim != 2
        or recon.ndim != 3
        or (len(recon), recon.shape[2]) != original.shape
        or not recon.shape[1]
    ):
        raise PhospheneError(
            "identification: features must be (n, d) or (n, samples, d) for reconstructions and "
            "(n, d) for "
            f"originals, found {np.shape(features_recon)} and {original.shape}."
        )
    if min(original.shape) < 2:
        raise PhospheneError(
            "identification: at least two images and two features are needed, found "
            f"{original.shape}."
        )
    return recon, original


def mean_correlations(recon: NDArray[Any], original: NDArray[Any]) -> NDArray[np.float64]:
    """(n, n) correlations of reconstructions (rows) with originals (columns), averaged over
    samples.

    The mean over samples of r is linear in the standardised samples, so they are averaged before
    the one product.
    """
    n, n_samples, _ = recon.shape
    r = np.zeros((n, n))
    for right, lefts in _standardised(recon, original, centred=True):
        left = np.zeros_like(right)
        for each in lefts:
            left += each
        r += left @ right.T
    r /= n_samples
    return r


def products(recon: NDArray[Any], original: NDArray[Any], *, centred: bool) -> NDArray[np.float64]:
    """(s, n, n) correlations, or cosines where not centred, of reconstructions (rows) with
    originals (columns).
    """
    n, n_samples, _ = recon.shape
    r = np.zeros((n_samples, n, n))
    for right, lefts in _standardised(recon, original, centred=centred):
        for s, left in enumerate(lefts):
            r[s] += left @ right.T
    return r


def _standardised(
    recon: NDArray[Any], original: NDArray[Any], *, centred: bool
) -> Iterator[tuple[NDArray[np.float64], Iterator[NDArray[np.float64]]]]:
    """Blocks of features, of length 1 over all blocks: those of the originals and, one by one, of
    each sample.

    Every array is overwritten by the next of its kind: memory that is new for each would cost more
    than the arithmetic.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        of_original = _moments(original, centred)
        moments = [_moments(recon[:, s], centred) for s in range(recon.shape[1])]
        right = left = np.empty((0, 0))
        for columns in _blocks(original.shape[1]):
            block = original[:, columns]
            if right.shape != block.shape:
                right = np.empty(block.shape)
                left = np.empty(block.shape)
            lefts = (_unit(recon[:, s, columns], one, left) for s, one in enumerate(moments))
            yield _unit(block, of_original, right), lefts


def _unit(block: NDArray[Any], moments: Moments, out: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, norm = moments
    np.subtract(block, mean, out=out)
    out /= norm
    return out


def _blocks(d: int) -> list[slice]:
    return [
        slice(start, min(start + _FEATURES_PER_BLOCK, d))
        for start in range(0, d, _FEATURES_PER_BLOCK)
    ]


def _moments(features: NDArray[Any], centred: bool) -> Moments:
    """Mean and norm of the deviations of each feature vector, (n, 1) each; the norm is NaN for a
    constant one.

    Without centring the mean is 0 and the norm that of the vector itself, NaN for a zero one.
    """
    d = features.shape[1]
    mean = np.asarray(features.mean(axis=1, dtype=np.float64))[:, None]
    mean = mean if centred else np.zeros_like(mean)
    squares = np.zeros(mean.shape)
    deviations = np.empty((0, 0))
    for columns in _blocks(d):
        block = features[:, columns]
        if deviations.shape != block.shape:
            deviations = np.empty(block.shape)
        np.subtract(block, mean, out=deviations)
        squares += np.square(deviations, out=deviations).sum(axis=1, keepdims=True)
    norm = np.sqrt(squares)
    return mean, np.where(norm <= np.sqrt(d) * d * _EPS * np.abs(mean), np.nan, norm)
