"""The commands that make a study's results, one per stage. Heavy imports wait inside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli.options import STUDY, Common, Options, command
from phosphene.cli.plan import has_data, show_plan, warn_without_data
from phosphene.cli.terminal import records, show_paths, show_table
from phosphene.errors import PhospheneError
from phosphene.study import Study

if TYPE_CHECKING:
    from phosphene.pipeline.step import Step


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
        from phosphene.pipeline.parallel import n_cores

        options = replace(options, jobs=min(n_cores(), 4), threads=1)
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
    _run(study, options, "betas")


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
        return _run(study, options, "extract")
    chosen = options.study(study)
    from phosphene.steps import plan

    _make_and_show(chosen, plan.extract(chosen, features.split(","), components), options)


@command
def decode(study: STUDY, *, options: Options) -> None:
    """Fit the ridge regressions and predict z and c from brain activity."""
    _run(study, options, "decode")


@command
def reconstruct(study: STUDY, *, options: Options) -> None:
    """Make pictures from decoded features."""
    _run(study, options, "reconstruct")


@command
def evaluate(study: STUDY, *, options: Options) -> None:
    """Score the reconstructions and print the headline table."""
    _run(study, options, "evaluate")


@command
def report(study: STUDY, *, options: Options) -> None:
    """Write the report and print its path."""
    _run(study, options, "report")


def _run(path: Path, options: Options, last: str = "report") -> None:
    """Make what a stage gives, and everything that is missing on the way."""
    study = options.study(path)
    from phosphene.steps import plan

    if last not in plan.STAGES:
        raise PhospheneError(f"--until: found {last!r}, expected one of {', '.join(plan.STAGES)}.")
    if options.dry_run and not has_data(study):
        return warn_without_data(study, options)
    roots = plan.STAGES[last](study)
    if options.dry_run or last not in ("evaluate", "report"):
        return _make_and_show(study, roots, options)
    from phosphene.pipeline.graph import make

    artefacts = make(roots, options.compute, options.force)
    page = artefacts[0].file("report.html") if last == "report" else None
    _show_scores(study, page, options)


def _make_and_show(study: Study, roots: Sequence[Step], options: Options) -> None:
    """Make some results and print their paths; with ``--dry-run`` only say what is to do."""
    if options.dry_run:
        show_plan(study, roots, options)
        return _show_data(study, options)
    from phosphene.pipeline.graph import make

    artefacts = make(roots, options.compute, options.force)
    show_paths([artefact.path for artefact in artefacts], options.json)


def _show_scores(study: Study, page: Path | None, options: Options) -> None:
    """The headline: identification by mode and space, the judge's names, and where the report
    lies.
    """
    from phosphene.reporting.tables import headline, headline_preset
    from phosphene.steps.evaluate import all_tables

    scores, names, absent = (all_tables(study, name) for name in ("scores", "names", "absent"))
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


def _show_data(study: Study, options: Options) -> None:
    """The parts of the data that a study reads."""
    if options.json:
        return
    from phosphene.steps.subject import dataset

    for subject in study.data.subjects:
        trials = dataset(study, subject).trials
        test = trials["split"] == "test"
        typer.echo(
            f"{subject}: {trials['session'].nunique()} sessions, {len(trials)} trials of "
            f"{trials['image'].nunique()} pictures, {test.sum()} of them test trials of "
            f"{trials.loc[test, 'image'].nunique()} pictures"
        )
