"""What the human study's results are made from, and where its answers lie; down here, for the
report to read them.

The trial list is an artefact like any other. Answers are data that people give: they lie in
``answers/`` beside the stages, one folder per trial list, where ``--force`` never comes.
"""

from __future__ import annotations

from pathlib import Path

from phosphene import disk
from phosphene.methods import MODE_FEATURES
from phosphene.pipeline.recipe import Recipe
from phosphene.steps import evaluate
from phosphene.steps.reconstruct import reconstruct_recipe
from phosphene.steps.subject import data_fingerprint
from phosphene.study import Study

VERSION = {"ratings": 2, "rating_scores": 1}


def methods(study: Study) -> list[str]:
    """The kinds of reconstruction that people compare, in the order of
    :data:`phosphene.methods.MODE_FEATURES`.
    """
    chosen = study.rate.methods or study.reconstruct.modes
    return [mode for mode in MODE_FEATURES if mode in chosen]


def ratings_recipe(study: Study) -> Recipe:
    """What the trial list and its pictures are made from."""
    inputs = {
        f"{subject}-data": data_fingerprint(study, subject) for subject in study.data.subjects
    }
    for subject in study.data.subjects:
        inputs |= {
            f"{subject}-{mode}": reconstruct_recipe(study, subject, mode).hash
            for mode in methods(study)
        }
    settings = study.settings("rate", "raters", "trials", "catch", "repeats", "sample")
    settings |= study.settings("decode", "leave_out") | {
        "methods": methods(study),
        "seed": study.seed,
    }
    return Recipe("ratings", study.name, VERSION["ratings"], settings, inputs)


def answers_folder(study: Study) -> Path:
    """Where the answers to a study's trial list lie, with the secret that its links are made
    from.
    """
    recipe = ratings_recipe(study)
    return study.root / "answers" / f"{recipe.name}-{recipe.hash}"


def snapshot(study: Study) -> Path:
    """The table of the answers that were scored last, with who gave them only as a label."""
    return answers_folder(study) / "answers.parquet"


def rating_scores_recipe(study: Study) -> Recipe | None:
    """What the scores of the human study are made from; None where no answers were scored yet."""
    answers = snapshot(study)
    if not answers.exists():
        return None
    inputs = {"ratings": ratings_recipe(study).hash, "answers": disk.entry(answers)[1]}
    inputs |= {
        subject: evaluate.evaluate_recipe(study, subject).hash for subject in study.data.subjects
    }
    settings = study.settings("rate", "least_catch", "least_seconds", "most_fast", "sample") | {
        "seed": study.seed
    }
    settings |= study.settings("evaluate", "bootstrap")
    return Recipe("rating_scores", study.name, VERSION["rating_scores"], settings, inputs)
