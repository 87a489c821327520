"""The human study of a study.

``trial_list`` which pictures are shown · ``scoring`` what people saw, and where answers are kept ·
``serving`` links, pages and answers.
"""

from phosphene.steps.ratings.scoring import (
    TABLES,
    RatingScores,
    answers_are_scored,
    answers_folder,
    keep,
)
from phosphene.steps.ratings.serving import answers_given, serve
from phosphene.steps.ratings.trial_list import Ratings, methods

__all__ = [
    "TABLES",
    "RatingScores",
    "Ratings",
    "answers_are_scored",
    "answers_folder",
    "answers_given",
    "keep",
    "methods",
    "serve",
]
