"""Feature spaces in which pictures are compared.

``spaces`` which layer of which network, for pictures prepared in which way · ``weights`` where the
files of networks are · ``stamps`` what features depend on · ``networks`` and ``formulas`` what
computes them · ``extraction`` pictures through networks, in batches, kept in a ``cache``.
"""
