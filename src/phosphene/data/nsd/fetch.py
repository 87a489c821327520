"""The Natural Scenes Dataset from its public bucket: exactly the files that a study reads, resumed
and verified.

Keys in the bucket are paths below the data's folder, so what is fetched is what
:mod:`phosphene.data.nsd.dataset` reads.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout

from phosphene import disk
from phosphene.data.nsd.bucket import MIB, Bucket, Unreachable, verified
from phosphene.errors import PhospheneError

TERMS = """\
The Natural Scenes Dataset is for those who have accepted its Terms and Conditions: read them and
fill in the NSD Data Access Agreement, both linked from naturalscenesdataset.org, before you
download. They also say what you may pass on."""
ANNOTATIONS = tuple(
    f"{kind}_{split}2017.json" for kind in ("captions", "instances") for split in ("train", "val")
)

SMALL = 16 * MIB  # files up to this size are read again to see whether they are the bucket's
INTERRUPTIONS = 5  # in a row, without a byte in between, before a download is given up
PAUSE = 1.0  # seconds after the first of them, doubled after each


class Wanted(NamedTuple):
    """Files of one folder of the bucket; `lacking` says what becomes of a study without them, "" if
    it cannot run.
    """

    folder: str
    pattern: str
    lacking: str = ""
    least: int = 1  # how many there are at least


@dataclass(frozen=True)
class RemoteFile:
    """A file of the bucket and what is on disk of it: "there", "partial", "missing" or "differs"
    (to be replaced).
    """

    key: str
    size: int
    etag: str
    wanted: str
    state: Literal["there", "partial", "missing", "differs"]
    present: int

    @property
    def remaining(self) -> int:
        """Bytes still to download."""
        return self.size - self.present


def plan(
    bucket: Bucket,
    root: Path,
    subjects: Sequence[str],
    sessions: Sequence[int] = (),
    betas: str = "betas_fithrf_GLMdenoise_RR",
    resolution: str = "func1pt8mm",
    form: str = "hdf5",
) -> tuple[list[RemoteFile], list[str]]:
    """Find in the bucket what these subjects need.

    Parameters
    ----------
    bucket : Bucket
    root : path
        The data's folder; it need not exist.
    subjects, sessions, betas, resolution
        As in a study's ``[data]``; no sessions means all that are in the bucket.
    form : {"hdf5", "nii.gz"}
        Which of the two files of every session's betas.

    Returns
    -------
    files : list of RemoteFile
    notes : list of str
        One sentence for each optional file that the bucket does not have.

    Raises
    ------
    PhospheneError
        When the bucket lacks something that is needed, a session for example, or the settings name
        nothing in NSD.
    """
    if form not in ("hdf5", "nii.gz"):
        raise PhospheneError(f"--format: found {form!r}, expected 'hdf5' or 'nii.gz'")
    if (root / "SIMULATED.json").exists():
        raise PhospheneError(
            f"{root}: holds simulated data; choose another data.root for the measured"
        )
    found: dict[str, RemoteFile] = {}
    notes = []
    listed = {}
    for folder, pattern, lacking, least in _wanted(subjects, betas, resolution, form):
        if folder not in listed:
            listed[folder] = bucket.files(folder)
        names = [name for name in sorted(listed[folder]) if fnmatchcase(name, pattern)]
        if not names and not lacking:
            raise PhospheneError(
                f"{folder}{pattern}: not in the bucket; check data.subjects, data.betas and "
                "data.resolution"
            )
        if len(names) < least:
            notes.append(
                f"{folder}{pattern}: {len(names)} of at least {least} in the bucket; {lacking}"
            )
        if pattern.startswith("betas_session"):
            names = _chosen(names, sessions, folder, form)
        for name in names:
            size, etag = listed[folder][name]
            state, present = _on_disk(root / folder / name, size, etag)
            found[folder + name] = RemoteFile(
                folder + name, size, etag, folder + pattern, state, present
            )
    return list(found.values()), notes


def _wanted(subjects: Sequence[str], betas: str, resolution: str, form: str) -> Iterator[Wanted]:
    """What a study reads, in the order in which it is shown."""
    grids = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}
    if resolution not in grids:
        raise PhospheneError(
            f"data.resolution: found {resolution!r}, expected {' or '.join(map(repr, grids))}"
        )
    if not re.fullmatch(r"betas_\w+", betas, re.ASCII):
        raise PhospheneError(
            f"data.betas: found {betas!r}, expected a name such as 'betas_fithrf_GLMdenoise_RR'"
        )
    experiment = "nsddata/experiments/nsd/"
    yield Wanted(experiment, "nsd_expdesign.mat")
    yield Wanted(experiment, "nsd_stim_info_merged.csv")
    names = "its regions get the names that the NSD data manual prints"
    yield Wanted("nsddata/freesurfer/fsaverage/label/", "*.mgz.ctab", names)
    for subject in subjects:
        if not re.fullmatch(r"subj0[1-8]", subject):
            raise PhospheneError(
                f"data.subjects: found {subject!r}, expected some of 'subj01' to 'subj08'"
            )
        own = f"nsddata/ppdata/{subject}/"
        yield Wanted(f"{own}behav/", "responses.tsv")
        yield Wanted(f"{own}{resolution}/", "brainmask.nii.gz")
        yield Wanted(
            f"{own}{resolution}/roi/", "*.nii.gz", "the only region will be the whole brain"
        )
        yield Wanted(f"nsddata/freesurfer/{subject}/label/", "*.mgz.ctab", names)
        unmapped = "there will be no maps on the cortical surface"
        yield Wanted(
            f"{own}transforms/", f"[lr]h.{grids[resolution]}-to-layerB[123].mgz", unmapped, 6
        )
        yield Wanted(f"{own}transforms/", "[lr]h.white-to-fsaverage.mgz", unmapped, 2)
        responses = f"nsddata_betas/ppdata/{subject}/{resolution}/{betas}/"
        yield Wanted(responses, "ncsnr.nii.gz")
        yield Wanted(responses, f"betas_session*.{form}")
    yield Wanted("nsddata_stimuli/stimuli/nsd/", "nsd_stimuli.hdf5")


def _chosen(names: Iterable[str], sessions: Sequence[int], folder: str, form: str) -> list[str]:
    """Files of the sessions asked for, or the sentence that says which there are."""
    numbered = {int(m[1]): name for name in names if (m := re.match(r"betas_session(\d+)\.", name))}
    absent = sorted(set(sessions) - set(numbered))
    if absent:
        raise PhospheneError(
            f"{folder}: no session {', '.join(map(str, absent))} of .{form} betas in the bucket; "
            "there are "
            f"{len(numbered)}, the last is {max(numbered, default=0)}; change data.sessions"
        )
    return [numbered[session] for session in sorted(set(sessions) or numbered)]


def _on_disk(
    path: Path, size: int, etag: str
) -> tuple[Literal["there", "partial", "missing", "differs"], int]:
    """What is on disk of a file, and how many of its bytes need not be downloaded."""
    if (
        path.exists()
        and path.stat().st_size == size
        and (size > SMALL or verified(path, etag) is not False)
    ):
        return "there", size
    part = _part(path, etag)
    if part.exists() and part.stat().st_size <= size:
        return "partial", part.stat().st_size
    return ("differs" if path.exists() else "missing"), 0


def _part(path: Path, etag: str) -> Path:
    """Where a file lies until it is complete; what a changed file left behind has another name."""
    return path.with_name(f".{path.name}.{etag}.part")


@dataclass
class _Progress:
    """What the threads of one download share: bytes there of every file, and whether to stop."""

    present: dict[str, int]
    stop: threading.Event = field(default_factory=threading.Event)


def download(
    bucket: Bucket,
    files: Sequence[RemoteFile],
    root: Path,
    jobs: int = 4,
    report: Callable[[int], None] = lambda present: None,
) -> list[str]:
    """Download what is not there yet; killed at any moment, the next call goes on where this one
    was.

    Parameters
    ----------
    bucket : Bucket
    files : sequence of RemoteFile
        From :func:`plan`.
    root : path
    jobs : int
        Files at once.
    report : callable
        Called from this thread now and then with the number of bytes of all `files` that are on
        disk.

    Returns
    -------
    list of str
        Keys of files whose size alone could be verified, because how they were uploaded is not
        known.

    Raises
    ------
    PhospheneError
        When the disk is too small, another process downloads to the same folder, the network fails,
        or a file differs from its checksum twice.
    """
    # the longest first
    todo = sorted((f for f in files if f.state != "there"), key=lambda f: -f.size)
    check_space(todo, root)
    progress = _Progress({f.key: f.present for f in files})
    root.mkdir(parents=True, exist_ok=True)
    lock = root / ".phosphene-fetch.lock"
    try:
        with FileLock(lock, timeout=0), ThreadPoolExecutor(jobs) as pool:
            pending = {pool.submit(_one, bucket, file, root, progress): file.key for file in todo}
            try:
                return sorted(_drain(pending, progress, report))
            finally:
                progress.stop.set()
                pool.shutdown(cancel_futures=True)
    except Timeout:
        raise PhospheneError(
            f"{lock}: another `phosphene fetch` is writing to this folder; let it finish"
        ) from None


def _drain(
    pending: dict[Future[bool], str], progress: _Progress, report: Callable[[int], None]
) -> Iterator[str]:
    """Wait for all files; gives the keys of those of which only the size was verified."""
    left = set(pending)
    while left:
        done, left = wait(left, timeout=0.5, return_when=FIRST_EXCEPTION)
        report(sum(progress.present.values()))
        yield from (pending[future] for future in done if not future.result())


def check_space(files: Iterable[RemoteFile], root: Path) -> None:
    """Refuse files that do not fit on the disk."""
    needed = sum(file.remaining for file in files)
    free = disk.free_space(root)
    if needed > free:
        raise PhospheneError(
            f"{root}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; make room, "
            "choose another "
            "data.root, or ask for fewer subjects or sessions"
        )


def _one(bucket: Bucket, file: RemoteFile, root: Path, progress: _Progress) -> bool:
    """Download one file whole or not at all; tells whether its contents were verified, not its size
    alone.
    """
    target = root / file.key
    part = _part(target, file.etag)
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob(f".{target.name}.*.part"):
        if stale != part:
            stale.unlink()
    for _ in range(2):
        _complete(bucket, file, part, progress)
        same = part.stat().st_size == file.size and verified(
            part, file.etag, bucket.part_size(file.key) if "-" in file.etag else None
        )
        if same is not False:
            os.replace(part, target)
            return bool(same)
        part.unlink()
    raise PhospheneError(
        f"{target}: downloaded twice, its checksum differs from the bucket's; try again later"
    )


def _complete(bucket: Bucket, file: RemoteFile, part: Path, progress: _Progress) -> None:
    """Append to a part until it is as long as the file, in spite of a network that breaks off."""
    failures = 0
    try:
        with part.open("ab") as out:
            while (start := out.tell()) < file.size:
                try:
                    for at, chunk in bucket.read(file.key, file.size, file.etag, start):
                        if progress.stop.is_set():
                            raise CancelledError
                        if at < out.tell():
                            out.truncate(at)
                        out.write(chunk)
                        out.flush()  # what has come stays when this process is killed
                        progress.present[file.key] = at + len(chunk)
                except Unreachable:
                    failures = 0 if out.tell() > start else failures + 1
                    if failures == INTERRUPTIONS:
                        raise
                    progress.stop.wait(PAUSE * 2**failures)
            os.fsync(out.fileno())
    except OSError as error:
        raise PhospheneError(
            f"{part}: could not be written ({error}); what is there is kept, run again"
        ) from error


def missing_annotations(root: Path) -> list[Path]:
    """COCO's captions and categories that are not on disk; they are not in the bucket."""
    folder = root / "nsddata_stimuli" / "stimuli" / "nsd" / "annotations"
    return [folder / name for name in ANNOTATIONS if not disk.exists(folder / name)]
