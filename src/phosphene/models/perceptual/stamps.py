"""What features of a space depend on, as a hash; needs no torch."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from phosphene.models.judge.labels import fingerprint
from phosphene.models.perceptual import weights as files
from phosphene.models.perceptual.spaces import Space

WITHOUT_WEIGHTS = ("formula", "judge")  # nothing to look for
# always this many, the last batch filled up: the last bits of float sums depend on the number of
# rows
BATCH = 16
VERSION = 1  # of how features are made here; a new one makes all anew
LIBRARIES = {"clip_vit_large_patch14": ("transformers",), "formula": ("scikit-image", "scipy")}


def missing(space: Space, weights: Path | None = None) -> str | None:
    """Say in one sentence which file a space lacks, where it was looked for and where to put it;
    None if nothing.

    Parameters
    ----------
    space : Space
    weights : Path, optional
        Folder of weights, looked at before ``PHOSPHENE_WEIGHTS`` and the caches of torch hub and
        Hugging Face.
    """
    return None if space.network in WITHOUT_WEIGHTS else files.why_missing(space.network, weights)


def stamp(space: Space, weights: Path | None = None) -> str:
    """Hash of all that features of a space depend on: weights, network, layer, preparation,
    versions of libraries.

    Raises
    ------
    PhospheneError
        When the weights are not there.
    """
    return _hashed(facts(space, weights))


def _hashed(known: dict[str, str]) -> str:
    text = "\0".join(f"{k}={v}" for k, v in known.items())
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def contents(space: Space, weights: Path | None = None) -> str:
    """Hash of the files and choices that features of a space are made from, whatever the versions
    of libraries.

    Raises
    ------
    PhospheneError
        When the weights are not there.
    """
    known = facts(space, weights)
    del known["versions"]
    return _hashed(known)


def facts(space: Space, weights: Path | None) -> dict[str, str]:
    """All that features of a space depend on, by name."""
    if space.network == "judge":
        contents = fingerprint()
    elif space.network == "formula":
        contents = ""
    else:
        contents = files.digest(files.found(space.network, weights))
    libraries = ["torch", "torchvision", *LIBRARIES.get(space.network, ())]
    if any(step.by == "pillow" for step in space.preparation.resizes):
        libraries.append("pillow")
    versions = " ".join(f"{name} {version(name).split('+')[0]}" for name in sorted(libraries))
    return {
        "network": space.network,
        "weights": contents,
        "layer": space.layer,
        "preparation": repr(space.preparation),
        "versions": versions,
        "made": f"{VERSION} in batches of {BATCH}",
    }
