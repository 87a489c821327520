"""Simulated raters of known skill, for tests and for the question how many raters and trials a
study needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binomtest
from scipy.stats import t as student_t

from phosphene.errors import PhospheneError
from phosphene.numerics.stats import signed_rank
from phosphene.ratings.analysis.crossed import checked, crossed_variance

Floats = NDArray[np.float64]
CATCH_SKILL = 0.99
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
MOST_CELLS = 4_000_000  # answers simulated at a time: some hundred megabytes
LEVEL = 0.05


@dataclass(frozen=True)
class People:
    """What raters are like. Standard deviations are on the logit scale, of independent normal
    effects.

    `rater_sd` how able raters are, `image_sd` how easy images are, `rater_method_sd` what raters
    make of a method, `image_method_sd` how well a method did an image, `percept_sd` what one rater
    sees in one picture (alike when it is shown again), `side_sd` leaning to the right; `lapse`
    share of answers given blindly; `careless` share of raters who click away fast; `median_ms` and
    `careless_ms` response times.
    """

    rater_sd: float = 0.4
    image_sd: float = 0.8
    rater_method_sd: float = 0.1
    image_method_sd: float = 0.6
    percept_sd: float = 0.3
    side_sd: float = 0.2
    lapse: float = 0.02
    careless: float = 0.0
    median_ms: float = 1600.0
    careless_ms: float = 160.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            share = name in ("lapse", "careless")
            if not 0 <= value <= (1 if share else np.inf):
                expected = "a share from 0 to 1" if share else "0 or more"
                raise PhospheneError(
                    f"simulated raters: {name} must be {expected}, found {value!r}."
                )

    @property
    def total_sd(self) -> float:
        """Standard deviation of the logit over raters, images and sides together."""
        parts = [
            self.rater_sd,
            self.image_sd,
            self.rater_method_sd,
            self.image_method_sd,
            self.percept_sd,
            self.side_sd,
        ]
        return float(np.linalg.norm(parts))


def intercept(skill: float, sd: float) -> float:
    """The logit around which normal effects of standard deviation `sd` give the accuracy `skill` on
    average.
    """
    if not 0 < skill < 1:
        raise PhospheneError(f"simulated raters: skill must lie between 0 and 1, found {skill!r}.")
    far = abs(float(logit(skill))) * (1 + sd) + 10 * sd + 1
    return float(brentq(lambda centre: average(centre, sd) - skill, -far, far))


def average(centre: ArrayLike, sd: float) -> Floats:
    """Mean of ``expit(centre + sd * standard normal)``, in the shape of `centre`
    (Gauss-Hermite).
    """
    points = np.asarray(centre, dtype=np.float64)[..., None] + sd * NODES
    return np.asarray(expit(points) @ WEIGHTS / WEIGHTS.sum())


def simulate(
    trials: pd.DataFrame,
    skill: float | Mapping[str, float],
    rng: np.random.Generator,
    **traits: float,
) -> pd.DataFrame:
    """Let simulated raters answer a trial list.

    Parameters
    ----------
    trials : DataFrame
        As ``design.plan`` makes it: ``slot, position, kind, method, subject, item, image, ...,
        correct``.
    skill : float or mapping from method to float
        Accuracy that an attentive rater has on average over raters and images, between 0 and 1.
        Catch trials: 0.99.
    rng : Generator
    **traits : float
        Of :class:`People`.

    Returns
    -------
    DataFrame
        As the export of the answers: one row per trial in the order of slots and positions. A
        repeat has the chances of its original: what the rater sees in the picture is the same, the
        answer is given anew.
    """
    needed = ("slot", "position", "kind", "method", "image", "correct")
    checked(trials, needed)
    people = _people(traits)
    rows = trials.sort_values(["slot", "position"]).drop(
        columns=["photo", "left", "right"], errors="ignore"
    )
    rows = rows.reset_index(drop=True)
    slot, slots = pd.factorize(rows["slot"])
    careless = rng.random(len(slots)) < people.careless
    hit = _answers(rows, skill, rng, people, n=1)[0]
    hit = np.where(careless[slot], rng.random(len(rows)) < 0.5, hit)
    right = rows["correct"] == "right"
    ms = np.where(
        careless[slot],
        people.careless_ms,
        people.median_ms * rng.lognormal(0, 0.3, len(slots))[slot],
    )
    ms = np.round(ms * rng.lognormal(0, 0.35, len(rows)), 1)
    elapsed = pd.Series(ms + 400)
    since_start = elapsed.groupby(slot).cumsum()
    start = pd.Timestamp("2026-01-05T09:00:00", tz="UTC")
    rows.insert(0, "rater", [f"rater{number:02d}" for number in rows["slot"]])
    return rows.assign(
        choice=np.where(right == hit, "right", "left"),
        hit=hit,
        milliseconds=ms,
        elapsed=elapsed.to_numpy(),
        server_at=start + pd.to_timedelta(since_start.to_numpy(), unit="ms"),
    )


def _people(traits: Mapping[str, Any]) -> People:
    unknown = sorted(set(traits) - set(People.__dataclass_fields__))
    if unknown:
        raise PhospheneError(
            f"simulated raters: unknown trait {', '.join(unknown)}; expected "
            f"{', '.join(People.__dataclass_fields__)}."
        )
    return People(**traits)


def _answers(
    rows: pd.DataFrame,
    skill: float | Mapping[str, float],
    rng: np.random.Generator,
    people: People,
    n: int,
) -> NDArray[np.bool_]:
    """Whether attentive raters answer each trial rightly, in `n` studies of other raters and
    images, (n, n_trials).
    """
    names = ["slot", "image", "method"]
    method, methods = pd.factorize(rows["method"].astype(str))
    known = (
        dict(skill)
        if isinstance(skill, Mapping)
        else dict.fromkeys(set(methods) - {"catch"}, skill)
    )
    known.setdefault("catch", CATCH_SKILL)
    missing = sorted(set(methods) - set(known))
    if missing:
        raise PhospheneError(
            f"simulated raters: no skill for method {', '.join(missing)}, found {', '.join(known)}."
        )
    effects = [
        (people.rater_sd, names[:1]),
        (people.image_sd, names[1:2]),
        (people.rater_method_sd, ["slot", "method"]),
        (people.image_method_sd, ["image", "method"]),
        (people.percept_sd, names),
    ]
    lean = np.where(rows["correct"] == "right", 1.0, -1.0)
    chance = np.array([intercept(known[name], people.total_sd) for name in methods])[method][
        None
    ].repeat(n, 0)
    for sd, keys in effects:
        group = rows.groupby(keys, sort=False).ngroup().to_numpy()
        if sd:
            chance += sd * rng.standard_normal((n, group.max(initial=-1) + 1))[:, group]
    slot = rows.groupby("slot", sort=False).ngroup().to_numpy()
    chance += lean * people.side_sd * rng.standard_normal((n, slot.max(initial=-1) + 1))[:, slot]
    blind = rng.random(chance.shape) < people.lapse
    return np.asarray(rng.random(chance.shape) < np.where(blind, 0.5, expit(chance)))


def expected(skill: float, lapse: float) -> float:
    """Accuracy of attentive raters who answer the share `lapse` of trials blindly."""
    return (1 - lapse) * skill + lapse / 2


def crossing(n_raters: int, n_images: int, methods: Sequence[str]) -> pd.DataFrame:
    """The plainest trial list: every rater sees every image once with every method, sides
    balanced.
    """
    index = pd.MultiIndex.from_product(
        [range(n_raters), methods, range(n_images)], names=["slot", "method", "image"]
    )
    rows = index.to_frame(index=False)
    position = rows.groupby("slot").cumcount()
    sides = np.where(
        (rows["image"] + rows["slot"] + rows["method"].map(list(methods).index)) % 2,
        "left",
        "right",
    )
    return rows.assign(
        position=position,
        kind="trial",
        subject="subj01",
        item=rows["image"],
        repeat_of=-1,
        distractor_item=-1,
        distractor_image=-1,
        correct=sides,
    )


def power(
    raters: Sequence[int],
    trials: Sequence[int],
    effects: Sequence[float] = (0.02, 0.05, 0.1),
    *,
    base: float = 0.75,
    comparisons: int = 3,
    n_simulations: int = 500,
    rng: np.random.Generator | int = 0,
    **traits: float,
) -> pd.DataFrame:
    """How likely a study finds that one method is better than another.

    Every rater sees every image with both methods. Simulated studies are tested as
    :func:`analysis.compare` tests.

    Parameters
    ----------
    raters, trials : sequence of int
        Numbers of raters, and of trials per method and rater, which is the number of images.
    effects : sequence of float
        Differences of accuracy; 0 gives the level of the tests.
    base : float
        Accuracy of the worse method.
    comparisons : int
        How many pairs Holm corrects for. p is multiplied by it, as Holm does with the smallest:
        power for the pair in question whatever the others give, a little too low if others are
        significant too.
    n_simulations : int
        Studies per row.
    rng : Generator or int
    **traits : float
        Of :class:`People`.

    Returns
    -------
    DataFrame
        ``raters, trials, accuracy`` (of the worse method), ``effect``; for the signed-rank tests
        over images (``power_image``) and over raters (``power_rater``) and the crossed t test
        (``power_both``) the share of studies with corrected p <= 0.05, each with ``..._low,
        ..._high`` (95 %, Clopper-Pearson); and the median widths of the 95 % intervals for other
        raters and images: ``width_accuracy`` and ``width_difference``.
    """
    people = _people(traits)
    generator = np.random.default_rng(rng)
    rows = []
    if (
        min(raters, default=0) < 2
        or min(trials, default=0) < 2
        or n_simulations < 1
        or comparisons < 1
    ):
        raise PhospheneError(
            "power: 2 or more raters and trials, 1 or more simulations and comparisons are "
            f"needed, found {raters}, "
            f"{trials}, {n_simulations} and {comparisons}."
        )
    for n_raters in raters:
        for n_trials in trials:
            for effect in effects:
                skill = {"a": base + effect, "b": base}
                cells = _studies(n_raters, n_trials, skill, n_simulations, generator, people)
                row = {"raters": n_raters, "trials": n_trials, "accuracy": base, "effect": effect}
                rows.append(row | _found(cells, comparisons))
    return pd.DataFrame(rows)


def _studies(
    n_raters: int,
    n_images: int,
    skill: Mapping[str, float],
    n: int,
    rng: np.random.Generator,
    people: People,
) -> Floats:
    """Hits of `n` studies, (n, n_raters, 2, n_images)."""
    rows = crossing(n_raters, n_images, list(skill))
    at_a_time = max(1, MOST_CELLS // len(rows))
    parts = [
        _answers(rows, skill, rng, people, min(at_a_time, n - start))
        for start in range(0, n, at_a_time)
    ]
    hits = np.concatenate(parts).reshape(n, n_raters, len(skill), n_images)
    careless = rng.random((n, n_raters)) < people.careless
    guesses = rng.random(hits.shape) < 0.5 if careless.any() else hits
    return np.where(careless[:, :, None, None], guesses, hits).astype(np.float64)


def _found(hits: Floats, comparisons: int) -> dict[str, float]:
    """What the tests say about studies (n, n_raters, 2, n_images)."""
    difference = hits[:, :, 0] - hits[:, :, 1]
    mean = difference.mean((1, 2))
    tests = dict[str, Floats]()
    half, p_both = _crossed_t(difference)
    for name, axis in (("image", 1), ("rater", 2)):
        own = difference.mean(axis)
        # however clear, so few can't reach it (2 / 2ⁿ at best)
        if comparisons * 2.0 ** (1 - own.shape[1]) > LEVEL:
            tests[name] = np.ones(len(own))
        else:
            tests[name] = np.array([signed_rank(values, np.zeros_like(values)) for values in own])
    tests["both"] = np.where((half == 0) & (mean == 0), 1.0, p_both)
    row = dict[str, float]()
    for name, p in tests.items():
        k = int((np.minimum(1, comparisons * p) <= LEVEL).sum())
        low, high = binomtest(k, len(p)).proportion_ci(method="exact")
        row |= {f"power_{name}": k / len(p), f"power_{name}_low": low, f"power_{name}_high": high}
    width = 2 * float(np.median(_crossed_t(hits[:, :, 1])[0]))
    return row | {"width_accuracy": width, "width_difference": 2 * float(np.median(half))}


def _crossed_t(values: Floats) -> tuple[Floats, Floats]:
    """Half widths of the 95 % intervals of means of (n, n_raters, n_images), and p of their being
    0.
    """
    mean = values.mean((1, 2))
    spread = crossed_variance((values - mean[:, None, None]) / values[0].size)
    error = np.sqrt(spread.both)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * student_t.sf(np.abs(mean) / error, spread.df)
    return np.asarray(student_t.ppf(0.975, spread.df) * error), np.asarray(p)
