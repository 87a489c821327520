"""An attacker of the human study's blinding: everything that browsers receive, pooled over raters,
and strategies.

A strategy scores a candidate; of the two candidates of a trial the one with the higher score is
chosen. Equal scores are no opinion. A strategy that is right far more, or far less, often than half
of the time has broken the blinding. No strategy looks at what the pictures show beyond comparing
candidates with each other.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.stats import binomtest
from starlette.testclient import TestClient

from support.ratings_example import agree

SIDES = ("left", "right")


@dataclass(frozen=True)
class Picture:
    """A picture as a browser receives it."""

    id: str
    headers: str
    length: int
    compressed: int
    content: str
    entropy: int
    thumbnail: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """A trial as a browser receives it; `reply` is the JSON and `headers` its headers."""

    slot: int
    position: int
    photo: Picture
    left: Picture
    right: Picture
    reply: dict
    headers: str

    @property
    def candidates(self):
        return self.left, self.right

    def other(self, candidate):
        return self.right if candidate is self.left else self.left


def browse(app, tokens, totals):
    """Go through the lists of all raters and keep what comes."""
    client = TestClient(app, follow_redirects=False)
    chance = np.random.default_rng(0)
    trials = []
    for slot, token in sorted(tokens.items()):
        agree(client, f"/r/{token}")
        for position in range(totals[slot]):
            reply = client.get(f"/r/{token}/trial/{position}.json")
            seen = {
                place: received(
                    reply.json()[place], client.get(f"/r/{token}/picture/{reply.json()[place]}")
                )
                for place in ("photo", *SIDES)
            }
            trials.append(
                Trial(
                    slot,
                    position,
                    **seen,
                    reply=reply.json(),
                    headers=str(sorted(reply.headers.items())),
                )
            )
            body = {"position": position, "choice": SIDES[chance.integers(2)], "milliseconds": 900}
            assert client.post(f"/r/{token}/answer", json=body).status_code == 200
    return trials


def received(identity, response):
    """A picture from its response."""
    assert response.status_code == 200
    pixels = np.asarray(Image.open(io.BytesIO(response.content)))
    thumbnail = pixels.astype(float).reshape(8, -1, 8, pixels.shape[1] // 8, 3).mean((1, 3)).ravel()
    thumbnail = (thumbnail - thumbnail.mean()) / (thumbnail.std() + 1e-9)
    return Picture(
        identity,
        headers=str(sorted(response.headers.items())),
        length=len(response.content),
        compressed=len(zlib.compress(response.content)),
        content=hashlib.sha256(pixels.tobytes()).hexdigest(),
        entropy=len(zlib.compress(pixels.tobytes())),
        thumbnail=tuple(thumbnail),
    )


class Pooled:
    """Trials of one list or of several, counted in the ways that strategies need."""

    def __init__(self, trials):
        self.trials = trials
        self.of_photo = defaultdict(list)
        self.photos = defaultdict(set)
        self.shown = Counter()
        self.ids = Counter()
        for trial in trials:
            self.of_photo[trial.photo.content].append(trial)
            self.ids.update([trial.photo.id, trial.left.id, trial.right.id])
            for one in trial.candidates:
                self.photos[one.content].add(trial.photo.content)
                self.shown[one.content] += 1

    def beside(self, one, trial):
        """In how many other trials of the photograph the candidate is shown."""
        others = [other for other in self.of_photo[trial.photo.content] if other is not trial]
        return sum(one.content in (other.left.content, other.right.content) for other in others)

    def resemblance(self, one, trial):
        """How much the candidate looks like candidates of other trials of the photograph."""
        others = [other for other in self.of_photo[trial.photo.content] if other is not trial]
        return sum(
            max(float(np.dot(one.thumbnail, c.thumbnail)) for c in other.candidates)
            for other in others
        )

    def recency(self, one, trial):
        """The last position before this one at which the candidate was shown."""
        earlier = [
            other.position
            for other in self.trials
            if other.position < trial.position
            and one.content in (other.left.content, other.right.content)
        ]
        return max(earlier, default=-1)

    def stays(self, one, trial):
        """Whether the candidate was on the same side before, beside the same photograph."""
        side = "left" if one is trial.left else "right"
        others = [
            other for other in self.of_photo[trial.photo.content] if other.position < trial.position
        ]
        return any(getattr(other, side).content == one.content for other in others)

    def belief(self, one, trial):
        """How well the candidate belongs to the photograph, if every picture belongs to one
        photograph only.
        """
        return self._beliefs[trial.photo.content, one.content]

    @cached_property
    def _beliefs(self):
        belief = {(t.photo.content, one.content): 1.0 for t in self.trials for one in t.candidates}
        for _ in range(40):
            votes = Counter()
            sums = Counter()
            for trial in self.trials:
                keys = [(trial.photo.content, one.content) for one in trial.candidates]
                total = sum(belief[key] for key in keys) + 1e-30
                for key in keys:
                    votes[key] += belief[key] / total
            for (_, content), value in votes.items():
                sums[content] += value
            belief = {key: value / (sums[key[1]] + 1e-30) for key, value in votes.items()}
        return belief


Score = Callable[[Pooled, Pooled, Picture, Trial], float | str]
STRATEGIES: dict[
    str, Score
] = {  # of everyone's lists, of the rater's own list, a candidate and its trial
    "common to raters": lambda everyone, own, one, trial: everyone.beside(one, trial),
    "common within the list": lambda everyone, own, one, trial: own.beside(one, trial),
    "most photographs": lambda everyone, own, one, trial: len(everyone.photos[one.content]),
    "most photographs, own list": lambda everyone, own, one, trial: len(own.photos[one.content]),
    "shown most often": lambda everyone, own, one, trial: everyone.shown[one.content],
    "shown most often, own list": lambda everyone, own, one, trial: own.shown[one.content],
    "one photograph per picture": lambda everyone, own, one, trial: everyone.belief(one, trial),
    "one photograph per picture, own list": lambda everyone, own, one, trial: own.belief(
        one, trial
    ),
    "alike across methods": lambda everyone, own, one, trial: own.resemblance(one, trial),
    "alike across methods and raters": lambda everyone, own, one, trial: everyone.resemblance(
        one, trial
    ),
    "shown lately": lambda everyone, own, one, trial: own.recency(one, trial),
    "stays on its side": lambda everyone, own, one, trial: own.stays(one, trial),
    "id used again": lambda everyone, own, one, trial: everyone.ids[one.id],
    "id order": lambda everyone, own, one, trial: one.id,
    "headers": lambda everyone, own, one, trial: one.headers,
    "file size": lambda everyone, own, one, trial: one.length,
    "compressed file size": lambda everyone, own, one, trial: one.compressed,
    "entropy of the pixels": lambda everyone, own, one, trial: one.entropy,
    "left": lambda everyone, own, one, trial: one is trial.left,
    "sides take turns": lambda everyone, own, one, trial: (
        (one is trial.left) == (trial.position % 2 == 0)
    ),
    "left first": lambda everyone, own, one, trial: (
        (one is trial.left) == (2 * trial.position < len(own.trials))
    ),
}


@dataclass(frozen=True)
class Outcome:
    """How a strategy did: `right` of `opinions`, and `p` that half of the units (below) would do as
    well.
    """

    right: int
    opinions: int
    trials: int
    p: float


def attack(studies):
    """Outcome of every strategy on studies of (trials, correct sides by slot and position, units
    likewise).

    What a strategy says about the same two images again, by another method or from another brain,
    is no independent evidence. So the two images are the unit of the test: whether the strategy is
    more often right or wrong about them.
    """
    outcomes = {}
    for name, score in STRATEGIES.items():
        balance = Counter()
        right = opinions = 0
        for number, (trials, correct, units) in enumerate(studies):
            everyone = Pooled(trials)
            lists = {
                slot: Pooled([t for t in trials if t.slot == slot])
                for slot in {t.slot for t in trials}
            }
            for trial in trials:
                left, other = (
                    rounded(score(everyone, lists[trial.slot], one, trial))
                    for one in trial.candidates
                )
                if left == other:
                    continue
                where = (trial.slot, trial.position)
                hit = (left > other) == (correct[where] == "left")
                opinions += 1
                right += hit
                balance[number, units[where]] += 1 if hit else -1
        wins = sum(value > 0 for value in balance.values())
        losses = sum(value < 0 for value in balance.values())
        p = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        outcomes[name] = Outcome(right, opinions, sum(len(study[0]) for study in studies), p)
    return outcomes


def rounded(score):
    return score if isinstance(score, str) else round(float(score), 6)
