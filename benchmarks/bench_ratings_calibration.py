"""What the intervals and tests of the human study are worth: coverage and level among simulated
raters.

Coverage of the intervals of `accuracy`, each against the truth it speaks of; level of the tests of
`compare` where two methods are equally good, by what raters and images make of a method; coverage
of odds ratios. Every share comes with its own interval (Clopper-Pearson, 95 %). JSON goes to stdout
and to ``results/ratings_calibration.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import machine_facts
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from phosphene.ratings.analysis import accuracy, compare
from phosphene.ratings.analysis.crossed import counted, t_interval
from phosphene.ratings.analysis.logistic import variational_fit
from phosphene.ratings.power import average, crossing, intercept, simulate

RATER_SD = 0.4
IMAGE_SD = 1.0
N_IMAGES = 100
CASES = {"nothing": (0.0, 0.0), "images": (0.0, 0.6), "raters": (0.3, 0.0), "both": (0.3, 0.6)}


def main() -> None:
    """Simulate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument(
        "--odds", type=int, default=100, help="studies for odds ratios (seconds each)"
    )
    parser.add_argument(
        "--sparse", type=int, default=0, help="studies where raters see different pictures"
    )
    parser.add_argument("--raters", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    found = (
        [coverage(n, skill, args.studies) for n in args.raters for skill in (0.8, 0.95)]
        if args.studies
        else []
    )
    found += (
        [level(n, case, args.studies) for n in args.raters for case in CASES]
        if args.studies
        else []
    )
    found += (
        [odds(n, case, args.odds) for n in args.raters for case in ("nothing", "both")]
        if args.odds
        else []
    )
    found += (
        [sparse(6, *some, args.sparse) for some in ((982, 0.0), (100, 0.8))] if args.sparse else []
    )
    report = {"machine": machine_facts(), "found": found}
    print(json.dumps(report, indent=1))
    args.out.mkdir(exist_ok=True)
    (args.out / "ratings_calibration.json").write_text(json.dumps(report, indent=1))


def share(k: int, n: int) -> list[float]:
    """Share, low, high."""
    ends = binomtest(k, n).proportion_ci(method="exact")
    return [round(k / n, 3), round(float(ends.low), 3), round(float(ends.high), 3)]


def coverage(n_raters: int, skill: float, n: int) -> dict[str, Any]:
    """How often the three intervals of a share hold what they speak of."""
    rng = np.random.default_rng([n_raters, int(1000 * skill)])
    rows = crossing(n_raters, N_IMAGES, ["z"])
    rows["rater"], centre = rows["slot"], intercept(skill, float(np.hypot(RATER_SD, IMAGE_SD)))
    inside = dict.fromkeys(("ci", "rater", "image"), 0)
    width = dict.fromkeys(("ci", "rater", "image"), 0.0)
    for _ in range(n):
        raters = rng.normal(0, RATER_SD, n_raters)
        images = rng.normal(0, IMAGE_SD, N_IMAGES)
        chance = expit(centre + raters[:, None] + images).ravel()
        row = accuracy(
            rows.assign(hit=rng.random(len(rows)) < chance), n_bootstrap=500, rng=rng
        ).iloc[0]
        truth = {
            "ci": skill,
            "rater": average(centre + images, RATER_SD).mean(),
            "image": average(centre + raters, IMAGE_SD).mean(),
        }
        for name, value in truth.items():
            inside[name] += row[f"{name}_low"] <= value <= row[f"{name}_high"]
            width[name] += (row[f"{name}_high"] - row[f"{name}_low"]) / n
    return {
        "what": "coverage",
        "raters": n_raters,
        "skill": skill,
        "studies": n,
        "covered": {name: share(int(k), n) for name, k in inside.items()},
        "width": {name: round(float(w), 3) for name, w in width.items()},
    }


def sparse(n_raters: int, n_images: int, distractor_sd: float, n: int) -> dict[str, Any]:
    """Coverage where a rater sees one image of each of 100 pairs (or all), beside the other one,
    which matters too.
    """
    rng = np.random.default_rng(2)
    inside = {"accuracy": 0, "difference": 0}
    per_rater = min(N_IMAGES, n_images // 2)
    sds = {"rater": 0.4, "image": 0.8, "rater_method": 0.1, "image_method": 0.6}
    shape = (2, n_raters, per_rater)
    sd = float(np.linalg.norm([*sds.values(), distractor_sd]))
    centre = np.array([intercept(0.85, sd), intercept(0.75, sd)])[:, None, None]
    method, rater, _ = np.indices(shape)
    for _ in range(n):
        pairs = rng.permuted(np.tile(np.arange(n_images // 2), (n_raters, 1)), axis=1)[
            :, :per_rater
        ]
        # 2k and 2k + 1 are a pair
        image = np.broadcast_to(2 * pairs + rng.integers(2, size=pairs.shape), shape)
        other = image ^ 1
        chance = (
            centre
            + rng.normal(0, sds["rater"], n_raters)[rater]
            + rng.normal(0, sds["image"], n_images)[image]
        )
        chance = chance + rng.normal(0, sds["rater_method"], (2, n_raters))[method, rater]
        chance = chance + rng.normal(0, sds["image_method"], (2, n_images))[method, image]
        chance = chance + rng.normal(0, distractor_sd, (2, n_images))[method, other]
        table = {
            "rater": rater,
            "method": method,
            "image": image,
            "hit": rng.random(shape) < expit(chance),
        }
        answers = pd.DataFrame({name: values.ravel() for name, values in table.items()}).assign(
            kind="trial"
        )
        found = compare(answers, units=()).set_index(["a", "b"])
        for name, key, truth in (
            ("difference", ("0", "1"), 0.1),
            ("accuracy", ("0", "chance"), 0.35),
        ):
            inside[name] += found.loc[key, "ci_low"] <= truth <= found.loc[key, "ci_high"]
    return {
        "what": "sparse",
        "raters": n_raters,
        "images": n_images,
        "distractor sd": distractor_sd,
        "studies": n,
        "covered": {name: share(int(k), n) for name, k in inside.items()},
    }


def traits(case: str) -> dict[str, float]:
    """Effects within methods of a case."""
    return dict(zip(("rater_method_sd", "image_method_sd"), CASES[case], strict=True))


def level(n_raters: int, case: str, n: int) -> dict[str, Any]:
    """How often equal methods are called different, at 0.05 and at 0.01."""
    rng = np.random.default_rng([n_raters, *case.encode()])
    trials = crossing(n_raters, N_IMAGES, ["a", "b"])
    units = ("image", "rater", "answer")
    found = [
        compare(simulate(trials, 0.8, rng, **traits(case)), units=units).iloc[0] for _ in range(n)
    ]
    small = {
        name: {at: share(sum(row[f"p_{name}"] <= at for row in found), n) for at in (0.05, 0.01)}
        for name in ("both", *units)
    }
    return {
        "what": "level",
        "raters": n_raters,
        "within methods": case,
        "studies": n,
        "found": small,
    }


def odds(n_raters: int, case: str, n: int) -> dict[str, Any]:
    """How often the intervals of an odds ratio (0.85 against 0.75) hold it: marginal and within
    rater and image.
    """
    rng = np.random.default_rng([n_raters, *case.encode()])
    trials = crossing(n_raters, N_IMAGES, ["a", "b"])
    effects = {
        "rater_sd": 0.4,
        "image_sd": 0.8,
        "percept_sd": 0.0,
        "side_sd": 0.0,
        "lapse": 0.0,
    } | traits(case)
    sd = float(np.linalg.norm(list(effects.values())))
    marginal = logit(0.85) - logit(0.75)
    within = intercept(0.85, sd) - intercept(0.75, sd)
    inside = dict.fromkeys(("crossed", "variational", "crossed, chance", "variational, chance"), 0)
    for _ in range(n):
        table = counted(simulate(trials, {"a": 0.85, "b": 0.75}, rng, **effects))
        shares = np.array([table.share(0), table.share(1)])
        parts = [table.influence(m) / (p * (1 - p)) for m, p in enumerate(shares)]
        for name, part, methods, value, truth in (
            ("crossed", parts[0] - parts[1], (0, 1), logit(shares[0]) - logit(shares[1]), marginal),
            ("crossed, chance", parts[1], (1,), logit(shares[1]), logit(0.75)),
        ):
            spread = table.variance(part, *methods)
            low, high, _ = t_interval(float(value), float(spread.both), float(spread.df))
            inside[name] += low <= truth <= high
        means, sds, _, _ = variational_fit(table)
        wide = norm.ppf(0.975)
        inside["variational"] += abs(means[0] - means[1] - within) <= wide * np.hypot(*sds)
        inside["variational, chance"] += abs(means[1] - intercept(0.75, sd)) <= wide * sds[1]
    return {
        "what": "odds",
        "raters": n_raters,
        "within methods": case,
        "studies": n,
        "covered": {name: share(int(k), n) for name, k in inside.items()},
    }


if __name__ == "__main__":
    main()
