"""What is there, what is missing for which stage, and whether the parts of a data set agree, in one
screen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from phosphene import disk
from phosphene.data import alignment
from phosphene.data.dataset import Dataset
from phosphene.data.nsd import NSD, files
from phosphene.data.opening import open_hdf5
from phosphene.data.sources import open_dataset
from phosphene.errors import PhospheneError

State = Literal["ok", "note", "missing", "wrong"]
ALIGNMENT_SESSIONS = 3
SURFACE = ("layerB1", "layerB2", "layerB3")


@dataclass(frozen=True)
class Line:
    """One thing that was looked at: what it is, how it is, what was found, and what needs it."""

    item: str
    state: State
    found: str
    needed_for: str = ""


def check(
    root: str | Path, kind: str, subject: str, align: bool = True, **options: Any
) -> list[Line]:
    """Look at one subject's data.

    Parameters
    ----------
    root, kind, subject, options
        As :func:`phosphene.data.open_dataset` takes them.
    align : bool
        Also test whether pictures predict early voxels (:mod:`phosphene.data.alignment`), about a
        minute at full size.

    Returns
    -------
    list of Line
        "wrong" where parts are damaged or do not agree, "missing" where a file that some stage
        needs is not there, "note" where nothing is to be done.
    """
    try:
        data = open_dataset(kind, root, subject, **options)
    except PhospheneError as error:
        return [Line("data", "wrong", str(error), "everything")]
    lines = list(_nsd(data) if isinstance(data, NSD) else _any(data))
    if (
        align
        and data.photographs
        and all(line.state == "ok" for line in lines if line.item in ("trials", "betas"))
    ):
        first = (
            options | {"sessions": data.sessions[:ALIGNMENT_SESSIONS]}
            if isinstance(data, NSD)
            else options
        )
        lines.append(
            looked(
                "alignment",
                lambda: _alignment(open_dataset(kind, root, subject, **first)),
                "decode",
            )
        )
    return lines


def as_records(lines: Sequence[Line]) -> list[dict[str, str]]:
    """Lines as plain dictionaries, for JSON."""
    return [asdict(line) for line in lines]


def looked(item: str, look: Callable[[], str | Line], needed_for: str) -> Line:
    """Turn what a look finds, or the sentence that it ends with, into a line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = look()
    except PhospheneError as error:
        absent = "no such file" in str(error) or "found no " in str(error)
        return Line(item, "missing" if absent else "wrong", str(error), needed_for)
    return found if isinstance(found, Line) else Line(item, "ok", found, needed_for)


def _any(data: Dataset) -> Iterator[Line]:
    """What every data set is asked."""
    yield looked("trials", lambda: _count_trials(data), "everything")
    yield looked("betas", lambda: _count_voxels(data), "decode")
    yield Line("regions", "ok", ", ".join(data.rois), "decode")
    some = data.trials["image"].unique()[:5].tolist()
    if data.photographs:
        yield looked("pictures", lambda: _describe_pictures(data, some), "extract z, evaluate")
    yield looked("captions", lambda: f"such as: {data.captions(some)[0][0]}", "extract c")


def _count_voxels(data: Dataset) -> str:
    return _with_warnings(lambda: f"{data.betas(data.rois[-1], 'none').shape[1]} voxels with data")


def _describe_pictures(data: Dataset, images: Sequence[int]) -> str:
    return _with_warnings(lambda: f"{data.images(images).shape[2]} pixels wide")


def _with_warnings(look: Callable[[], str]) -> str:
    """What a look finds, and the warnings on its way."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        description = look()
    return "; ".join([description, *(str(note.message) for note in notes)])


def _count_trials(data: Dataset) -> str:
    trials = data.trials
    parts = [
        f"{len(part)} {split} of {part['image'].nunique()} pictures"
        for split, part in trials.groupby("split")
    ]
    n = trials["session"].nunique()
    return f"{len(trials)} in {n} session{'s' * (n != 1)}: {', '.join(parts)}"


def _nsd(data: NSD) -> Iterator[Line]:
    """What is asked of the Natural Scenes Dataset."""
    trials = looked("trials", lambda: _count_trials(data), "everything")
    yield trials
    if trials.state != "ok":
        return
    yield looked("counts", lambda: _counts(data), "")
    yield _present(
        data.layout.responses, "log of responses", "agrees with the design", "agreement of trials"
    )
    yield _present(
        data.layout.stimulus_table,
        "stimulus table",
        "agrees with the design",
        "captions, categories",
    )
    yield looked("betas", lambda: _sessions(data), "decode")
    yield looked("regions", lambda: _regions(data), "decode")
    yield looked("noise ceiling", lambda: _ceiling(data), "report")
    yield looked("pictures", lambda: _pictures(data), "extract z, evaluate")
    first = data.trials["image"].iloc[:1].tolist()
    yield looked("captions", lambda: f"such as: {data.captions(first)[0][0]}", "extract c")
    yield looked(
        "categories",
        lambda: f"such as: {', '.join(data.categories(first)[0]) or 'none'}",
        "evaluate",
    )
    yield looked("surface", lambda: _surface(data), "flat maps")


def _present(path: Path, item: str, found: str, needed_for: str) -> Line:
    """A file that is compared with others where it is there; what does not agree has been said with
    the trials.
    """
    if disk.exists(path):
        return Line(item, "ok", found, needed_for)
    return Line(item, "missing", f"{path}: no such file", needed_for)


def _counts(data: NSD) -> Line:
    """Numbers of trials and images against those published."""
    if (data.layout.root / "SIMULATED.json").is_file():
        return Line("counts", "note", "simulated data: the published numbers do not apply")
    wrong = files.check_counts(data.subject, data.trials)
    if wrong:
        return Line("counts", "wrong", "; ".join(wrong), "comparing with papers")
    if len(data.sessions) not in files.RELEASE_COUNTS:
        known = ", ".join(map(str, sorted(files.RELEASE_COUNTS)))
        return Line(
            "counts",
            "note",
            f"{len(data.sessions)} sessions; published numbers exist for 1 to {known}",
        )
    return Line("counts", "ok", f"as published for {len(data.sessions)} sessions")


def _sessions(data: NSD) -> str:
    """Open every session's file and compare it with design and mask."""
    size = 0
    formats = set()
    planned = files.read_design(data.layout.design)["stimpattern"].shape[0]
    for session in data.sessions:
        betas = data.session_file(session)
        size += betas.path.stat().st_size
        formats.add("HDF5" if betas.path.suffix == ".hdf5" else "NIfTI")
    numbers = _ranges(data.sessions)
    return (
        f"sessions {numbers} of {planned} planned, {' and '.join(sorted(formats))}, "
        f"{size / 1e9:.2f} GB"
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as text: 1-3, 7."""
    groups = np.split(np.array(numbers), np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(
        f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in groups
    )


def _regions(data: NSD) -> Line:
    """Atlases with their voxel counts, and those that cannot be read."""
    found = []
    for name in data.regions.atlases:
        found.append(f"{name} {np.sum(data.regions.volume(name) > 0)}")
    if not found:
        where = data.regions.folder
        return Line(
            "regions", "missing", f"{where}: no atlas; only 'brain' can be decoded from", "decode"
        )
    return Line(
        "regions", "ok", f"{', '.join(found)}, brain {data.regions.brain.sum()} voxels", "decode"
    )


def _ceiling(data: NSD) -> str:
    """Median noise-ceiling SNR of visual cortex."""
    if not disk.exists(data.layout.ncsnr):
        raise PhospheneError(f"{data.layout.ncsnr}: no such file")
    region = next((roi for roi in ("nsdgeneral", "early") if roi in data.rois), "brain")
    values = data.voxels(region, uncovered="nan")["ncsnr"]
    return (
        f"median ncsnr {np.nanmedian(values):.2f} in {region}, {int(values.isna().sum())} of "
        f"{len(values)} invalid"
    )


def _pictures(data: NSD) -> str:
    """The stimuli, and whether they hold every picture that was shown."""
    last = int(data.trials["image"].max())
    data.images([last])
    with open_hdf5(data.layout.stimuli, "imgBrick") as brick:
        n, side = brick.shape[:2]
    return f"{n} of {side} x {side} pixels, every one that was shown"


def _surface(data: NSD) -> str:
    """Files that lead from the grid to the cortical surface."""
    name = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}.get(
        data.layout.resolution, data.layout.resolution
    )
    wanted = [f"{side}.{name}-to-{layer}.mgz" for side in ("lh", "rh") for layer in SURFACE]
    wanted += [f"{side}.white-to-fsaverage.mgz" for side in ("lh", "rh")]
    for path in (data.layout.transforms / file for file in wanted):
        if not disk.exists(path):
            raise PhospheneError(f"{path}: no such file; slices are drawn instead of flat maps")
    return "transforms of three depths and to fsaverage"


def _alignment(data: Dataset) -> Line:
    """The alignment test in words."""
    found = alignment.alignment(data)
    text = (
        f"pictures predict {found.n_voxels} voxels of {found.region}: r {found.r:.3f} (random "
        "pairs below "
        f"{found.chance:.3f}, p {found.p:.3f})"
    )
    if found.elsewhere is not None:
        text += f"; elsewhere in the brain {found.elsewhere:.3f}"
    if found.fits:
        return Line("alignment", "ok", text, "decode")
    if found.shift is not None:
        text += (
            f"; they fit when responses are moved by {found.shift} in the order of trials: "
            "check that"
        )
    elif found.p < 0.01:
        text += "; the region is predicted no better than the rest: check the masks' axes"
    else:
        text += "; no shift of trials fits either: check masks, trials and pictures"
    return Line("alignment", "wrong", text, "decode")
