"""The human study of a study.

``recipes`` what its results are made from, and where answers are kept · ``trial_list`` which
pictures are shown · ``serving`` links, pages and answers · ``scoring`` what people saw.
"""

from phosphene.steps.ratings.recipes import (
    answers_folder,
    methods,
    rating_scores_recipe,
    ratings_recipe,
)
from phosphene.steps.ratings.scoring import TABLES, score
from phosphene.steps.ratings.serving import answers_given, serve
from phosphene.steps.ratings.trial_list import make_list

__all__ = [
    "TABLES",
    "answers_folder",
    "answers_given",
    "make_list",
    "methods",
    "rating_scores_recipe",
    "ratings_recipe",
    "score",
    "serve",
]
