"""Identification: whether a reconstruction, or a decoded embedding, is closer to its own original
than to others.

``similarity`` small matrices of correlations out of large features: :func:`correlations` once, then
:func:`choose` what stands for several samples of a picture · ``two_way`` :func:`identify` among all
or some distractors, and :func:`two_way_identification`, both in one call · ``retrieving`` the one
among hundreds. Arrays in, numbers out.
"""

from phosphene.numerics.identification.retrieving import Retrieval, retrieval
from phosphene.numerics.identification.similarity import Rule, choose, correlations
from phosphene.numerics.identification.two_way import (
    Identification,
    identify,
    two_way_identification,
)

__all__ = [
    "Identification",
    "Retrieval",
    "Rule",
    "choose",
    "correlations",
    "identify",
    "retrieval",
    "two_way_identification",
]
