"""A simulated experiment: which images exist, who sees which of them when, and NSD's and COCO's
tables about it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.simulated.scenes import CATEGORIES, Scene, captions, masks, render, sample_scene
from phosphene.errors import PhospheneError
from phosphene.seeds import rng

RUNS = 12  # of a session
SLOTS = 75  # of 4 s in a run, most with a picture


@dataclass(frozen=True)
class Settings:
    """What a simulated folder is made from; see :func:`simulate`."""

    subjects: tuple[str, ...]
    images_shared: int
    images_own: int
    repeats: int
    sessions: int
    noise: float
    nifti: bool
    seed: int
    picture_size: int
    voxel_size: float

    @property
    def n_order(self) -> int:
        """Images that one subject sees ("10k ids" in NSD)."""
        return self.images_shared + self.images_own

    @property
    def n_trials(self) -> int:
        """Trials of one session."""
        return self.n_order * self.repeats // self.sessions

    def check(self) -> None:
        """Raise PhospheneError when no such experiment can be written."""
        known = {f"subj{number:02d}" for number in range(1, 9)}
        if (
            not self.subjects
            or not set(self.subjects) <= known
            or len(set(self.subjects)) < len(self.subjects)
        ):
            raise PhospheneError(
                f"simulate: subjects are {self.subjects}; expected different ones of subj01 to "
                "subj08"
            )
        counts = (self.images_shared, self.images_own, self.repeats, self.sessions)
        if (
            min(counts) < 1
            or self.picture_size < 16
            or self.noise < 0
            or not 2 <= self.voxel_size <= 20
        ):
            raise PhospheneError(
                "simulate: images_shared, images_own, repeats and sessions must be at least 1, "
                "picture_size at least "
                "16, noise not negative and voxel_size from 2 to 20 mm"
            )
        total = self.n_order * self.repeats
        if total % self.sessions:
            near = [n for n in range(1, total + 1) if total % n == 0]
            near.sort(key=lambda n: abs(n - self.sessions))
            raise PhospheneError(
                f"simulate: ({self.images_shared} + {self.images_own}) images x {self.repeats} "
                f"repeats = {total} "
                f"trials do not fill {self.sessions} equal sessions; try sessions = {near[0]} or "
                f"{near[1]}"
            )


@dataclass(frozen=True)
class World:
    """All images, indexed by nsdId, and who sees which: `seen` is (n_subjects, n_order), the shared
    images first.
    """

    scenes: list[Scene]
    pictures: NDArray[np.uint8]
    seen: NDArray[np.int64]
    crops: NDArray[np.int64]  # pixels cut off at top, bottom, left, right


def draw_world(settings: Settings) -> World:
    """Draw the scenes and deal their ids out: the shared ones ascending, every subject's own
    unsorted.
    """
    n_images = settings.images_shared + settings.images_own * len(settings.subjects)
    scenes = [sample_scene(rng(settings.seed, "scene", image)) for image in range(n_images)]
    pictures = np.array([render(scene, settings.picture_size) for scene in scenes])
    draw = rng(settings.seed, "world")
    dealt = draw.permutation(n_images)
    shared = np.sort(dealt[: settings.images_shared])
    own = dealt[settings.images_shared :]
    seen = np.array([[*shared, *images] for images in own.reshape(len(settings.subjects), -1)])
    crops = draw.integers(0, settings.picture_size // 4, (n_images, 4))
    wide = draw.random(n_images) < 0.7
    crops[wide, :2] = 0
    crops[~wide, 2:] = 0
    return World(scenes, pictures, seen, crops)


def draw_design(settings: Settings) -> dict[str, NDArray[np.int64]]:
    """Draw ``nsd_expdesign.mat`` without the images' ids: 1-based, the same order of trials for all
    subjects.
    """
    draw = rng(settings.seed, "design")
    n = settings.n_order
    trials = settings.n_trials
    late: NDArray[np.int64] = np.array([], np.int64)
    if settings.sessions > 1:
        shared = draw.permutation(settings.images_shared)[: max(1, settings.images_shared // 50)]
        own = (
            settings.images_shared
            + draw.permutation(settings.images_own)[: settings.images_own // 100]
        )
        late = np.concatenate([shared, own])[: trials // settings.repeats]
    others = draw.permutation(np.repeat(np.setdiff1d(np.arange(n), late), settings.repeats))
    split = (settings.sessions - 1) * trials
    last = draw.permutation(np.concatenate([others[split:], np.repeat(late, settings.repeats)]))
    order = np.concatenate([others[:split], last]) + 1
    # 63, 62, 63, ... when a session has 750
    edges = np.ceil(np.arange(RUNS + 1) * trials / RUNS).astype(int)
    lengths = np.diff(edges)
    pattern = np.zeros((settings.sessions, RUNS, max(SLOTS, int(lengths.max()))), np.int64)
    for run, length in enumerate(lengths):
        pattern[:, run, np.linspace(0, pattern.shape[2] - 1, length).round().astype(int)] = 1
    counts = [
        np.unique(part, return_counts=True)[1] for part in order.reshape(settings.sessions, trials)
    ]
    return {
        "masterordering": order[None],
        "stimpattern": pattern,
        "basiccnt": np.array([[(part == times).sum() for part in counts] for times in (1, 2, 3)]),
    }


def stimulus_table(
    settings: Settings, world: World, design: dict[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """Make ``nsd_stim_info_merged.csv``: 41 columns with the index, one row per nsdId."""
    n = len(world.scenes)
    side = settings.picture_size
    ids = np.arange(n)
    height = side + world.crops[:, :2].sum(1)
    width = side + world.crops[:, 2:].sum(1)
    cut = world.crops / np.stack([height, height, width, width], 1)
    table = pd.DataFrame(
        {"cocoId": _coco_id(ids), "cocoSplit": np.where(ids % 8, "train2017", "val2017")}
    )
    table["cropBox"] = [str(tuple(float(share) if share else 0 for share in row)) for row in cut]
    table["loss"] = 0.1
    table["nsdId"] = ids
    table["flagged"] = False
    table["BOLD5000"] = False
    table["shared1000"] = np.isin(ids, design["sharedix"] - 1)
    order = design["masterordering"].ravel() - 1
    # 1-based trials of every 10k image
    trials = np.argsort(order, kind="stable").reshape(settings.n_order, -1) + 1
    shown = {}
    when = {}
    for number in range(1, 9):
        seen = design["subjectim"][number - 1] - 1
        present = seen >= 0
        column = np.zeros(n, np.int64)
        column[seen[present]] = 1
        shown[f"subject{number}"] = column
        for repeat in range(max(3, settings.repeats)):
            column = np.zeros(n, np.int64)
            if repeat < settings.repeats:
                column[seen[present]] = trials[present, repeat]
            when[f"subject{number}_rep{repeat}"] = column
    return pd.concat([table, pd.DataFrame(shown), pd.DataFrame(when)], axis=1)


def _coco_id(image: Any) -> Any:
    return 200003 + 7 * image


def response_table(
    settings: Settings, subject: str, seen: NDArray[np.int64], design: dict[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """Make ``responses.tsv``: NSD's 19 columns; the subject forgets, misses buttons, and the log of
    one run is lost.
    """
    draw = rng(settings.seed, "responses", subject)
    order = design["masterordering"].ravel()
    per_run = design["stimpattern"].sum(2)
    runs = np.repeat(np.tile(np.arange(1, RUNS + 1), len(per_run)), per_run.ravel())
    n = len(order)
    table = pd.DataFrame(
        {"SUBJECT": int(subject[-1]), "SESSION": np.arange(n) // settings.n_trials + 1, "RUN": runs}
    )
    table["TRIAL"] = table.groupby(["SESSION", "RUN"]).cumcount() + 1
    table["73KID"] = seen[order - 1] + 1
    table["10KID"] = order
    table["TIME"] = (
        7.0 * (table["SESSION"] - 1) + 0.5 + (table["RUN"] * 300 + table["TRIAL"] * 4) / 86400
    )
    trial = pd.Series(np.arange(n))
    by_image = trial.groupby(order)
    old = by_image.cumcount() > 0
    old_here = trial.groupby([order, table["SESSION"]]).cumcount() > 0
    button = np.where(draw.random(n) < np.where(old, 0.7, 0.2), 2.0, 1.0)
    lost = (table["SESSION"] == settings.sessions) & (table["RUN"] == RUNS)
    button[(draw.random(n) < 0.02) | lost] = np.nan
    pressed = ~np.isnan(button)
    table["ISOLD"] = old.astype(int)
    table["ISCORRECT"] = np.where(pressed, (button == 2) == old, np.nan)
    table["RT"] = np.where(pressed, draw.normal(900, 200, n).clip(250, 3900).round(), np.nan)
    table["CHANGEMIND"] = np.where(pressed, 0.0, np.nan)
    table["MEMORYRECENT"] = trial - by_image.shift()
    table["MEMORYFIRST"] = np.where(
        by_image.cumcount() > 1, trial - by_image.transform("min"), np.nan
    )
    table["ISOLDCURRENT"] = old_here.astype(int)
    table["ISCORRECTCURRENT"] = np.where(pressed, (button == 2) == old_here, np.nan)
    table["TOTAL1"], table["TOTAL2"] = (
        np.where(lost, np.nan, button == 1),
        np.where(lost, np.nan, button == 2),
    )
    table["BUTTON"], table["MISSINGDATA"] = button, lost.astype(int)
    return table


def write_stimuli(folder: Path, world: World) -> None:
    """Write the pictures, and captions and instances as COCO tells them of the uncropped
    pictures.
    """
    (folder / "annotations").mkdir(parents=True)
    with h5py.File(folder / "nsd_stimuli.hdf5", "w") as file:
        file.create_dataset("imgBrick", data=world.pictures, chunks=(1, *world.pictures.shape[1:]))
    kinds = [
        {"id": k, "name": name, "supercategory": "thing"}
        for k, name in enumerate(CATEGORIES, start=1)
    ]
    side = world.pictures.shape[1]
    for split in ("train2017", "val2017"):
        images: list[dict[str, Any]] = []
        said: list[dict[str, Any]] = []
        things: list[dict[str, Any]] = []
        for image, scene in enumerate(world.scenes):
            if (image % 8 == 0) != (split == "val2017"):
                continue
            coco = int(_coco_id(image))
            (top, bottom, left, right) = map(int, world.crops[image])
            size = {"width": side + left + right, "height": side + top + bottom}
            images.append({"id": coco, "file_name": f"{coco:012d}.jpg", **size})
            for number, caption in enumerate(captions(scene)):
                said.append({"id": 10 * coco + number, "image_id": coco, "caption": caption})
            for number, (thing, mask) in enumerate(
                zip(scene.things, masks(scene, side), strict=True)
            ):
                whole = np.pad(mask, ((top, bottom), (left, right)))
                entry = {"id": 10 * coco + number, "image_id": coco, "iscrowd": 0}
                things.append(
                    entry | {"category_id": CATEGORIES.index(thing.category) + 1} | _outline(whole)
                )
        for kind, content in (
            ("captions", {"annotations": said}),
            ("instances", {"annotations": things, "categories": kinds}),
        ):
            entire = {
                "info": {"description": "SIMULATED, not COCO"},
                "images": images,
                **content,
            }
            (folder / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(entire))


def _outline(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return area, box and mask (uncompressed run lengths down the columns, as COCO writes
    them).
    """
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    box = [0.0, 0.0, 0.0, 0.0]
    if len(rows):
        box = [float(v) for v in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]
    return {
        "area": float(mask.sum()),
        "bbox": box,
        "segmentation": {"counts": counts, "size": list(mask.shape)},
    }
