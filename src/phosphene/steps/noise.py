"""Seeds of the noise that sampling starts from."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.seeds import rng
from phosphene.study import Study


def latent_seeds(
    study: Study, keys: Sequence[tuple[str | int, ...]], same: bool = False
) -> list[int] | None:
    """Seeds of samples of the autoencoder's posterior, one per key, or `same` for all; None where
    its mean is taken.
    """
    if study.model.latent == "mean":
        return None
    return [int(rng(study.seed, *(() if same else key), "latent").integers(2**62)) for key in keys]


def noise_seeds(study: Study, keys: Sequence[tuple[str | int, ...]], same: bool) -> list[int]:
    """Seeds of the noise that denoising starts from.

    Parameters
    ----------
    study : Study
    keys : sequence of tuple
        One per picture that is made: subject, image, run, sample.
    same : bool
        Sample k of all images starts from the same noise, as in the paper's released code, which
        seeds each image anew.
    """
    return [
        int(rng(study.seed, *(("noise", key[-1]) if same else key)).integers(2**62)) for key in keys
    ]
