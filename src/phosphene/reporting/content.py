"""What a report says: tables, pictures, settings. It computes no score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from phosphene.reporting import encoded, gallery, tables
from phosphene.reporting.encoded import Encoded
from phosphene.reporting.gallery import Album, Shown


@dataclass(frozen=True)
class Content:
    """All that a page shows.

    Attributes
    ----------
    name, model : str
    preset : str
        Whose measures are the headline.
    subjects, modes : list of str
    richest : str
        The mode that uses most features, by which pictures are ranked.
    regions : dict of str to list of str
        "z" and "c": the parts of the brain that they are decoded from.
    simulated : bool
    scores, per_image, absent, names, features, rois, comparisons : DataFrame
        As the stage `evaluate` and :func:`phosphene.steps.evaluate.comparisons` give them, of all
        subjects; may be empty.
    noise : dict of str to float
        Subject -> mean noise ceiling of the decoded regions, percent of variance; only where it is
        known.
    audit : DataFrame
        Lines of the audit, empty where none was made.
    examples : dict of str to list of Shown
        Subject -> pictures of figure 3.
    shared : list of Shown
        Pictures of figure 4; empty with one subject.
    gallery : list of Shown
    n_items : dict of str to int
        Subject -> number of test pictures, shown or not.
    settings, facts : str
    encoded : list of Encoded
        Subjects that encoding models are finished of; empty where there are none.
    surface : str
        Page with the cortex that can be turned, base64 of gzip; empty where no surface is known.
    people : dict of str to DataFrame
        Tables of the human study (:mod:`phosphene.reporting.people`); empty where no answers were
        scored.
    """

    name: str
    model: str
    preset: str
    subjects: list[str]
    modes: list[str]
    richest: str
    regions: dict[str, list[str]]
    simulated: bool
    scores: pd.DataFrame
    per_image: pd.DataFrame
    absent: pd.DataFrame
    names: pd.DataFrame
    features: pd.DataFrame
    rois: pd.DataFrame
    comparisons: pd.DataFrame
    noise: dict[str, float] = field(default_factory=dict)
    audit: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: dict[str, list[Shown]] = field(default_factory=dict)
    shared: list[Shown] = field(default_factory=list)
    gallery: list[Shown] = field(default_factory=list)
    n_items: dict[str, int] = field(default_factory=dict)
    settings: str = ""
    facts: str = ""
    encoded: list[Encoded] = field(default_factory=list)
    surface: str = ""
    people: dict[str, pd.DataFrame] = field(default_factory=dict)


# Pictures


def with_pictures(content: Content, albums: Mapping[str, Album]) -> Content:
    """Choose what figure 3, figure 4 and the gallery show, so that the page stays within its size.

    Parameters
    ----------
    content : Content
    albums : mapping of str to Album
        By subject.
    """
    scores = {s: item_scores(content, s) for s in content.subjects}
    richest = {
        s: table[content.richest] if content.richest in table else None
        for s, table in scores.items()
    }
    examples = {
        s: _examples(albums[s], ranked) for s, ranked in richest.items() if ranked is not None
    }
    shared = (
        _shared(albums, richest, content.richest) if len(content.subjects) > 1 and examples else []
    )
    spent = gallery.megabytes([one for some in examples.values() for one in some] + shared)
    spent += encoded.megabytes(content.encoded, content.surface)
    budget = max(gallery.GALLERY_MB - spent, 1.0) / len(albums)
    shown = [one for s, album in albums.items() for one in gallery.fill(album, richest[s], budget)]
    return replace(content, examples=examples, shared=shared, gallery=shown)


def item_scores(content: Content, subject: str) -> pd.DataFrame:
    """Scores by which a subject's pictures are ranked: rows items, columns modes."""
    if content.per_image.empty:
        return pd.DataFrame()
    return tables.item_scores(
        content.per_image[content.per_image["subject"] == subject], content.preset
    )


def _examples(album: Album, ranked: pd.Series) -> list[Shown]:
    return [
        one for group, chosen in gallery.tenths(ranked).items() for one in album.show(chosen, group)
    ]


def _shared(
    albums: Mapping[str, Album], richest: dict[str, pd.Series | None], mode: str
) -> list[Shown]:
    """Figure 4: pictures that all subjects saw, drawn from each of their brains, chosen by their
    mean score.
    """
    by_image = {
        s: pd.Series(ranked.to_numpy(), index=albums[s].images[ranked.index])
        for s, ranked in richest.items()
        if ranked is not None
    }
    together = pd.DataFrame(by_image).dropna()
    if together.empty or len(by_image) < 2:
        return []
    found = []
    for group, images in gallery.tenths(together.mean(axis=1)).items():
        for image in images:
            each = {
                s: albums[s].show([int(np.flatnonzero(albums[s].images == image)[0])])[0]
                for s in by_image
            }
            first = next(iter(each.values()))
            seen = {"seen": first.pictures["seen"]} if "seen" in first.pictures else {}
            pictures = seen | {s: one.pictures[mode] for s, one in each.items()}
            scores = {s: one.scores[mode] for s, one in each.items()}
            found.append(replace(first, pictures=pictures, scores=scores, group=group))
    return found
