"""The one error that a user is meant to read, and a kind of it that callers may handle."""

from __future__ import annotations


class PhospheneError(ValueError):
    """Bad input, said in one sentence.

    The sentence names the file or setting, what was found, what was expected and what to do.
    The command line prints it and exits with code 1; ``-v`` shows the traceback.
    """


class NoDataError(PhospheneError):
    """A region without a voxel that has data in every session: an error only where somebody chose
    that region.
    """
