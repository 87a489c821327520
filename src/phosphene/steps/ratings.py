"""The human study of a study: its trial list and pictures, its links and server, its scores. Only
this file of the package knows a `Study`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from phosphene import disk
from phosphene.data.dataset import Photographs
from phosphene.errors import PhospheneError
from phosphene.models import diffusion
from phosphene.models.preparing import Pictures
from phosphene.pipeline.formats import parquet
from phosphene.pipeline.step import make
from phosphene.pipeline.store import Artefact, Store
from phosphene.ratings import analysis, check_installed
from phosphene.ratings.server import links
from phosphene.ratings.trials import design
from phosphene.ratings.trials.pairing import pairs
from phosphene.seeds import rng
from phosphene.steps import evaluate
from phosphene.steps.rating_recipes import (
    answers_folder,
    methods,
    rating_scores_recipe,
    ratings_recipe,
    snapshot,
)
from phosphene.steps.reconstruct import reconstruct
from phosphene.steps.subject import dataset, items
from phosphene.study import Compute, Rate, Study

PICTURES_PER_PART = 500
# pixels: pictures up to this side are PNG; larger ones JPEG, or a phone would load a megabyte per
# trial
LOSSLESS = 128
QUALITY = 95  # of the JPEG, with full resolution of colour
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


# Make: what is shown


def make_list(study: Study, compute: Compute) -> Artefact:
    """Make the trial list of a study and the pictures that it shows, pulling the reconstructions.

    Tables `trials` (:func:`phosphene.ratings.trials.design.plan`) and `picture_ids`
    (:func:`phosphene.ratings.trials.design.pictures`), files ``pictures/<file>.png`` (or ``.jpg``)
    with one width and height and without metadata.
    """
    recipe = ratings_recipe(study)
    if not Store(study.root).artefact(recipe).done:
        _warn_of_cuts(study)
        for subject in study.data.subjects:
            if not dataset(study, subject).photographs:
                raise PhospheneError(
                    f"{study.data_root}: it is not known which photographs {subject} saw, so "
                    "nobody can choose between "
                    "reconstructions of them; the human study needs data with photographs."
                )
            for mode in methods(study):
                reconstruct(study, subject, mode, compute)
    parts = -(-len(_files(planned(study, recipe.digest))) // PICTURES_PER_PART)
    return make(study, recipe, parts, partial(_ratings_part, study=study), compute)


def _warn_of_cuts(study: Study) -> None:
    """Warn where the test images do not suffice for the trials and catch trials of the settings."""
    images = pool(study)
    n_pairs = len(pairs(images, (study.seed, "")))
    rate = study.rate
    settings = design.Sizes(rate.raters, rate.trials, rate.catch, rate.repeats)
    sizes = settings.within(n_pairs, len(methods(study)))
    enough = 5 * (rate.trials + rate.catch)
    if sizes != settings.within(enough, len(methods(study))):
        warnings.warn(
            f"{images['image'].nunique()} test images make {n_pairs} pairs, and a blind list "
            "shows a rater one "
            f"photograph of a pair: {sizes.trials} trials per method (rate.trials: {rate.trials}) "
            f"and {sizes.catch} "
            f"catch trials (rate.catch: {rate.catch}).",
            stacklevel=3,
        )


@cache
def planned(study: Study, digest: str) -> pd.DataFrame:
    """The trial list; `digest` is that of its recipe: it holds a fingerprint of the data, which
    nobody can guess.
    """
    sizes = design.Sizes(study.rate.raters, study.rate.trials, study.rate.catch, study.rate.repeats)
    return design.plan(pool(study), methods(study), sizes, (study.seed, digest))


def pool(study: Study) -> pd.DataFrame:
    """All test pictures: subject, item, image."""
    parts = [
        items(study, dataset(study, subject))[["image"]].assign(subject=subject)
        for subject in study.data.subjects
    ]
    return pd.concat([part.rename_axis("item").reset_index() for part in parts], ignore_index=True)


def _ratings_part(artefact: Artefact, index: int, *, study: Study) -> None:
    trials = planned(study, artefact.recipe.digest)
    files = _files(trials).iloc[index * PICTURES_PER_PART : (index + 1) * PICTURES_PER_PART]
    shown = _Album(study)
    with artefact.part(index) as part:
        for row in files.itertuples():
            ending, data = encoded(shown.picture(row.method, row.subject, row.item))
            part.file(f"pictures/{row.file}.{ending}", data)
        if index == 0:
            part.table("trials", trials)
            part.table("picture_ids", design.pictures(trials))


def _files(trials: pd.DataFrame) -> pd.DataFrame:
    """The picture files of a trial list, one row per file."""
    return design.pictures(trials).drop_duplicates("file")


class _Album:
    """Opens photographs and reconstructions by subject and item, all at the size of the
    reconstructions.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._seen: dict[str, Pictures] = {}
        self._made: dict[tuple[str, str], Pictures] = {}
        self._side = len(self.picture(methods(study)[0], study.data.subjects[0], 0))

    def picture(self, method: str, subject: str, item: int) -> NDArray[np.uint8]:
        """A reconstruction; with method "" the photograph, with "catch" the photograph slightly
        changed.
        """
        if method in ("", design.CATCH):
            if subject not in self._seen:
                data = dataset(self._study, subject)
                self._seen[subject] = Photographs(data, items(self._study, data)["image"].tolist())
            found = diffusion.resize(np.asarray(self._seen[subject][item])[None], self._side)[0]
            return found if method == "" else changed(found)
        if (method, subject) not in self._made:
            self._made[method, subject] = self._sample(method, subject)
        return np.asarray(self._made[method, subject][item])

    def _sample(self, method: str, subject: str) -> Pictures:
        samples = evaluate.reconstructed(self._study, subject, method)
        sample = 0 if len(samples) == 1 else self._study.rate.sample
        if sample >= len(samples):
            raise PhospheneError(
                f"rate.sample: found {sample}, but {method} of {subject} has {len(samples)} "
                "samples; expected 0 to "
                f"{len(samples) - 1}."
            )
        return samples[sample]


def changed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photograph a little softer and paler: not the same file, but plainly the same
    photograph.
    """
    soft = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(len(picture) / 128))
    return np.asarray(ImageEnhance.Color(soft).enhance(0.8))


def encoded(picture: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Ending and bytes of a picture file without metadata."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    stream = io.BytesIO()
    if max(image.size) <= LOSSLESS:
        image.save(stream, "PNG", optimize=True)
        return "png", stream.getvalue()
    image.save(
        stream, "JPEG", quality=QUALITY, subsampling=0
    )  # "optimize" fails on pictures full of noise
    return "jpg", stream.getvalue()


# Serve: links, database, pages


def open_study(study: Study, compute: Compute) -> tuple[Any, dict[int, str], str]:
    """Open a study's answers; returns them with the raters' tokens by slot and the token of the
    progress page.
    """
    check_installed()
    from phosphene.ratings.server import answers

    trials = make_list(study, compute).table("trials")
    folder = answers_folder(study)
    secret = links.secret(folder / "secret")
    tokens = {
        int(slot): links.token(secret, f"rater/{slot}") for slot in sorted(set(trials["slot"]))
    }
    url = study.rate.database or f"sqlite:///{folder / 'answers.sqlite'}"
    return (
        answers.open_answers(url, ratings_recipe(study).hash, trials, tokens),
        tokens,
        links.token(secret, "admin"),
    )


def serve(
    study: Study,
    compute: Compute,
    address: tuple[str, int],
    base_url: str,
    say: Callable[[dict[str, str]], None],
) -> None:
    """Serve a study's pages until the process is stopped.

    Parameters
    ----------
    address : (str, int)
        Host and port to listen on.
    base_url : str
        What raters' browsers call the server, "" for the address itself.
    say : callable
        Given all links, name -> address, once connections are taken; those of raters are also in
        ``links.csv``.
    """
    opened, tokens, admin = open_study(study, compute)
    from phosphene.ratings.server import serving
    from phosphene.ratings.server.app import create_app

    folder = make_list(study, compute).path / "pictures"
    app = create_app(opened, folder, texts(study), admin, study.rate.break_every)

    def ready(listening: str) -> None:
        found = links.addresses(base_url or listening, tokens, admin)
        own = {
            name: link for name, link in found.items() if name != "admin"
        }  # a mail merge must not send that one
        links.write(answers_folder(study) / "links.csv", own)
        say(found)

    try:
        serving.serve(app, *address, ready)
    finally:
        opened.close()


def texts(study: Study) -> Any:
    """What the pages say of a study."""
    from phosphene.ratings.server.app import Texts

    rate = study.rate
    consent = ""
    if rate.consent:
        path = study.folder / rate.consent
        try:
            consent = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PhospheneError(
                f"rate.consent: {path} cannot be read as a text file ({error})."
            ) from None
        if not consent.strip():
            raise PhospheneError(
                f"rate.consent: {path} is empty; write the text of consent, or set it to ''."
            )
    return Texts(rate.title, rate.contact, consent)


# Score: what people saw


def answers_given(study: Study, compute: Compute) -> pd.DataFrame:
    """All answers in a study's database so far."""
    if not study.rate.database and not (answers_folder(study) / "answers.sqlite").exists():
        raise PhospheneError(
            f"{answers_folder(study)}: no answers yet for this trial list; `phosphene rate STUDY "
            "serve` collects them, "
            "`--import FILE` takes them from elsewhere."
        )
    opened, _, _ = open_study(study, compute)
    try:
        found: pd.DataFrame = opened.export()
    finally:
        opened.close()
    if found.empty:
        raise PhospheneError(f"study '{study.name}': nobody has answered yet.")
    return found


def score(study: Study, answers: pd.DataFrame, compute: Compute) -> Artefact:
    """Score answers; they are kept beside the trial list, so that the report finds their scores.

    Tables: `exclusions`, `accuracy`, `compare`, `odds`, `consistency`, `agreement`, `predicts`
    (:mod:`phosphene.ratings.analysis`), and `absent`: what could not be asked, and why.
    """
    check_installed(("statsmodels",))
    _keep(study, answers)
    for subject in study.data.subjects:
        evaluate.evaluate(study, subject, compute)
    recipe = rating_scores_recipe(study)
    assert recipe is not None
    return make(study, recipe, 1, partial(_score_part, study=study), Compute(progress=False))


def _keep(study: Study, answers: pd.DataFrame) -> None:
    target = snapshot(study)
    links.private(target.parent)
    aside = target.with_suffix(".tmp")
    aside.write_bytes(parquet(answers))
    disk.move(aside, target)


def _score_part(artefact: Artefact, index: int, *, study: Study) -> None:
    with artefact.part(index) as part:
        tables = scored(study, pd.read_parquet(snapshot(study)), _per_image(study))
        for name in TABLES:
            part.table(name, tables[name])


def scored(study: Study, answers: pd.DataFrame, per_image: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table of the scores; what cannot be asked of these answers is empty, and named in
    `absent`.
    """
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
    table = evaluate.all_tables(study, "per_image", Compute(progress=False))
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
