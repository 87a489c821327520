"""A study's content made up for the tests of the report: drawn scenes, blurred as if decoded, and
plausible tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from phosphene.data.simulated.scenes import captions, render, sample_scene
from phosphene.metrics.presets import PRESETS
from phosphene.reporting import gallery, tables
from phosphene.reporting.content import Content
from phosphene.reporting.gallery import Shown

LEVELS = {
    ("z", "brain"): 0.85,
    ("c", "brain"): 0.9,
    ("zc", "brain"): 0.95,
    ("zc", "shuffled"): 0.5,
    ("zc", "true"): 0.99,
}
RULES = ("mean", "single", "decoded", "oracle")


def scored(
    subjects: Sequence[str], presets: Sequence[str], n: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `scores` and `per_image`, as the stage evaluate gives them."""
    random = np.random.default_rng(3)
    scores = []
    images = []
    for s, subject in enumerate(subjects):
        for (mode, source), level in LEVELS.items():
            quality = np.clip(level - 0.03 * s + 0.1 * random.standard_normal(n), 0, 1)
            for preset, metric in ((name, m) for name in presets for m in PRESETS[name].metrics):
                for rule in RULES if mode != "z" else [PRESETS[preset].selection]:
                    values = np.clip(
                        quality + 0.03 * random.standard_normal(n) + 0.01 * (rule == "oracle"), 0, 1
                    )
                    key = {
                        "subject": subject,
                        "mode": mode,
                        "source": source,
                        "preset": preset,
                        "metric": metric.name,
                        "direction": metric.direction,
                        "selection": rule,
                    }
                    about = {
                        "kind": metric.kind,
                        "better": metric.better,
                        "n": n,
                        "samples": 1 if mode == "z" else 5,
                    }
                    mean = values.mean()
                    half = 2 * values.std() / np.sqrt(n)
                    chance, p = (
                        (0.5, 0.0005 if level > 0.6 else 0.43)
                        if metric.kind == "two-way"
                        else (np.nan, np.nan)
                    )
                    found = {"value": mean, "ci_low": mean - half, "ci_high": min(mean + half, 1.0)}
                    scores.append(key | about | found | {"p": p, "chance": chance})
                    images.append(
                        pd.DataFrame(
                            {**key, "item": np.arange(n), "value": values, "image": np.arange(n)}
                        )
                    )
    return pd.DataFrame(scores), pd.concat(images, ignore_index=True)


def compared(subjects: Sequence[str], preset: str) -> pd.DataFrame:
    """Differences between modes, one of them unclear."""
    rows = []
    for subject in subjects:
        for metric in PRESETS[preset].metrics:
            for a, b, difference, p in (
                ("z", "c", -0.05, 0.01),
                ("z", "zc", -0.1, 1e-6),
                ("c", "zc", -0.01, 0.3),
            ):
                rows.append(
                    {
                        "subject": subject,
                        "preset": preset,
                        "metric": metric.name,
                        "direction": metric.direction,
                        "a": a,
                        "b": b,
                        "difference": difference,
                        "ci_low": difference - 0.02,
                        "ci_high": difference + 0.02,
                        "p_bootstrap": p,
                        "p_signed_rank": p,
                        "p_holm": p,
                        "q_fdr": p,
                    }
                )
    return pd.DataFrame(rows)


def decoded(subjects: Sequence[str], n: int) -> dict[str, pd.DataFrame]:
    """Tables `features`, `rois` and `names`."""
    features = []
    rois = []
    names = []
    for subject in subjects:
        for feature, source, r in (
            ("z", "brain", 0.42),
            ("z", "shuffled", 0.01),
            ("c", "brain", 0.31),
            ("c", "shuffled", -0.01),
        ):
            features.append(
                {
                    "subject": subject,
                    "feature": feature,
                    "source": source,
                    "n": n,
                    "r": r,
                    "q25": r - 0.1,
                    "q75": r + 0.1,
                    "ceiling": 0.7,
                    "normalised": r / 0.7,
                    "accuracy": 0.5 + r,
                    "ci_low": 0.48 + r,
                    "ci_high": 0.52 + r,
                    "p": 0.001,
                    "image_retrieval": r,
                    "image_retrieval_low": r - 0.05,
                    "image_retrieval_high": r + 0.05,
                    "brain_retrieval": r,
                    "brain_retrieval_low": r - 0.05,
                    "brain_retrieval_high": r + 0.05,
                    "candidates": n,
                    "retrieval_chance": 1 / n,
                }
            )
        for feature in ("z", "c"):
            for k, roi in enumerate(("early", "midventral", "ventral", "lateral")):
                r = 0.4 - 0.08 * k if feature == "z" else 0.15 + 0.06 * k
                rois.append(
                    {
                        "subject": subject,
                        "feature": feature,
                        "roi": roi,
                        "r": r,
                        "q25": r - 0.1,
                        "q75": r + 0.1,
                        "ceiling": 0.7 if k < 2 else np.nan,
                        "normalised": r / 0.7,
                        "n_voxels": 1200 + k,
                    }
                )
        for (mode, source), level in LEVELS.items():
            names.append(
                {
                    "subject": subject,
                    "mode": mode,
                    "source": source,
                    "accuracy": level - 0.3,
                    "ci_low": level - 0.4,
                    "ci_high": level - 0.2,
                    "chance": 0.076,
                    "choices": 18,
                    "n": n,
                }
            )
    return {
        "features": pd.DataFrame(features),
        "rois": pd.DataFrame(rois),
        "names": pd.DataFrame(names),
    }


def _blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def shown(
    subjects: Sequence[str], per_image: pd.DataFrame, preset: str, n: int, side: int
) -> list[Shown]:
    """Scenes, and what a decoder would have made of them."""
    random = np.random.default_rng(0)
    found = []
    scenes = [sample_scene(random) for _ in range(n)]
    for subject in subjects:
        scores = tables.item_scores(per_image[per_image["subject"] == subject], preset)
        for item, scene in enumerate(scenes):
            seen = render(scene, side)
            made = {
                "seen": seen,
                "z": _blurred(seen, side / 14),
                "c": render(scenes[item - 1], side),
                "zc": _blurred(seen, side / 40),
            }
            found.append(
                Shown(
                    subject,
                    item,
                    item,
                    {name: gallery.url(picture) for name, picture in made.items()},
                    caption=captions(scene)[0],
                    categories=tuple(thing.category for thing in scene.things),
                    scores={str(mode): float(value) for mode, value in scores.loc[item].items()},
                )
            )
    return found


def audit(subjects: Sequence[str]) -> pd.DataFrame:
    lines = [
        ("leaked test trials", "0 of 100", "none", "ok", "No test picture was used for training."),
        (
            "repeats across folds",
            "800 of 800",
            "none",
            "fault",
            "Repeats of a picture are in several folds.",
        ),
        (
            "caption with random noise",
            "99.2 %",
            "below 95.9 %",
            "look",
            "Captions alone score as well.",
        ),
        ("same category", "–", "–", "not asked", "These data have no categories."),
    ]
    columns = ["check", "found", "expected", "verdict", "sentence"]
    return pd.concat(
        [pd.DataFrame(lines, columns=columns).assign(subject=subject) for subject in subjects]
    )


def example(
    subjects: Sequence[str] = ("subj01",),
    presets: Sequence[str] = ("scenes", "mindeye"),
    n: int = 30,
    side: int = 64,
) -> Content:
    """A whole page's content."""
    scores, per_image = scored(subjects, presets, n)
    all_shown = shown(subjects, per_image, presets[0], n, side)
    by_item = {(one.subject, one.item): one for one in all_shown}
    examples = {}
    ranked = None
    for subject in subjects:
        ranked = tables.item_scores(per_image[per_image["subject"] == subject], presets[0])["zc"]
        chosen = gallery.tenths(ranked).items()
        examples[subject] = [
            replace(by_item[subject, item], group=group) for group, some in chosen for item in some
        ]
    shared = []
    for one in examples[subjects[0]] if len(subjects) > 1 else []:
        each = {s: by_item[s, one.item] for s in subjects}
        pictures = {"seen": one.pictures["seen"]} | {
            s: other.pictures["zc"] for s, other in each.items()
        }
        shared.append(
            replace(
                one, pictures=pictures, scores={s: other.scores["zc"] for s, other in each.items()}
            )
        )
    absent = pd.DataFrame(
        {
            "measure": ["mindeye/SwAV"],
            "reason": ["swav_800ep_pretrain.pth.tar: not found."],
            "subject": subjects[0],
        }
    )
    return Content(
        name="example",
        model="bundled",
        preset=presets[0],
        subjects=list(subjects),
        modes=["z", "c", "zc"],
        richest="zc",
        regions={"z": ["early"], "c": ["ventral"]},
        simulated=True,
        scores=scores,
        per_image=per_image,
        absent=absent,
        comparisons=compared(subjects, presets[0]),
        noise={s: 40.0 - 6 * k for k, s in enumerate(subjects)},
        audit=audit(subjects),
        examples=examples,
        shared=shared,
        gallery=all_shown,
        n_items={s: n + 5 for s in subjects},
        settings='name = "example"',
        facts='{"python": "3.11"}',
        **decoded(subjects, n),
    )
