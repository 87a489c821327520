"""Small statistics: arrays in, numbers out.

``intervals`` by resampling images, over subjects, or both · ``comparisons`` of methods on the same images, permutation
p and corrections for many tests · ``noise`` how much of a measurement repeats.
"""

from phosphene.stats.comparisons import (
    PairedDifference,
    compare_methods,
    fdr_bh,
    holm,
    paired_bootstrap,
    permutation_p,
    signed_rank,
)
from phosphene.stats.intervals import SubjectSummary, bootstrap_ci, hierarchical_bootstrap, subject_summary
from phosphene.stats.noise import reliability

__all__ = [
    "PairedDifference", "SubjectSummary", "bootstrap_ci", "compare_methods", "fdr_bh", "hierarchical_bootstrap", "holm",
    "paired_bootstrap", "permutation_p", "reliability", "signed_rank", "subject_summary",
]  # fmt: skip
