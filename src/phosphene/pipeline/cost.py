"""What work costs: files, bytes, memory and hours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one stage of one subject will take; `files` and `gb` are written, `read_gb` is read from
    the data.
    """

    subject: str
    stage: str
    files: int
    read_gb: float
    gb: float
    memory_gb: float
    hours: float


@dataclass(frozen=True)
class Rates:
    """Seconds and memory of pieces of the work on this machine."""

    flop: float
    eigh: float  # of a matrix of one column, to be multiplied by its width cubed
    latent: float
    context: float
    step: float
    # most memory of this process so far: once the model was loaded, photographs encoded, pictures
    # drawn
    gb: float
    encoding_gb: float
    drawing_gb: float
