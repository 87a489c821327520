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
from phosphene.steps.ratings.serving import admin_file, answers_given, links_file, serve
from phosphene.steps.ratings.trial_list import Ratings, methods

__all__ = [
    "TABLES",
    "RatingScores",
    "Ratings",
    "admin_file",
    "answers_are_scored",
    "answers_folder",
    "answers_given",
    "keep",
    "links_file",
    "methods",
    "serve",
]
