"""The command that looks at data and models. Heavy imports wait inside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli.options import Changes, command
from phosphene.cli.terminal import console
from phosphene.errors import NoDataError, PhospheneError

if TYPE_CHECKING:
    from phosphene.data import Dataset
    from phosphene.data.check import Line
    from phosphene.study import Study


@command
def check(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="[DATA]", help="A study file (TOML), or a folder with data."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A diffusion model: hub id, folder, or checkpoint file."),
    ] = None,
    align: Annotated[
        bool, typer.Option(help="Test whether pictures predict early voxels, about a minute.")
    ] = True,
    *,
    options: Changes,
) -> None:
    """Say what data are there, what is missing for which stage, and whether the parts agree; or
    what a model is.
    """
    if data is None and model is None:
        raise typer.BadParameter("give DATA, --model NAME, or both")
    from phosphene.data.check import as_records

    lines_of = {} if model is None else {"model": _looked_at_model(model)}
    where = ""
    if data is not None:
        of_data, where = _looked_at_data(data, align, options)
        lines_of |= of_data
    if options.json:
        typer.echo(json.dumps({name: as_records(lines) for name, lines in lines_of.items()}))
    else:
        for name, lines in lines_of.items():
            _show_lines("model" if name == "model" else f"{name} {where}", lines)
    if any(line.state == "wrong" for lines in lines_of.values() for line in lines):
        raise typer.Exit(1)


def _looked_at_data(data: Path, align: bool, options: Changes) -> tuple[dict[str, list[Line]], str]:
    """Lines about each subject, and what data these are."""
    from phosphene.data.check import Line
    from phosphene.data.check import check as look
    from phosphene.data.sources import kind_of, subjects_of
    from phosphene.steps.subject import data_options
    from phosphene.study import Study

    if not data.exists():
        raise PhospheneError(
            f"{data}: no such file or folder; expected a study file or a folder with data"
        )
    if data.is_file():
        study = options.changed(Study.load(data))
    else:
        study = Study.from_dict({"data": {"kind": kind_of(data), "root": str(data.absolute())}})
        study = options.changed(study)
    kind = study.data.kind
    root = study.data_root
    subjects = options.subject or (
        study.data.subjects if data.is_file() else subjects_of(root, kind)
    )
    if not subjects:
        raise PhospheneError(f"{root}: no subject in it; expected folders such as subj01")
    found = {name: look(root, kind, name, align, **data_options(study)) for name in subjects}
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
    from phosphene.steps.subject import data_options

    data = open_dataset(study.data.kind, study.data_root, subject, **data_options(study))
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
    from rich.markup import escape
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
    console(120).print(table, highlight=False)
