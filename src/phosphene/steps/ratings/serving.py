"""The rating server of a study: its links, its pages, its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from phosphene.errors import PhospheneError
from phosphene.pipeline.graph import make
from phosphene.ratings import check_installed
from phosphene.ratings.server import links
from phosphene.steps.ratings.scoring import answers_folder
from phosphene.steps.ratings.trial_list import Ratings
from phosphene.study import Compute, Study


def open_study(study: Study, compute: Compute) -> tuple[Any, dict[int, str], str]:
    """Open a study's answers; returns them with the raters' tokens by slot and the token of the
    progress page.
    """
    check_installed()
    from phosphene.ratings.server import answers

    ratings = Ratings(study)
    trials = make([ratings], compute)[0].table("trials")
    folder = answers_folder(study)
    secret = links.secret(folder / "secret")
    tokens = {
        int(slot): links.token(secret, f"rater/{slot}") for slot in sorted(set(trials["slot"]))
    }
    url = study.rate.database or f"sqlite:///{folder / 'answers.sqlite'}"
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
        Given all links, name -> address, once connections are taken; those of raters are also in
        ``links.csv``.
    """
    opened, tokens, admin = open_study(study, compute)
    from phosphene.ratings.server import serving
    from phosphene.ratings.server.app import create_app

    folder = Ratings(study).artefact.path / "pictures"
    app = create_app(opened, folder, texts(study), admin, study.rate.break_every)

    def ready(listening: str) -> None:
        found = links.addresses(base_url or listening, tokens, admin)
        # a mail merge must not send that one
        own = {name: link for name, link in found.items() if name != "admin"}
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
