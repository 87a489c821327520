"""The commands that download public data. Heavy imports wait inside them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene import disk
from phosphene.cli.options import STUDY, Changes, command
from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    from phosphene.data.nsd.fetch import RemoteFile
    from phosphene.study import Study

_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class FetchOptions(Changes):
    """How to download."""

    yes: Annotated[bool, typer.Option("--yes", help="Accept NSD's terms beforehand.")] = False
    jobs: Annotated[int, typer.Option(min=1, help="Files at once.")] = 4
    format: Annotated[str, typer.Option(help="Of the betas: hdf5 or nii.gz.")] = "hdf5"
    endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Another server that speaks S3.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List files and sizes, download nothing.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print every file as JSON.")] = False
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="List every file; show tracebacks.")
    ] = False


@command
def nsd(study: STUDY, *, options: FetchOptions) -> None:
    """Download what a study reads of the Natural Scenes Dataset, once its terms are accepted."""
    chosen = _measured(study, options)
    from phosphene.data.nsd.bucket import Bucket
    from phosphene.data.nsd.fetch import download, missing_annotations, plan

    root = chosen.data_root
    data = chosen.data
    bucket = Bucket(options.endpoint_url, options.jobs)
    files, notes = plan(
        bucket, root, data.subjects, data.sessions, data.betas, data.resolution, options.format
    )
    for note in notes:
        typer.echo(f"Note: {note}", err=True)
    if not options.json:
        _show(files, root, disk.free_space(root), options.verbose)
    todo = [file for file in files if file.state != "there"]
    size_only: list[str] = []
    if todo and not options.dry_run:
        _accept(options.yes)
        with _progress(files) as report:
            size_only = download(bucket, files, root, options.jobs, report)
    lacking = missing_annotations(root)
    if options.json:
        summary = {
            "root": str(root),
            "free": disk.free_space(root),
            "files": [asdict(file) for file in files],
            "downloaded": [] if options.dry_run else [file.key for file in todo],
            "size_only": size_only,
            "notes": notes,
            "missing_annotations": [str(path) for path in lacking],
        }
        return typer.echo(json.dumps(summary))
    if not options.dry_run:
        typer.echo(f"Downloaded {len(todo)} files; {len(files) - len(todo)} were there.")
    _show_remarks(size_only, lacking)


def _measured(path: Path, options: FetchOptions) -> Study:
    """The study, which must read the measured NSD."""
    from phosphene.study import Study

    study = options.changed(Study.load(path))
    if study.data.kind != "nsd" or study.data.simulate.enabled:
        kind = "simulated" if study.data.simulate.enabled else study.data.kind
        raise PhospheneError(
            f"{path}: its data are {kind}; `phosphene fetch nsd` downloads the measured NSD only"
        )
    return study.replace("data.subjects", options.subject) if options.subject else study


def _show_remarks(size_only: Sequence[str], lacking: Sequence[Path]) -> None:
    if size_only:
        typer.echo(
            f"Size verified only, the checksum is of an unknown kind: {', '.join(size_only)}"
        )
    if lacking:
        typer.echo(
            "COCO's captions and categories are not in NSD's bucket: unzip "
            f"annotations_trainval2017.zip from cocodataset.org to {lacking[0].parent}; missing "
            f"are {', '.join(path.name for path in lacking)}."
        )


def _show(files: Sequence[RemoteFile], root: Path, free: int, verbose: bool) -> None:
    """One line for files that were asked for together, or for every file; then the sums."""
    for name, group in groupby(files, key=lambda file: file.key if verbose else file.wanted):
        together = list(group)
        there = sum(file.state == "there" for file in together)
        begun = sum(file.state == "partial" for file in together)
        states = [f"{n} {word}" for n, word in ((there, "there"), (begun, "begun")) if n]
        said = f"  ({', '.join(states)})" if states else ""
        typer.echo(
            f"{len(together):>5} {_size(sum(file.size for file in together)):>10}  {name}{said}"
        )
    total = sum(file.size for file in files)
    remaining = sum(file.remaining for file in files)
    where = f"to download to {root}, {_size(free)} free there"
    typer.echo(f"{len(files):>5} {_size(total):>10}  in all; {_size(remaining)} {where}")
    differing = [file.key for file in files if file.state == "differs"]
    if differing:
        typer.echo(f"Not the bucket's, will be replaced: {', '.join(differing)}")


def _size(n_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(n_bytes)


def _accept(yes: bool) -> None:
    """Show the terms; they count as accepted only when the user says so, now or beforehand."""
    from phosphene.data.nsd.fetch import TERMS

    typer.echo(f"\n{TERMS}\n", err=True)
    if yes:
        typer.echo("Accepted beforehand with --yes.", err=True)
    elif not sys.stdin.isatty():
        raise PhospheneError(
            "NSD's terms were not accepted; accept them at a terminal, or beforehand with --yes"
        )
    elif not typer.confirm("Have you accepted the terms and sent the agreement?", err=True):
        raise PhospheneError("NSD's terms were not accepted; nothing was downloaded")


@contextmanager
def _progress(files: Sequence[RemoteFile]) -> Iterator[Callable[[int], None]]:
    """Say how many bytes are there: a bar on a terminal, a line now and then in a log, both on
    stderr.
    """
    total = sum(file.size for file in files)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total, completed=sum(file.present for file in files))
            yield lambda present: bar.update(task, completed=present)
        return
    started = said = time.monotonic()

    def line(present: int) -> None:
        nonlocal said
        now = time.monotonic()
        if present == total or now - said >= _SECONDS_BETWEEN_LINES:
            typer.echo(
                f"fetch nsd: {_size(present)} of {_size(total)}, {now - started:.0f} s", err=True
            )
            said = now

    yield line
