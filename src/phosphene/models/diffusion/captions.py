"""What the text encoder's window leaves of captions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    from phosphene.models.diffusion.model import LatentDiffusion


def check_captions(
    model: LatentDiffusion, captions: Sequence[Sequence[str]], names: Sequence[object]
) -> None:
    """Warn of captions that the model's window cuts, and refuse those that it makes equal.

    Parameters
    ----------
    model : LatentDiffusion
    captions : sequence of sequence of str
        For each image its captions.
    names : sequence
        What each image is called.

    Raises
    ------
    PhospheneError
        When two images have different captions but what is left of them is the same, and with it
        their contexts.

    Warns
    -----
    UserWarning
        How many captions are cut.
    """
    window = model.context_shape[0]
    ids = model.token_ids([caption for group in captions for caption in group])
    n_cut = sum(len(one) > window for one in ids)
    if not n_cut:
        return
    left: dict[tuple[tuple[int, ...], ...], tuple[int, list[list[int]]]] = {}
    start = 0
    for image, group in enumerate(captions):
        whole = sorted(ids[start : start + len(group)])
        start += len(group)
        # begin, words and end: the end's id stands in the last place of what is cut
        cut = tuple(sorted(tuple(one[: window - 1] if len(one) > window else one) for one in whole))
        other, others = left.setdefault(cut, (image, whole))
        if others != whole:
            raise PhospheneError(
                f"captions of {names[other]!r} and {names[image]!r} differ only beyond the "
                f"{window} tokens that the "
                "text encoder of this model reads, so that both images would have the same c; "
                "write shorter captions, "
                "what differs first."
            )
    warnings.warn(
        f"{n_cut} of {len(ids)} captions are longer than the {window} tokens that the text "
        "encoder of this model "
        "reads; what is beyond is ignored.",
        stacklevel=2,
    )
