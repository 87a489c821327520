"""Which two test images are compared with each other: a fixed matching, which keeps the correct
candidates secret.

Images are matched in pairs (P, Q). A trial about photograph P shows the reconstructions of P and Q,
and so does a trial about photograph Q, for every method, subject and rater. Both candidates
therefore occur equally often, beside the same photographs and the same alternative: exchanging them
everywhere gives the same lists, so nothing but looking at the pictures can tell which one is
correct. A rater sees only one photograph of a pair.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from phosphene.seeds import rng

Key = tuple[int, str]


class Shown(NamedTuple):
    """One test picture of one subject."""

    subject: str
    item: int
    image: int


class Pair(NamedTuple):
    """Two images of the same subjects; `rank` counts the pairs of these subjects."""

    rank: int
    images: tuple[tuple[Shown, ...], tuple[Shown, ...]]

    def candidates(self, turn: int) -> tuple[Shown, Shown]:
        """Target and distractor when the pair is shown for the `turn`-th time.

        The two photographs take turns, and so do the subjects of each.
        """
        target = self.images[turn % 2]
        distractor = self.images[1 - turn % 2]
        subject = (self.rank + turn // 2) % len(target)
        return target[subject], distractor[subject]


def pairs(pool: pd.DataFrame, key: Key) -> list[Pair]:
    """Match the images of a pool at random, each with one that the same subjects saw; a last odd
    one is left out.

    The pairs of each set of subjects are spread evenly over the list.
    """
    groups: dict[tuple[str, ...], list[tuple[Shown, ...]]] = {}
    for image, rows in pool.sort_values("subject").groupby("image", sort=True):
        shown = tuple(
            Shown(str(row.subject), int(row.item), int(image)) for row in rows.itertuples()
        )
        groups.setdefault(tuple(one.subject for one in shown), []).append(shown)
    placed = []
    for subjects, images in groups.items():
        random = rng(*key, "pairs", *subjects)
        order = random.permutation(len(images))
        start = random.random()
        n_pairs = len(images) // 2
        for rank in range(n_pairs):
            matched = (images[order[2 * rank]], images[order[2 * rank + 1]])
            placed.append(((rank + start) / n_pairs, Pair(rank, matched)))
    return [pair for _, pair in sorted(placed)]


def paired_rows(pool: pd.DataFrame, key: Key) -> pd.DataFrame:
    """The rows of a pool whose image has a partner: what a trial list can show."""
    images = {one.image for pair in pairs(pool, key) for shown in pair.images for one in shown}
    return pool[pool["image"].isin(images)]
