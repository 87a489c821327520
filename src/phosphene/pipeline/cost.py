"""What work costs: files, bytes, memory and time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What making some results takes.

    Attributes
    ----------
    files : int
        Written.
    read_gb, gb : float
        Read from the data, and written.
    memory_gb : float
        Of the process.
    seconds : float
        Of one worker.
    """

    files: int = 1
    read_gb: float = 0.0
    gb: float = 0.0
    memory_gb: float = 0.0
    seconds: float = 0.0


def total(costs: Iterable[Cost]) -> Cost:
    """Costs of work that is done one after the other."""
    costs = list(costs)
    return Cost(
        files=sum(cost.files for cost in costs),
        read_gb=sum(cost.read_gb for cost in costs),
        gb=sum(cost.gb for cost in costs),
        memory_gb=max((cost.memory_gb for cost in costs), default=0.0),
        seconds=sum(cost.seconds for cost in costs),
    )


def of_group(costs: Iterable[Cost]) -> Cost:
    """Cost of results that are made in one pass, each of which knows the time of the whole pass."""
    costs = list(costs)
    together = total(costs)
    return Cost(
        files=together.files,
        read_gb=together.read_gb,
        gb=together.gb,
        memory_gb=together.memory_gb,
        seconds=max((cost.seconds for cost in costs), default=0.0),
    )


@dataclass(frozen=True)
class Rates:
    """Seconds and memory of pieces of the work on this machine; 0 where nothing was timed.

    Attributes
    ----------
    flop : float
        Seconds of one floating-point operation of a matrix product.
    eigh : float
        Seconds of an eigendecomposition, divided by the cube of the matrix's width.
    latent, context, step : float
        Seconds of one picture through the autoencoder, one caption through the text encoder, one
        picture through one denoising step.
    gb, encoding_gb, drawing_gb : float
        Most memory of this process once the model was loaded, pictures were encoded, and pictures
        were drawn.
    """

    flop: float = 0.0
    eigh: float = 0.0
    latent: float = 0.0
    context: float = 0.0
    step: float = 0.0
    gb: float = 0.0
    encoding_gb: float = 0.0
    drawing_gb: float = 0.0
