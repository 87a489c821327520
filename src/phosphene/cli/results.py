"""The commands that look at results: status, results, clean. Heavy imports wait inside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli.options import STUDY, Options, command
from phosphene.cli.plan import has_data, in_bytes, progress, show_rows, warn_without_data
from phosphene.disk import list_files
from phosphene.errors import PhospheneError
from phosphene.pipeline.folder import Folder
from phosphene.study import Study
from phosphene.study.loading import read_study

if TYPE_CHECKING:
    from phosphene.pipeline.results import Result
    from phosphene.pipeline.step import Step

# command -> what it makes
TITLES = {
    "run": "Pictures, scores and report",
    "audit": "Audit",
    "encode": "Encoding models",
    "figures": "Figures",
    "rate make": "Human study",
    "rate score": "Scores of the human study",
}


@command
def status(study: STUDY, *, options: Options) -> None:
    """Say of everything that a study makes what is done, what is begun and what is missing."""
    chosen = options.study(study)
    if not has_data(chosen):
        return warn_without_data(chosen, options)
    from phosphene.pipeline.graph import walk
    from phosphene.steps.plan import everything

    commands = everything(chosen)
    rows = progress(commands)
    steps = {step.hash: step for roots in commands.values() for step in walk(roots)}
    notes = _made_with(chosen, rows, steps)
    if options.json:
        return typer.echo(json.dumps([{**row, "note": notes.get(row["hash"], "")} for row in rows]))
    for name in commands:
        mine = [row for row in rows if row["command"] == name]
        if not mine:
            continue
        n_done = sum(row["state"] == "done" for row in mine)
        n_needed = sum(row["state"] != "not needed" for row in mine)
        disk = in_bytes(sum(row["bytes"] for row in mine))
        typer.secho(
            f"{TITLES[name]} (phosphene {name}): {n_done} of {n_needed} done, {disk}", bold=True
        )
        show_rows(mine, notes)
        typer.echo()
    _show_versions(rows, steps)


def _made_with(
    study: Study, rows: Sequence[Mapping[str, Any]], steps: Mapping[str, Step]
) -> dict[str, str]:
    """Of what is to do: the settings of a result of other settings that is there."""
    from phosphene.pipeline.results import nearest, results

    todo = [row["hash"] for row in rows if row["state"] == "to do"]
    if not todo:
        return {}
    there = results(study.root)
    known = {result.hash: result.recipe for result in there if result.is_finished}
    notes = {}
    for hash_ in todo:
        how = nearest(steps[hash_], there, known)
        if how:
            notes[hash_] = f"there is one made {_in_words(how)}"
    return notes


def _in_words(differences: Sequence[str], at_most: int = 3) -> str:
    """Differences as the end of a sentence: "with samples = 1 (now 2), without subj01-audit"."""
    more = len(differences) - at_most
    return ", ".join(differences[:at_most]) + (f" and {more} other differences" if more > 0 else "")


def _show_versions(rows: Sequence[Mapping[str, Any]], steps: Mapping[str, Step]) -> None:
    """Say once which results were made with other versions of libraries."""
    from phosphene.pipeline.results import other_versions

    done = [steps[row["hash"]] for row in rows if row["state"] == "done"]
    others = [versions for step in done if (versions := other_versions(step))]
    if others:
        names = sorted({name for versions in others for name in versions})
        typer.echo(f"{len(others)} results were made with other versions: {', '.join(names)}.")


@command
def results(study: STUDY, *, options: Options) -> None:
    """List every result of a study, of these or earlier settings, and in which settings it
    differs.
    """
    chosen = options.study(study)
    if not has_data(chosen):
        return warn_without_data(chosen, options)
    from phosphene.pipeline.graph import walk
    from phosphene.pipeline.results import results as all_results
    from phosphene.steps.plan import everything

    there = all_results(chosen.root)
    steps = [step for roots in everything(chosen).values() for step in walk(roots)]
    rows: list[dict[str, Any]] = [
        {
            "stage": result.stage,
            "name": result.name,
            "hash": result.hash,
            "date": result.date,
            "bytes": result.n_bytes,
            "path": str(result.path),
            "differs": text,
        }
        for result, text in zip(there, _texts(there, steps), strict=True)
    ]
    if options.json:
        return typer.echo(json.dumps(rows))
    for row in rows:
        disk = in_bytes(row["bytes"])
        date = row["date"].replace("T", " ").rstrip("Z")[:16]
        typer.echo(
            f"{row['stage']:<13} {row['name']:<40} {row['hash']:<10} {date} {disk:>8}  "
            f"{row['differs']}"
        )
    typer.echo(f"{len(rows)} results, {in_bytes(sum(row['bytes'] for row in rows))}")


def _texts(there: Sequence[Result], steps: Sequence[Step]) -> list[str]:
    """For each result: "as the study", or in which settings it differs from the study of today."""
    from phosphene.pipeline.results import differences

    known = {result.hash: result.recipe for result in there if result.is_finished}
    today = {step.hash for step in steps}
    alike: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        alike.setdefault((step.stage, step.name), []).append(step)

    def text(result: Result) -> str:
        if result.hash in today:
            return "as the study" if result.is_finished else "as the study, not finished"
        if not result.is_finished:
            return "of other settings, not finished"
        candidates = alike.get((result.stage, result.name))
        if candidates is None:
            return "nothing that the study makes"
        least = min((differences(result.recipe, step, known) for step in candidates), key=len)
        return ", ".join(least) or "with other inputs"

    return [text(result) for result in there]


@command
def clean(
    study: STUDY,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    *,
    options: Options,
) -> None:
    """Remove results that no study file beside this one makes any more, and what was needed only in
    between.

    Answers of raters are never removed, nor what lies behind a link, nor what is not finished and
    younger than a day.
    """
    chosen = options.study(study)
    if not has_data(chosen):
        return warn_without_data(chosen, options)
    listed = _removable(study, chosen)
    n_bytes = in_bytes(sum(result.n_bytes for result, _ in listed))
    if options.json:
        records = [{"path": str(r.path), "bytes": r.n_bytes, "why": why} for r, why in listed]
        typer.echo(json.dumps(records))
    else:
        for result, why in listed:
            name = f"{result.name}-{result.hash}"
            typer.echo(f"{result.stage:<13} {name:<50} {in_bytes(result.n_bytes):>8}  {why}")
        typer.echo(f"{len(listed)} results to remove, {n_bytes}")
    if options.dry_run or not listed:
        return
    if not yes:
        typer.confirm(f"Remove them from {chosen.root}?", abort=True, err=options.json)
    for result, _ in listed:
        folder = Folder(result.path)
        folder.discard()
        folder.sweep()


def _removable(path: Path, chosen: Study) -> list[tuple[Result, str]]:
    """Results that can go, and why."""
    from phosphene.pipeline.results import results

    place = path.absolute().parent
    uses = [_uses(chosen)]
    for file in _study_files(place):
        try:
            uses.append(_uses(Study.load(file, chosen.root)))
        except PhospheneError as error:
            raise PhospheneError(
                f"{file}: it is not known which results this study needs, so nothing is removed; "
                f"correct it, or move it away ({error})"
            ) from None
    used = {hash_ for study in uses for hash_ in study}
    needed = {hash_ for study in uses for hash_, is_needed in study.items() if is_needed}
    there = results(chosen.root)
    root = chosen.root.resolve()
    # what lies behind a link may be another study's
    own = [result for result in there if result.path.resolve().is_relative_to(root)]
    if len(own) < len(there):
        typer.echo(f"{len(there) - len(own)} results behind links are left alone.", err=True)
    reason = f"no study file in {place} makes it"
    return [
        (result, "needed only in between" if result.hash in used else reason)
        for result in own
        if result.hash not in needed and (result.hash in used or not _is_growing(result))
    ]


def _uses(study: Study) -> dict[str, bool]:
    """The hash of every step of a study, and whether its result is still needed."""
    from phosphene.pipeline.graph import superfluous, walk
    from phosphene.steps.plan import everything

    if not has_data(study):
        raise PhospheneError(f"{study.data_root}: not there yet; run `phosphene simulate` first.")
    roots = [root for roots in everything(study).values() for root in roots]
    in_between = {step.hash for step in superfluous(roots)}
    return {step.hash: step.hash not in in_between for step in walk(roots)}


def _study_files(folder: Path) -> list[Path]:
    """The TOML files of a folder but those that are plainly another program's."""
    settings = {setting.name for setting in fields(Study)}

    def is_study(file: Path) -> bool:
        try:
            keys = read_study(file).keys()
        except PhospheneError:
            return True
        return not keys or bool(keys & settings)

    return [file for file in list_files(folder, "*.toml") if is_study(file)]


def _is_growing(result: Result) -> bool:
    """Whether a result is not finished but so young that another process may be making it."""
    age = datetime.now(UTC) - datetime.fromisoformat(result.date)
    return not result.is_finished and age < timedelta(days=1)
