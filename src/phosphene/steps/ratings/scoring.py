"""Rating scores: what people saw, and where their answers are kept.

Answers are data that people give. They lie in ``answers/<study>/`` beside the stages, one folder
for each trial list, where no command removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.pipeline.formats import parquet
from phosphene.pipeline.step import Key, Step
from phosphene.pipeline.store import Part
from phosphene.seeds import rng
from phosphene.steps import evaluate
from phosphene.steps.evaluate import Evaluate
from phosphene.steps.ratings.trial_list import Ratings, methods
from phosphene.study import Compute, Rate, Study

if TYPE_CHECKING:
    import pandas as pd

TABLES = (
    "exclusions",
    "accuracy",
    "compare",
    "odds",
    "consistency",
    "agreement",
    "predicts",
    "absent",
)


@dataclass(frozen=True, eq=False)
class RatingScores(Step):
    """What people saw, from the answers that were kept last.

    Tables: `exclusions`, `accuracy`, `compare`, `odds`, `consistency`, `agreement`, `predicts`
    (:mod:`phosphene.ratings.analysis`), and `absent`: what could not be asked, and why.
    """

    stage: ClassVar[str] = "rating_scores"
    version: ClassVar[int] = 2
    sections: ClassVar[tuple[str, ...]] = ("rate", "evaluate")

    @property
    def name(self) -> str:
        """The study."""
        return self.study.name

    def settings(self) -> dict[str, Any]:
        """Who is left out, and draws."""
        study = self.study
        settings = study.settings("rate", "least_catch", "least_seconds", "most_fast", "sample")
        return {**settings, **study.settings("evaluate", "bootstrap"), "seed": study.seed}

    @property
    def ratings(self) -> Ratings:
        """The trial list."""
        return Ratings(self.study)

    def inputs(self) -> Mapping[str, Step | Key]:
        """Answers, the trial list they belong to, and the scores that are compared with them."""
        inputs: dict[str, Step | Key] = {
            # the answers are here, whether or not the pictures that were shown still are
            "ratings": Key(self.ratings.hash),
            "answers": Key(disk.entry(snapshot(self.study))[1]),
        }
        return inputs | {s: Evaluate(self.study, s) for s in self.study.data.subjects}

    def check(self, compute: Compute) -> None:
        """Refuse to begin without the libraries."""
        from phosphene.ratings import check_installed

        check_installed(("statsmodels",))

    def make_part(self, part: Part, index: int, compute: Compute) -> None:
        """Score the answers."""
        import pandas as pd

        answers = pd.read_parquet(snapshot(self.study))
        tables = scored(self.study, answers, _per_image(self.study))
        for name in TABLES:
            part.table(name, tables[name])


def answers_folder(study: Study) -> Path:
    """Where the answers to a study's trial list lie, with the secret that its links are made
    from.
    """
    return study.root / "answers" / study.name / Ratings(study).hash


def snapshot(study: Study) -> Path:
    """The table of the answers that were scored last, with who gave them only as a label."""
    return answers_folder(study) / "answers.parquet"


def answers_are_scored(study: Study) -> bool:
    """Whether answers were kept to be scored."""
    return (study.root / "answers").is_dir() and snapshot(study).exists()


def keep(study: Study, answers: pd.DataFrame) -> None:
    """Keep answers beside the trial list, so that the report finds their scores."""
    from phosphene.ratings.server import links

    target = snapshot(study)
    links.private(target.parent)
    aside = target.with_suffix(".tmp")
    aside.write_bytes(parquet(answers))
    disk.move(aside, target)


def scored(study: Study, answers: pd.DataFrame, per_image: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table of the scores; what cannot be asked of these answers is empty, and named in
    `absent`.
    """
    import pandas as pd

    from phosphene.ratings import analysis

    rate = study.rate
    answers = answers.assign(method=_ordered(answers["method"], methods(study)))
    excluded = analysis.exclusions(answers, rate.least_catch, rate.least_seconds, rate.most_fast)
    kept = analysis.kept(answers, excluded)
    n_bootstrap = study.evaluate.bootstrap
    random = partial(rng, study.seed, "ratings")
    asked: dict[str, Callable[[], pd.DataFrame]] = {
        "accuracy": lambda: analysis.accuracy(
            kept, n_bootstrap=n_bootstrap, rng=random("accuracy")
        ),
        "compare": lambda: analysis.compare(kept),
        "odds": lambda: analysis.mixed(kept),
        "agreement": lambda: analysis.agreement(
            kept, n_bootstrap=n_bootstrap, rng=random("agreement")
        ),
        "predicts": lambda: analysis.predicts(
            kept, per_image, selection=rule(rate), n_bootstrap=n_bootstrap, rng=random("predicts")
        ),
    }
    found = {"exclusions": excluded, "consistency": analysis.consistency(answers)}
    absent = []
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except PhospheneError as error:
            found[name] = pd.DataFrame()
            absent.append((name, str(error)))
    return found | {"absent": pd.DataFrame(absent, columns=["table", "reason"], dtype=str)}


def _ordered(names: pd.Series, known: list[str]) -> pd.Categorical:
    """Methods in the study's order, others after them."""
    import pandas as pd

    others = sorted(set(names.astype(str)) - set(known))
    return pd.Categorical(names.astype(str), categories=[*known, *others])


def rule(rate: Rate) -> str:
    """Which of the machine's scores are of what people saw: those of the first sample, else of all
    of them.
    """
    return "single" if rate.sample == 0 else "mean"


def _per_image(study: Study) -> pd.DataFrame:
    """Scores of all measures per picture; where there is one sample, its only row goes by the name
    of :func:`rule`.
    """
    import pandas as pd

    table = evaluate.all_tables(study, "per_image")
    if table.empty:
        return pd.DataFrame(
            columns=[
                "preset",
                "metric",
                "direction",
                "selection",
                "value",
                "image",
                "subject",
                "mode",
            ]
        )
    rules = table.groupby(["subject", "mode", "source", "preset"])["selection"].transform("nunique")
    return table.assign(selection=table["selection"].where(rules > 1, rule(study.rate)))
