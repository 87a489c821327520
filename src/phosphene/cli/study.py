"""The commands that make a study's results, one per stage. Heavy imports wait inside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli.options import STUDY, Common, Options, command
from phosphene.cli.terminal import records, show_costs, show_paths, show_table
from phosphene.errors import PhospheneError
from phosphene.study import Study

if TYPE_CHECKING:
    from phosphene.pipeline.store import Artefact

# What each command makes, in order: the stages of its artefacts.
STAGES = {
    "betas": ("betas",),
    "extract": ("extract",),
    "decode": ("decompose", "decode"),
    "reconstruct": ("reconstruct",),
    "evaluate": ("evaluate",),
    "report": ("report",),
}


def preset_file(name: str) -> Path:
    """The study file that ships under this name: in the installed package, or in the source
    tree.
    """
    here = Path(__file__)
    folders = [here.parents[1] / "studies", here.parents[3] / "studies"]
    known = sorted({file.stem for folder in folders for file in folder.glob("*.toml")})
    for folder in folders:
        if (folder / f"{name}.toml").exists():
            return folder / f"{name}.toml"
    raise PhospheneError(f"--preset: found {name!r}, expected one of {', '.join(known)}.")


@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to work in.")] = Path("phosphene-demo"),
    *,
    options: Options,
) -> None:
    """Reconstruct what a simulated brain saw: the whole path, on this machine, in minutes."""
    path = folder / "demo.toml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(preset_file("demo"), path)
    # on few cores, workers with one thread each make more pictures than one with many threads
    if options.jobs == 1:
        options = replace(options, jobs=min(os.cpu_count() or 1, 4), threads=1)
    _run(path, options)


@command
def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the study; made when it is not there.")
    ],
    preset: Annotated[
        str, typer.Option(help="demo, nsd-subject, nsd-paper, nsd-released, haxby or own-data.")
    ] = "demo",
    *,
    options: Common,
) -> None:
    """Copy a commented study file into a folder, ready to be edited."""
    source = preset_file(preset)
    target = folder / source.name
    if target.exists():
        raise PhospheneError(f"{target}: is there already; edit it, or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    if options.json:
        return show_paths([target], as_json=True)
    typer.echo(f"{target}\nEdit it, then: phosphene run {target}")


@command
def run(
    study: STUDY,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    *,
    options: Options,
) -> None:
    """Do everything that a study asks for and is not done yet."""
    _run(study, options, until or "report")


@command
def status(study: STUDY, *, options: Options) -> None:
    """Say what is done, what is begun and what is missing."""
    _show_plan(options.study(study), options)


@command
def simulate(study: STUDY, *, options: Options) -> None:
    """Write the simulated brain and its pictures to disk, in the layout of the Natural Scenes
    Dataset.
    """
    chosen = options.study(study)
    if not chosen.data.simulate.enabled:
        raise PhospheneError(
            f"{study}: data.simulate.enabled is false; set it to true to simulate data."
        )
    if not options.dry_run:
        from phosphene.steps.subject import dataset

        for subject in chosen.data.subjects:
            dataset(chosen, subject)
    show_paths([chosen.data_root], options.json)


@command
def betas(study: STUDY, *, options: Options) -> None:
    """Take the responses of the study's regions out of the scans of all sessions."""
    _run(study, options, "betas", only=True)


@command
def extract(
    study: STUDY,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="In place of z and c, such as zc@0.5,unet/mid@0.8/step=20."
        ),
    ] = None,
    components: Annotated[
        int, typer.Option(min=0, help="Cut them to principal components; 0: do not.")
    ] = 0,
    *,
    options: Options,
) -> None:
    """Compute z and c, or other features, of every picture that was seen."""
    if not features:
        return _run(study, options, "extract", only=True)
    from phosphene import api
    from phosphene.features.names import parsed

    names = [str(feature) for feature in parsed(features.split(","))]
    if options.dry_run:
        return typer.echo("\n".join(names))
    extracted = api.extract(options.study(study), options.compute, names, components)
    show_paths([artefact.path for artefact in extracted], options.json)


@command
def decode(study: STUDY, *, options: Options) -> None:
    """Fit the ridge regressions and predict z and c from brain activity."""
    _run(study, options, "decode", only=True)


@command
def reconstruct(study: STUDY, *, options: Options) -> None:
    """Make pictures from decoded features."""
    _run(study, options, "reconstruct", only=True)


@command
def evaluate(study: STUDY, *, options: Options) -> None:
    """Score the reconstructions and print the headline table."""
    _run(study, options, "evaluate", only=True)


@command
def report(study: STUDY, *, options: Options) -> None:
    """Write the report and print its path."""
    _run(study, options, "report", only=True)


def _run(path: Path, options: Options, last: str = "report", only: bool = False) -> None:
    """Run a study up to a stage; `only` makes ``--force`` mean that stage alone."""
    study = options.study(path)
    if last not in STAGES:
        raise PhospheneError(f"--until: found {last!r}, expected one of {', '.join(STAGES)}.")
    if options.dry_run:
        return _show_plan(study, options, last)
    from phosphene import api

    if options.force:
        _clear(study, STAGES[last] if only else _until(last))
    compute = options.compute
    stages: dict[str, Callable[[], list[Artefact]]] = {
        "betas": lambda: api.betas(study, compute),
        "extract": lambda: api.extract(study, compute),
        "decode": lambda: api.decode(study, compute),
        "reconstruct": lambda: [
            artefact
            for mode in study.reconstruct.modes
            for artefact in api.reconstruct(study, mode, compute)
        ],
    }
    if last in stages:
        return show_paths([artefact.path for artefact in stages[last]()], options.json)
    page = api.report(study, compute) if last == "report" else None
    _show_scores(study, page, options)


def _until(last: str) -> tuple[str, ...]:
    """Stages of everything that is made up to the command `last`."""
    names = list(STAGES)
    return tuple(stage for name in names[: names.index(last) + 1] for stage in STAGES[name])


def _clear(study: Study, names: tuple[str, ...]) -> None:
    from phosphene.pipeline.store import Store
    from phosphene.steps.plan import plan

    for recipe in plan(study):
        if recipe.stage in names:
            Store(study.root).artefact(recipe).clear()


def _show_scores(study: Study, page: Path | None, options: Options) -> None:
    """The headline: identification by mode and space, the judge's names, and where the report
    lies.
    """
    from phosphene import api
    from phosphene.reporting.tables import headline, headline_preset
    from phosphene.steps.evaluate import all_tables

    scores = api.measures(study, options.compute)
    names, absent = (all_tables(study, name, options.compute) for name in ("names", "absent"))
    if options.json:
        tables = {"scores": scores, "names": names, "absent": absent}
        return typer.echo(json.dumps({**records(tables), "report": page and str(page)}))
    preset = headline_preset(study.evaluate.presets, scores)
    for subject in study.data.subjects:
        mine = scores[scores["subject"] == subject]
        if len(mine):
            title = f"{subject}: two-way identification, % (chance 50), preset {preset}"
            show_table(title, headline(mine, preset).round(1))
        judged = names[(names["subject"] == subject) & (names["n"] > 0)].set_index("condition")
        named = (100 * judged[["accuracy", "ci_low", "ci_high", "chance"]]).round(1)
        if len(named):
            show_table(f"{subject}: category named by the judge, %", named)
    networks = dict.fromkeys(reason.partition(":")[0] for reason in absent.get("reason", ()))
    if networks:
        text = (
            f"Left out, since their weights are not here: measures of {', '.join(networks)} "
            "(docs/scoring.md)."
        )
        typer.echo(text, err=True)
    if page:
        typer.echo(f"\nReport: {page}")


def _show_plan(study: Study, options: Options, last: str = "report") -> None:
    """Every artefact of a study and how far it is."""
    if study.data.simulate.enabled and not study.data_root.exists():
        typer.echo(
            "The data are not simulated yet; `phosphene simulate` writes them to "
            f"{study.data_root}.",
            err=True,
        )
        typer.echo("[]" if options.json else "", nl=options.json)
        return
    from phosphene.pipeline.store import Store
    from phosphene.steps.plan import plan

    rows = []
    store = Store(study.root)
    for recipe in plan(study):
        if recipe.stage not in _until(last):
            continue
        artefact = store.artefact(recipe)
        done, planned = artefact.progress
        state = "done" if artefact.done else f"{done} of {planned} parts" if planned else "to do"
        rows.append(
            {"stage": recipe.stage, "name": recipe.name, "hash": recipe.hash, "state": state}
        )
    if options.json:
        return typer.echo(json.dumps(rows))
    for row in rows:
        typer.echo(f"{row['stage']:<12} {row['name']:<28} {row['hash']}  {row['state']}")
    if options.dry_run:
        from phosphene.steps.cost import costs

        show_costs(costs(study, options.compute), "Estimated cost of everything, one worker")
        _show_data(study)


def _show_data(study: Study) -> None:
    """The parts of the data that a study reads."""
    from phosphene.steps.subject import dataset

    for subject in study.data.subjects:
        trials = dataset(study, subject).trials
        test = trials["split"] == "test"
        typer.echo(
            f"{subject}: {trials['session'].nunique()} sessions, {len(trials)} trials of "
            f"{trials['image'].nunique()} pictures, {test.sum()} of them test trials of "
            f"{trials.loc[test, 'image'].nunique()} pictures"
        )
