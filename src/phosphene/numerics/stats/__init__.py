"""Small statistics: arrays in, numbers out.

``intervals`` by resampling images, over subjects, or both · ``comparisons`` of methods on the same
images, permutation p and corrections for many tests · ``maps`` of voxels, ``rois`` of them ·
``noise`` how much of a measurement repeats.
"""

from phosphene.numerics.stats.comparisons import (
    PairedDifference,
    compare_methods,
    fdr_bh,
    fdr_by,
    holm,
    paired_bootstrap,
    permutation_p,
    signed_rank,
)
from phosphene.numerics.stats.intervals import (
    SubjectSummary,
    bootstrap_ci,
    hierarchical_bootstrap,
    subject_summary,
)
from phosphene.numerics.stats.maps import (
    MapDifference,
    correlation_map,
    correlation_p,
    difference_of_correlations,
    normalised_correlation,
    permuted_correlation_p,
)
from phosphene.numerics.stats.noise import reliability
from phosphene.numerics.stats.rois import roi_draws, roi_summary, unique_draws

__all__ = [
    "MapDifference",
    "PairedDifference",
    "SubjectSummary",
    "bootstrap_ci",
    "compare_methods",
    "correlation_map",
    "correlation_p",
    "difference_of_correlations",
    "fdr_bh",
    "fdr_by",
    "hierarchical_bootstrap",
    "holm",
    "normalised_correlation",
    "paired_bootstrap",
    "permutation_p",
    "permuted_correlation_p",
    "reliability",
    "roi_draws",
    "roi_summary",
    "signed_rank",
    "subject_summary",
    "unique_draws",
]
