"""What is shown to whom: pictures in, a balanced list of trials out, and the check that it is balanced.

A trial is a photograph above two candidates: the reconstruction of that photograph, and the reconstruction of another
one by the same method from the same brain. A rater sees the same photographs with every method, so that methods are
compared on the same pictures by the same eyes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.study import rng

COLUMNS = (
    "slot", "position", "kind", "method", "subject", "item", "image", "distractor_item", "distractor_image",
    "repeat_of", "photo", "left", "right", "correct",
)  # fmt: skip
CATCH = "catch"
FEWEST = 4  # photographs: with fewer, the same one could not be kept from following itself
DISTANCE = 10  # trials between a trial and its repeat, or a quarter of a short list
SIDES = ("left", "right")
Key = tuple[int, str]


@dataclass(frozen=True)
class Sizes:
    """Numbers of raters, and per rater: photographs (trials per method), catch trials and repeats."""

    raters: int
    trials: int
    catch: int = 0
    repeats: int = 0

    def within(self, n_images: int, n_methods: int) -> Sizes:
        """What the pictures at hand allow: a photograph once per method, catch trials and repeats each up to a quarter.

        Two photographs fewer are caught with than there are, so that a catch trial never shows one of its neighbours'.

        Raises
        ------
        PhospheneError
            With too few photographs.
        """
        trials = min(self.trials, n_images)
        if trials < FEWEST:
            raise PhospheneError(
                f"rate.trials: {self.trials} trials per method of {n_images} test pictures; expected {FEWEST} or more "
                "of both, so that the same photograph need not follow itself."
            )
        quarter = trials * n_methods // 4
        return Sizes(self.raters, trials, min(self.catch, n_images - 2, quarter), min(self.repeats, quarter))


class Shown(NamedTuple):
    """One test picture of one subject."""

    subject: str
    item: int
    image: int


class _Planned(NamedTuple):
    """A trial before it has its place: `right` whether the answer is on the right, `original` a repeat's trial."""

    kind: str
    method: str
    target: Shown
    distractor: Shown
    right: bool
    original: int = -1


def plan(pool: pd.DataFrame, methods: Sequence[str], sizes: Sizes, key: Key) -> pd.DataFrame:
    """Make the trial list of a study.

    Parameters
    ----------
    pool : DataFrame
        What there is to show: subject, item (row of the test picture), image (its id in the data set); every subject
        with each image once. Subjects who saw the same images share them between them.
    methods : sequence of str
        Kinds of reconstruction, each of which has a picture of every row of `pool`.
    sizes : Sizes
        Cut by :meth:`Sizes.within`.
    key : (int, str)
        The study's seed and a hash: where all that is random comes from, picture ids too.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row per trial in the order of slots (raters) and positions. `kind` is "trial", "catch"
        (method "catch": the photograph itself, slightly changed, beside another photograph) or "repeat" of position
        `repeat_of`, sides swapped. `photo`, `left` and `right` are picture ids: hex digits that tell nothing, different
        for one picture as photograph, as the right candidate and as the wrong one.

    Notes
    -----
    :func:`phosphene.ratings.balance.balance` says what is balanced and how well.
    """
    by_image = {int(image): [Shown(str(r.subject), int(r.item), int(image)) for r in rows.itertuples()]
                for image, rows in pool.groupby("image", sort=True)}  # fmt: skip
    sizes = sizes.within(len(by_image), len(methods))
    wrong = _Distractors(by_image, key)
    catch = _Catches(by_image, key, wrong)
    rows = []
    for slot in range(sizes.raters):
        shown = _photographs(by_image, sizes.trials, slot, key)
        trials = _trials(shown, methods, slot, key, wrong)
        listed = _with_catches_and_repeats(trials, sizes, slot, key, catch)
        rows += [_row(slot, position, listed, key) for position in range(len(listed))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@cache
def picture_id(key: Key, role: str, method: str, subject: str, item: int) -> str:
    """Name a picture so that nothing can be read from it; `role` is "photo", "target" or "distractor"."""
    return rng(*key, "picture", role, method, subject, item).bytes(16).hex()


def pictures(trials: pd.DataFrame) -> pd.DataFrame:
    """What every picture id of a trial list shows: id, method ("": the photograph), subject, item; sorted by id."""
    right = trials["correct"] == "right"
    target, distractor = (trials["right"].where(on, trials["left"]) for on in (right, ~right))
    parts = [("photo", trials["photo"], "item"), ("", target, "item"), ("", distractor, "distractor_item")]
    found = pd.concat([
        pd.DataFrame({"id": ids, "method": "" if role else trials["method"], "subject": trials["subject"],
                      "item": trials[item]}) for role, ids, item in parts
    ])  # fmt: skip
    return found.drop_duplicates("id").sort_values("id").reset_index(drop=True)


# Which photographs


def _photographs(by_image: dict[int, list[Shown]], count: int, slot: int, key: Key) -> list[Shown]:
    """The photographs of one rater, from one subject each: the next `count` of a ring that raters go around in turn.

    Images lie on the ring at random, those of each set of subjects evenly; every time round, another of the subjects
    who saw an image is taken. So over raters images, and subjects within images, are shown equally often, up to one.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for image, who in by_image.items():
        groups.setdefault(tuple(one.subject for one in who), []).append(image)
    places = []
    for subjects, images in groups.items():
        random = rng(*key, "ring", *subjects)
        order, start = random.permutation(images), random.random()
        places += [((k + start) / len(order), int(image), k) for k, image in enumerate(order)]
    ring = [(image, rank) for _, image, rank in sorted(places)]
    found = []
    for k in range(slot * count, (slot + 1) * count):
        rounds, place = divmod(k, len(ring))
        image, rank = ring[place]
        who = by_image[image]
        found.append(who[(rank + rounds) % len(who)])
    return found


class _Distractors:
    """Draws the wrong candidates: of each method and subject, the pictures that were wrong least often so far."""

    def __init__(self, by_image: dict[int, list[Shown]], key: Key) -> None:
        self._of: dict[str, list[Shown]] = {}
        for who in by_image.values():
            for one in who:
                self._of.setdefault(one.subject, []).append(one)
        if lonely := [subject for subject, some in self._of.items() if len(some) < 2]:
            raise PhospheneError(f"ratings: subject {lonely[0]} has one test picture; expected two or more.")
        self._images = {subject: np.array([one.image for one in some]) for subject, some in self._of.items()}
        self._used: dict[tuple[str, str], NDArray[np.int64]] = {}
        self._random = rng(*key, "distractors")

    def draw(self, method: str, target: Shown, before: set[Shown]) -> Shown:
        """A picture of another photograph; not one of `before` where that can be helped."""
        some = self._of[target.subject]
        used = self._used.setdefault((method, target.subject), np.zeros(len(some), np.int64))
        others = self._images[target.subject] != target.image
        level = np.flatnonzero(others & (used == used[others].min()))
        fresh = [k for k in level if some[k] not in before]
        chosen = int(self._random.choice(fresh or level))
        used[chosen] += 1
        return some[chosen]


def _trials(
    shown: list[Shown], methods: Sequence[str], slot: int, key: Key, wrong: _Distractors
) -> list[_Planned]:  # fmt: skip
    """The trials of one rater in order: as many rounds as methods, each with every photograph once.

    A photograph is shown with each method in another round (a Latin square, so that methods come early and late alike).
    The two halves of the photographs stay halves in every round: a photograph comes again after half a round at least.
    """
    random = rng(*key, "order", slot)
    n, m = len(shown), len(methods)
    shuffled = [shown[k] for k in random.permutation(n)]
    halves = (np.arange(n // 2), np.arange(n // 2, n))
    first = random.permutation(m)
    right = {method: random.permutation(np.arange(n) % 2 == random.integers(2)) for method in methods}
    before: dict[Shown, set[Shown]] = {one: set() for one in shown}
    listed = []
    for turn in range(m):
        for k in np.concatenate([random.permutation(half) for half in halves]):
            one, method = shuffled[k], methods[first[(k + turn) % m]]
            other = wrong.draw(method, one, before[one])
            before[one].add(other)
            listed.append(_Planned("trial", method, one, other, bool(right[method][k])))
    return listed


# Catch trials and repeats


class _Catches:
    """Draws the photographs of catch trials, those least used so far."""

    def __init__(self, by_image: dict[int, list[Shown]], key: Key, wrong: _Distractors) -> None:
        self._all = [who[0] for who in by_image.values()]
        self._images, self._used = np.array(list(by_image)), np.zeros(len(by_image), int)
        self._random, self._wrong = rng(*key, "catch"), wrong

    def draw(self, beside: set[int], mine: set[int], right: bool) -> _Planned:
        """A catch trial whose photograph is none of `beside` (the trials around it), and not one of `mine` again."""
        free = ~np.isin(self._images, list(beside | mine))
        chosen = int(self._random.choice(np.flatnonzero(free & (self._used == self._used[free].min()))))
        self._used[chosen] += 1
        target = self._all[chosen]
        return _Planned(CATCH, CATCH, target, self._wrong.draw(CATCH, target, set()), right)


def _with_catches_and_repeats(
    trials: list[_Planned], sizes: Sizes, slot: int, key: Key, catch: _Catches
) -> list[_Planned]:
    """Put catch trials and repeats between the trials, each into a gap of its own, evenly spread and at random within.

    Gap g lies after trial g - 1. Catch trials may come after the first trial; repeats from the middle of the list on,
    when there is enough to repeat.
    """
    random, n = rng(*key, "gaps", slot), len(trials)
    distance = min(DISTANCE, (n + sizes.catch + sizes.repeats) // 4)
    gaps = _spread(1, n, sizes.catch, set(), random)
    later = _spread(max(n // 2, distance), n, sizes.repeats, set(gaps), random)
    put: dict[int, _Planned] = {}
    right, mine = random.permutation(np.arange(len(gaps)) % 2 == random.integers(2)), set[int]()
    for gap, side in zip(gaps, right, strict=True):
        put[gap] = catch.draw(_beside(trials, gap), mine, bool(side))
        mine.add(put[gap].target.image)
    done, counts = set[int](), Counter({one.method: 0 for one in trials})
    for gap in later:
        beside = _beside(trials, gap)
        may = [k for k in range(gap - distance + 1) if k not in done and trials[k].target.image not in beside]
        if not may:
            continue  # a repeat less: only in the shortest of lists
        least = min(counts[trials[k].method] for k in may)
        chosen = int(random.choice([k for k in may if counts[trials[k].method] == least]))
        done.add(chosen)
        counts[trials[chosen].method] += 1
        put[gap] = trials[chosen]._replace(kind="repeat", right=not trials[chosen].right, original=chosen)
    return _merged(trials, put)


def _spread(low: int, high: int, count: int, taken: set[int], random: np.random.Generator) -> list[int]:
    """One free gap in each of `count` equal parts of low..high (both included)."""
    edges, found = np.linspace(low, high + 1, count + 1), list[int]()
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        free = [g for g in range(int(np.ceil(start)), int(np.ceil(end))) if g not in taken]
        if not free:  # the nearest one outside
            free = [g for g in range(low, high + 1) if g not in taken and g not in found]
            free = [min(free, key=lambda g: abs(g - start))]
        found.append(int(random.choice(free)))
    return sorted(found)


def _beside(trials: list[_Planned], gap: int) -> set[int]:
    return {trials[k].target.image for k in (gap - 1, gap) if 0 <= k < len(trials)}


def _merged(trials: list[_Planned], put: dict[int, _Planned]) -> list[_Planned]:
    """Everything in order; a repeat's `original` becomes a position."""
    listed, position = [trials[0]], {0: 0}
    for gap in range(1, len(trials) + 1):
        if gap in put:
            one = put[gap]
            listed.append(one._replace(original=position[one.original]) if one.kind == "repeat" else one)
        if gap < len(trials):
            position[gap] = len(listed)
            listed.append(trials[gap])
    return listed


def _row(slot: int, position: int, listed: list[_Planned], key: Key) -> tuple[object, ...]:
    kind, method, target, other, right, original = listed[position]
    own = picture_id(key, "target", method, target.subject, target.item)
    foreign = picture_id(key, "distractor", method, other.subject, other.item)
    photo = picture_id(key, "photo", "", target.subject, target.item)
    left, right_id = (foreign, own) if right else (own, foreign)
    return (slot, position, kind, method, target.subject, target.item, target.image, other.item, other.image,
            original, photo, left, right_id, SIDES[right])  # fmt: skip
