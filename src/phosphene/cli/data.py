"""Commands about the data themselves. Heavy imports wait inside the commands."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from phosphene.errors import NoDataError, PhospheneError
from phosphene.study import parse_set

if TYPE_CHECKING:
    from phosphene.data import Dataset
    from phosphene.data.check import Line
    from phosphene.data.nsd.fetch import RemoteFile
    from phosphene.steps.cost import Cost
    from phosphene.study import Study

fetch = typer.Typer(help="Download the public data that a study reads.", no_args_is_help=True)
_SECONDS_BETWEEN_LINES = 10.0


def check(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="[DATA]", help="A study file (TOML), or a folder with data."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A diffusion model: hub id, folder, or checkpoint file."),
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only this subject; may be repeated.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
    ] = None,
    align: Annotated[
        bool, typer.Option(help="Test whether pictures predict early voxels, about a minute.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks.")] = False,
) -> None:
    """Say what data are there, what is missing for which stage, and whether the parts agree; or
    what a model is.
    """
    from phosphene.cli.app import _one_sentence, _quieten

    _quieten(verbose)
    with _one_sentence(verbose):
        if data is None and model is None:
            raise typer.BadParameter("give DATA, --model NAME, or both")
        from phosphene.data.check import as_records

        found = {} if model is None else {"model": _looked_at_model(model)}
        where = ""
        if data is not None:
            looked, where = _looked_at_data(data, subject, changes, align)
            found |= looked
        if as_json:
            typer.echo(json.dumps({name: as_records(lines) for name, lines in found.items()}))
        else:
            for name, lines in found.items():
                _show_lines("model" if name == "model" else f"{name} {where}", lines)
        if any(line.state == "wrong" for lines in found.values() for line in lines):
            raise typer.Exit(1)


def _looked_at_data(
    data: Path, subject: list[str] | None, changes: list[str] | None, align: bool
) -> tuple[dict[str, list[Line]], str]:
    """Lines about each subject, and what data these are."""
    from phosphene.cli.app import Options
    from phosphene.data.check import Line
    from phosphene.data.check import check as look
    from phosphene.data.sources import kind_of, subjects_of
    from phosphene.steps.subject import options
    from phosphene.study import Study

    if not data.exists():
        raise PhospheneError(
            f"{data}: no such file or folder; expected a study file or a folder with data"
        )
    if data.is_file():
        study = Options(set=changes).study(data)
    else:
        study = Study.from_dict({"data": {"kind": kind_of(data), "root": str(data.absolute())}})
        for change in changes or ():
            study = study.replace(*parse_set(change))
    kind = study.data.kind
    root = study.data_root
    subjects = subject or (study.data.subjects if data.is_file() else subjects_of(root, kind))
    if not subjects:
        raise PhospheneError(f"{root}: no subject in it; expected folders such as subj01")
    found = {name: look(root, kind, name, align, **options(study)) for name in subjects}
    if data.is_file():
        for name, lines in found.items():
            if lines[0].item != "data":  # that is all there is where nothing could be opened
                lines += _looked_at_regions(study, name)
        try:
            found["model"] = _looked_at_model(study.model.name)
        except PhospheneError as error:
            absent = "found no " in str(error)
            found["model"] = [
                Line("model", "missing" if absent else "wrong", str(error), "extract, reconstruct")
            ]
    return found, f"({kind}) in {root}"


def _looked_at_regions(study: Study, subject: str) -> list[Line]:
    """Whether the data have the regions that a study decodes from."""
    from phosphene.data import open_dataset
    from phosphene.data.check import Line, looked
    from phosphene.steps.conditions import compared_rois, empty_rois, features_of
    from phosphene.steps.subject import options

    data = open_dataset(study.data.kind, study.data_root, subject, **options(study))
    lines = [
        looked(
            f"{feature} from",
            partial(_count_voxels, data, getattr(study.decode, feature).rois),
            "decode",
        )
        for feature in features_of(study)
    ]
    lines.append(
        looked("compared", lambda: _count_each(data, compared_rois(study, data)), "evaluate")
    )
    return lines + [Line("left out", "note", reason) for reason in empty_rois(study, data).values()]


def _count_each(data: Dataset, rois: Sequence[str]) -> str:
    """Voxels of every region that is compared; a small data set is read to know which have data."""
    from phosphene.data.scans import all_voxels

    counts = []
    for roi in rois:
        try:
            counts.append(f"{roi} {len(all_voxels(data, roi))}")
        except NoDataError:
            counts.append(f"{roi} 0 with data (left out)")
    return ", ".join(counts)


def _count_voxels(data: Dataset, rois: Sequence[str]) -> str:
    from phosphene.data.scans import all_voxels

    return f"{', '.join(rois)}: {len(all_voxels(data, rois))} voxels"


def _looked_at_model(name: str) -> list[Line]:
    from phosphene.data.check import Line
    from phosphene.models.diffusion.loading import describe

    found = describe(name)
    counts = ", ".join(f"{net} {n / 1e6:.1f} M" for net, n in found.pop("parameters").items())
    found |= {"parameters": counts, "context_shape": " x ".join(map(str, found["context_shape"]))}
    return [Line(item.replace("_", " "), "ok", str(value), "") for item, value in found.items()]


def _show_lines(title: str, lines: Sequence[Line]) -> None:
    """One screen: what was looked at, how it is, what was found; and what cannot run for want of
    it.
    """
    from rich.console import Console
    from rich.table import Table

    colours = {"ok": "green", "note": "default", "missing": "yellow", "wrong": "red"}
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    for line in lines:
        needs = (
            f" [dim](needed for: {line.needed_for})[/dim]"
            if line.state in ("missing", "wrong")
            else ""
        )
        table.add_row(
            line.item, f"[{colours[line.state]}]{line.state}[/]", escape(line.found) + needs
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table, highlight=False)


def show_costs(costs: Iterable[Cost], title: str) -> None:
    """What a study costs, stage by stage."""
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    found = pd.DataFrame(asdict(cost) for cost in costs)
    typer.echo(f"\n{title}")
    table = Table(box=None)
    table.add_column("")
    for name in ("files", "read GB", "disk GB", "memory GB", "hours"):
        table.add_column(name, justify="right")
    sums = {"files": "sum", "read_gb": "sum", "gb": "sum", "memory_gb": "max", "hours": "sum"}
    by_stage = found.groupby("stage", sort=False).agg(sums)
    for stage, row in [*by_stage.iterrows(), ("together", found.agg(sums))]:
        numbers = (
            f"{row['files']:.0f}",
            *(f"{row[name]:.2f}" for name in ("read_gb", "gb", "memory_gb", "hours")),
        )
        table.add_row(str(stage), *numbers, style="bold" if stage == "together" else "")
    Console(width=None if sys.stdout.isatty() else 100).print(table, highlight=False)


def show_data(study: Study) -> None:
    """The parts of the data that a study reads."""
    from phosphene.steps.subject import dataset

    for subject in study.data.subjects:
        data = dataset(study, subject)
        trials = data.trials
        test = data.trials["split"] == "test"
        typer.echo(
            f"{subject}: {trials['session'].nunique()} sessions, {len(trials)} trials of "
            f"{trials['image'].nunique()} "
            f"pictures, {test.sum()} of them test trials of {trials.loc[test, 'image'].nunique()} "
            "pictures"
        )


@fetch.command()
def nsd(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept NSD's terms beforehand.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Files at once.")] = 4,
    form: Annotated[str, typer.Option("--format", help="Of the betas: hdf5 or nii.gz.")] = "hdf5",
    endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Another server that speaks S3.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only this subject; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List files and sizes, download nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every file as JSON.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="List every file; show tracebacks.")
    ] = False,
) -> None:
    """Download what a study reads of the Natural Scenes Dataset, once its terms are accepted."""
    from phosphene.cli.app import Options, _one_sentence

    with _one_sentence(verbose):
        chosen = Options(set=changes).study(study)
        if chosen.data.kind != "nsd" or chosen.data.simulate.enabled:
            kind = "simulated" if chosen.data.simulate.enabled else chosen.data.kind
            raise PhospheneError(
                f"{study}: its data are {kind}; `phosphene fetch nsd` downloads the measured NSD "
                "only"
            )
        chosen = chosen.replace("data.subjects", subject) if subject else chosen
        from phosphene.data.nsd.bucket import Bucket
        from phosphene.data.nsd.fetch import download, free_space, missing_annotations, plan

        root = chosen.data_root
        data = chosen.data
        bucket = Bucket(endpoint_url, jobs)
        files, notes = plan(
            bucket, root, data.subjects, data.sessions, data.betas, data.resolution, form
        )
        for note in notes:
            typer.echo(f"Note: {note}", err=True)
        if not as_json:
            _show(files, root, free_space(root), verbose)
        todo = [file for file in files if file.state != "there"]
        size_only: list[str] = []
        if todo and not dry_run:
            _accept(yes)
            with _progress(files) as report:
                size_only = download(bucket, files, root, jobs, report)
        lacking = missing_annotations(root)
        if as_json:
            found = {
                "root": str(root),
                "free": free_space(root),
                "files": [asdict(file) for file in files],
            }
            done = {
                "downloaded": [] if dry_run else [file.key for file in todo],
                "size_only": size_only,
            }
            typer.echo(
                json.dumps(
                    {
                        **found,
                        **done,
                        "notes": notes,
                        "missing_annotations": [str(p) for p in lacking],
                    }
                )
            )
            return
        if not dry_run:
            typer.echo(f"Downloaded {len(todo)} files; {len(files) - len(todo)} were there.")
        if size_only:
            typer.echo(
                f"Size verified only, the checksum is of an unknown kind: {', '.join(size_only)}"
            )
        if lacking:
            typer.echo(
                "COCO's captions and categories are not in NSD's bucket: unzip "
                "annotations_trainval2017.zip from "
                f"cocodataset.org to {lacking[0].parent}; missing are "
                f"{', '.join(path.name for path in lacking)}."
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
