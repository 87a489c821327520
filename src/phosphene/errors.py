"""The one error that a user is meant to read, and keeping quiet about what is known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class PhospheneError(ValueError):
    """Bad input, said in one sentence.

    The sentence names the file or setting, what was found, what was expected and what to do.
    The command line prints it and exits with code 1; ``-v`` shows the traceback.
    """


class NoDataError(PhospheneError):
    """A region without a voxel that has data in every session: an error only where somebody chose
    that region.
    """


@contextmanager
def without_warnings(when: bool = True) -> Iterator[None]:
    """Keep quiet where warnings say nothing new, such as about controls that must fail."""
    with warnings.catch_warnings():
        if when:
            warnings.simplefilter("ignore", UserWarning)
        yield
