"""The rating server of a study: its links, its pages, its answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from phosphene.errors import PhospheneError
from phosphene.pipeline.graph import make
from phosphene.ratings import check_installed
from phosphene.ratings.server import links
from phosphene.reading import read_text
from phosphene.steps.ratings.scoring import answers_folder
from phosphene.steps.ratings.trial_list import Ratings
from phosphene.study import Compute, Rate, Study

if TYPE_CHECKING:
    from phosphene.ratings.server.consent import Texts

CONTACT = {"contact": "whom to ask"}
# settings whose paragraphs the built-in text of consent has, and what raters learn from them
STATED = {
    "organiser": "who runs the study",
    "pay": "what they get",
    "retention": "how long answers are kept",
    "legal_basis": "on which legal basis",
    "complaints": "where to complain",
}


def open_study(study: Study, compute: Compute) -> tuple[Any, dict[int, str], str]:
    """Open a study's answers; returns them with the raters' tokens by slot and the token of the
    progress page.
    """
    check_installed()
    import sqlalchemy as sa

    from phosphene.ratings.server import answers

    ratings = Ratings(study)
    trials = make([ratings], compute)[0].table("trials")
    folder = answers_folder(study)
    secret = links.secret(folder / "secret")
    tokens = {
        int(slot): links.token(secret, f"rater/{slot}") for slot in sorted(set(trials["slot"]))
    }
    own = sa.URL.create("sqlite", database=str(folder / "answers.sqlite"))
    url = study.rate.database or own
    return (
        answers.open_answers(url, ratings.hash, trials, tokens),
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
        Given all links, name -> address, once connections are taken; they are also in
        :func:`links_file` and :func:`admin_file`.
    """
    app_texts = texts(study)
    warn_of_gaps(study.rate)
    opened, tokens, admin = open_study(study, compute)
    from phosphene.ratings.server import serving
    from phosphene.ratings.server.app import create_app

    folder = Ratings(study).artefact.path / "pictures"
    app = create_app(opened, folder, app_texts, admin, study.rate.break_every)

    def ready(listening: str) -> None:
        found = links.addresses(base_url or listening, tokens, admin)
        # a mail merge must not send that one
        own = {name: link for name, link in found.items() if name != "admin"}
        links.write(links_file(study), own)
        links.write(admin_file(study), {"admin": found["admin"]})
        say(found)

    try:
        serving.serve(app, *address, ready)
    finally:
        opened.close()


def links_file(study: Study) -> Path:
    """The links of raters, for a mail merge."""
    return answers_folder(study) / "links.csv"


def admin_file(study: Study) -> Path:
    """The link of the progress page."""
    return answers_folder(study) / "admin.csv"


def warn_of_gaps(rate: Rate) -> None:
    """Warn of what the page of consent does not say."""
    expected = CONTACT if rate.consent else STATED | CONTACT
    if gaps := {name: meaning for name, meaning in expected.items() if not getattr(rate, name)}:
        warnings.warn(
            f"{', '.join(f'rate.{name}' for name in gaps)}: empty, so raters are not told "
            f"{', '.join(gaps.values())}; fill in these settings, or give a text of your own "
            "(rate.consent)",
            stacklevel=3,
        )


def texts(study: Study) -> Texts:
    """What the pages say of a study."""
    from phosphene.ratings.server.consent import Texts

    rate = study.rate
    filled = {name: getattr(rate, name) for name in (*STATED, *CONTACT, "title", "least_age")}
    if not rate.consent:
        return Texts(**filled)
    path = study.folder / rate.consent
    try:
        consent = read_text(path)
    except (OSError, PhospheneError) as error:
        raise PhospheneError(f"rate.consent: {error}") from None
    if not consent.strip():
        raise PhospheneError(
            f"rate.consent: {path} is empty; write the text of consent, or set it to ''."
        )
    return Texts(**filled, consent=consent)


def answers_given(study: Study, compute: Compute) -> pd.DataFrame:
    """All answers in a study's database so far."""
    if not study.rate.database and not (answers_folder(study) / "answers.sqlite").exists():
        raise PhospheneError(
            f"{answers_folder(study)}: no answers yet for this trial list{_elsewhere(study)}; "
            "`phosphene rate serve STUDY` collects them, `--import FILE` takes them from elsewhere."
        )
    opened, _, _ = open_study(study, compute)
    try:
        found: pd.DataFrame = opened.export()
    finally:
        opened.close()
    if found.empty:
        raise PhospheneError(f"study '{study.name}': nobody has answered yet.")
    return found


def _elsewhere(study: Study) -> str:
    """Where answers to other trial lists of the study lie."""
    answers = study.root / "answers"
    # the first edition named folders by study and trial list
    folders = [*answers.glob(f"{study.name}/*"), *answers.glob(f"{study.name}-*")]
    others = [folder for folder in folders if (folder / "answers.sqlite").exists()]
    names = ", ".join(sorted(str(folder) for folder in others))
    return f" (answers to other trial lists are in {names})" if others else ""
