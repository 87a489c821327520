"""What is shown to whom: test pictures in, a balanced and blind list of trials out.

A trial is a photograph above two candidates: the reconstruction of that photograph, and the
reconstruction of another one by the same method from the same brain. A rater sees the same
photographs with every method, so that methods are compared on the same pictures by the same eyes.
Which two images are compared with each other is fixed (:mod:`phosphene.ratings.trials.pairing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from phosphene.errors import PhospheneError
from phosphene.ratings.trials.pairing import Key, Pair, Shown, pairs
from phosphene.seeds import rng

COLUMNS = (
    "slot",
    "position",
    "kind",
    "method",
    "subject",
    "item",
    "image",
    "distractor_item",
    "distractor_image",
    "repeat_of",
    "photo",
    "left",
    "right",
    "correct",
)
CATCH = "catch"
FEWEST = 4  # photographs: with fewer, the same one could not be kept from following itself
DISTANCE = 10  # trials between a trial and its repeat, or a quarter of a short list
SIDES = ("left", "right")
PLACES = ("photo", "left", "right")


@dataclass(frozen=True)
class Sizes:
    """Numbers of raters, and per rater: photographs (trials per method), catch trials and
    repeats.
    """

    raters: int
    trials: int
    catch: int = 0
    repeats: int = 0

    def within(self, n_pairs: int, n_methods: int) -> Sizes:
        """Cut the sizes to what `n_pairs` pairs of test images allow.

        A rater sees one photograph of a pair, once per method, and catch trials have pairs of their
        own: at most a fifth of them. Catch trials and repeats are each limited to a quarter of the
        other trials.

        Raises
        ------
        PhospheneError
            With too few trials per method or pairs.
        """
        catch = min(self.catch, n_pairs // 5)
        trials = min(self.trials, n_pairs - catch)
        if trials < FEWEST:
            raise PhospheneError(
                f"rate.trials: {self.trials} trials per method of {n_pairs} pairs of test images; "
                f"expected {FEWEST} or "
                f"more of both. A rater sees one photograph of a pair: {2 * FEWEST} test images "
                "are the least."
            )
        quarter = trials * n_methods // 4
        return Sizes(self.raters, trials, min(catch, quarter), min(self.repeats, quarter))


class _Planned(NamedTuple):
    """A trial before it has its place: `right` whether the answer is on the right, `original` a
    repeat's trial.
    """

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
        What there is to show: subject, item (row of the test picture), image (its id in the data
        set); every subject with each image once. Subjects who saw the same images share them
        between them.
    methods : sequence of str
        Kinds of reconstruction, each of which has a picture of every row of `pool`.
    sizes : Sizes
        Cut by :meth:`Sizes.within`.
    key : (int, str)
        The study's seed and a hash, from which everything random is derived, picture ids included.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row per trial in the order of slots (raters) and positions. `kind` is
        "trial", "catch" (method "catch": the photograph itself, slightly changed, beside another
        photograph) or "repeat" of position `repeat_of`, sides swapped. `photo`, `left` and `right`
        are picture ids: random hex digits, used for one picture of one trial only. :func:`pictures`
        tells what they show.

    Notes
    -----
    :func:`phosphene.ratings.trials.balance.balance` says what is balanced and how well.
    """
    ring = pairs(pool, key)
    sizes = sizes.within(len(ring), len(methods))
    catches = _Catches(ring, key)
    rows = []
    for slot in range(sizes.raters):
        # raters go around the ring in turn, so that over raters all photographs are shown equally
        # often, up to one
        turns = [
            divmod(k, len(ring)) for k in range(slot * sizes.trials, (slot + 1) * sizes.trials)
        ]
        shown = [ring[place].candidates(turn) for turn, place in turns]
        trials = _trials(shown, methods, slot, key)
        seen = {place for _, place in turns}
        listed = _with_catches_and_repeats(trials, sizes, slot, key, catches, seen)
        ids = rng(*key, "ids", slot)
        rows += [_row(slot, position, planned, ids) for position, planned in enumerate(listed)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def pictures(trials: pd.DataFrame) -> pd.DataFrame:
    """What every picture id of a trial list shows: id, file, method ("": the photograph), subject,
    item; sorted by id.

    A picture has an id for every time that it is shown, and one file, `file` (without ending),
    named by one of the ids.
    """
    correct = trials["correct"]
    target = trials["right"].where(correct == "right", trials["left"])
    distractor = trials["left"].where(correct == "right", trials["right"])
    parts = [
        ("photo", trials["photo"], "item"),
        ("", target, "item"),
        ("", distractor, "distractor_item"),
    ]
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "id": ids,
                    "method": "" if role else trials["method"],
                    "subject": trials["subject"],
                    "item": trials[item],
                }
            )
            for role, ids, item in parts
        ]
    )
    table = table.drop_duplicates("id").sort_values("id").reset_index(drop=True)
    table.insert(1, "file", table.groupby(["method", "subject", "item"])["id"].transform("first"))
    return table


# Trials


def _trials(
    shown: list[tuple[Shown, Shown]], methods: Sequence[str], slot: int, key: Key
) -> list[_Planned]:
    """The trials of one rater in order: as many rounds as methods, each with every photograph once.

    A photograph is shown with each method in another round (a Latin square, so that methods come
    early and late alike). The two halves of the photographs stay halves in every round: a
    photograph comes again after half a round at least.
    """
    random = rng(*key, "order", slot)
    n = len(shown)
    m = len(methods)
    shuffled = [shown[k] for k in random.permutation(n)]
    halves = (np.arange(n // 2), np.arange(n // 2, n))
    first = random.permutation(m)
    right = {
        method: random.permutation(np.arange(n) % 2 == random.integers(2)) for method in methods
    }
    listed = []
    for turn in range(m):
        for k in np.concatenate([random.permutation(half) for half in halves]):
            method = methods[first[(k + turn) % m]]
            target, distractor = shuffled[k]
            listed.append(_Planned("trial", method, target, distractor, bool(right[method][k])))
    return listed


# Catch trials and repeats


class _Catches:
    """Draws the photographs of catch trials from the pairs used least so far."""

    def __init__(self, ring: list[Pair], key: Key) -> None:
        self._ring = ring
        self._used = np.zeros(len(ring), int)
        self._random = rng(*key, "catch")

    def draw(self, seen: set[int], right: bool) -> _Planned:
        """A catch trial about a pair that is not in `seen`, to which it is added."""
        free = np.setdiff1d(np.arange(len(self._ring)), list(seen))
        least = free[self._used[free] == self._used[free].min()]
        place = int(self._random.choice(least))
        target, distractor = self._ring[place].candidates(int(self._used[place]))
        self._used[place] += 1
        seen.add(place)
        return _Planned(CATCH, CATCH, target, distractor, right)


def _with_catches_and_repeats(
    trials: list[_Planned], sizes: Sizes, slot: int, key: Key, catches: _Catches, seen: set[int]
) -> list[_Planned]:
    """Put catch trials and repeats between the trials, each into a gap of its own, evenly spread
    and at random within.

    Gap g lies after trial g - 1. Catch trials may come after the first trial; repeats from the
    middle of the list on, when there is enough to repeat. `seen` are the pairs that the trials
    show.
    """
    random = rng(*key, "gaps", slot)
    n = len(trials)
    distance = min(DISTANCE, (n + sizes.catch + sizes.repeats) // 4)
    gaps = _spread(1, n, sizes.catch, set(), random)
    later = _spread(max(n // 2, distance), n, sizes.repeats, set(gaps), random)
    right = random.permutation(np.arange(len(gaps)) % 2 == random.integers(2))
    inserted = {gap: catches.draw(seen, bool(side)) for gap, side in zip(gaps, right, strict=True)}
    repeated = set[int]()
    counts = Counter({one.method: 0 for one in trials})
    for gap in later:
        beside = _beside(trials, gap)
        may = [
            k
            for k in range(gap - distance + 1)
            if k not in repeated and trials[k].target.image not in beside
        ]
        if not may:
            continue  # a repeat less: only in the shortest of lists
        least = min(counts[trials[k].method] for k in may)
        chosen = int(random.choice([k for k in may if counts[trials[k].method] == least]))
        repeated.add(chosen)
        counts[trials[chosen].method] += 1
        inserted[gap] = trials[chosen]._replace(
            kind="repeat", right=not trials[chosen].right, original=chosen
        )
    return _merged(trials, inserted)


def _spread(
    low: int, high: int, count: int, taken: set[int], random: np.random.Generator
) -> list[int]:
    """One free gap in each of `count` equal parts of low..high (both included)."""
    edges = np.linspace(low, high + 1, count + 1)
    found = list[int]()
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
    listed = [trials[0]]
    position = {0: 0}
    for gap in range(1, len(trials) + 1):
        if gap in put:
            one = put[gap]
            listed.append(
                one._replace(original=position[one.original]) if one.kind == "repeat" else one
            )
        if gap < len(trials):
            position[gap] = len(listed)
            listed.append(trials[gap])
    return listed


def _row(
    slot: int, position: int, planned: _Planned, ids: np.random.Generator
) -> tuple[object, ...]:
    kind, method, target, distractor, right, original = planned
    return (
        slot,
        position,
        kind,
        method,
        target.subject,
        target.item,
        target.image,
        distractor.item,
        distractor.image,
        original,
        *(ids.bytes(16).hex() for _ in PLACES),
        SIDES[right],
    )
