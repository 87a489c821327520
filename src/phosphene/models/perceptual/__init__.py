"""Feature spaces in which pictures are compared.

``spaces`` which layer of which network, for pictures prepared in which way · ``networks`` and where
their ``weights`` lie · ``formulas`` spaces that need no weights · ``extraction`` pictures through
networks, in batches, kept in a ``cache``.
"""

from phosphene.models.perceptual.extraction import features, missing, stamp
from phosphene.models.perceptual.spaces import Space

__all__ = ["Space", "features", "missing", "stamp"]
