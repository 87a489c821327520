"""The text that a rater agrees to, word for word as it is shown and stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined

SECONDS_PER_TRIAL = 4
LEAD = (
    "You will see a photograph and, below it, two pictures. You choose the picture that is more "
    "like the photograph. There are {trials} such choices; they take about {minutes}, with breaks."
)


@dataclass(frozen=True)
class Texts:
    """What a study says of itself.

    Attributes
    ----------
    title, contact : str
        Heading of the pages; who answers questions.
    consent : str
        Paragraphs of a text of consent; "" for the built-in text, which is made from the other
        fields. Paragraphs whose field is empty are left out.
    organiser, pay, retention, legal_basis, complaints : str
        Who runs the study; what raters get; how long answers are kept; why they may be processed;
        where to complain.
    least_age : int
        In years.
    """

    title: str = "Which picture is more alike?"
    contact: str = ""
    consent: str = ""
    organiser: str = ""
    pay: str = ""
    retention: str = ""
    legal_basis: str = ""
    complaints: str = ""
    least_age: int = 18


@dataclass(frozen=True)
class Agreement:
    """The text of one rater.

    Attributes
    ----------
    lead : str
        What the task is and how long it takes.
    paragraphs : tuple of (str, str)
        Heading ("" in a study's own text) and body.
    """

    lead: str
    paragraphs: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """All of it as plain text."""
        return "\n\n".join(
            [self.lead, *("\n".join(filter(None, paragraph)) for paragraph in self.paragraphs)]
        )

    @property
    def sha256(self) -> str:
        """Hash of :attr:`text`, which tells whether a rater agreed to this very text."""
        return text_hash(self.text)


@lru_cache
def agreement(texts: Texts, n_trials: int) -> Agreement:
    """Make the text of raters with `n_trials` trials."""
    lead = LEAD.format(trials=n_trials, minutes=duration(n_trials))
    if texts.consent:
        own = texts.consent.replace("\r\n", "\n").split("\n\n")
        paragraphs = [("", paragraph.strip()) for paragraph in own if paragraph.strip()]
        if texts.contact:
            paragraphs.append(("", f"Questions? {texts.contact}"))
        return Agreement(lead, tuple(paragraphs))
    environment = Environment(
        loader=PackageLoader("phosphene.ratings.server"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    built_in = environment.get_template("consent.txt").render(texts=texts)
    titled = (part.strip().partition("\n") for part in built_in.split("\n\n") if part.strip())
    return Agreement(lead, tuple((title, " ".join(body.split())) for title, _, body in titled))


def duration(n_trials: int) -> str:
    """How long so many trials take, in words."""
    minutes = max(1, round(n_trials * SECONDS_PER_TRIAL / 60))
    return f"{minutes} minute{'' if minutes == 1 else 's'}"


def text_hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
