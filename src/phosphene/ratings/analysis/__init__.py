"""What raters' answers say: tables in, tables out.

``excluding``: who is left out · ``methods``: accuracy and comparisons · ``logistic``: the same on
the scale of odds · ``agreeing``: with oneself and with others · ``metrics``: which metric tells
what people see · ``crossed``: the variance under all of it, when raters and images are both a
sample. `answers` is the table of ``Answers.export`` everywhere.
"""

from phosphene.ratings.analysis.agreeing import agreement, consistency
from phosphene.ratings.analysis.excluding import exclusions, kept
from phosphene.ratings.analysis.logistic import mixed
from phosphene.ratings.analysis.methods import accuracy, compare
from phosphene.ratings.analysis.metrics import predicts

__all__ = [
    "accuracy",
    "agreement",
    "compare",
    "consistency",
    "exclusions",
    "kept",
    "mixed",
    "predicts",
]
