"""The command line: one command per stage, the twin of a Python function. Heavy imports wait inside
the commands.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from phosphene.cli import audit, data, encode, rate, score
from phosphene.cli.terminal import show_table
from phosphene.errors import PhospheneError
from phosphene.reporting.tables import headline_preset
from phosphene.study import Compute, Study, parse_set

app = typer.Typer(
    help="Brain activity in, pictures and scores out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What each command makes, in order: the stages of its artefacts.
STAGES = {
    "betas": ("betas",),
    "extract": ("extract",),
    "decode": ("decompose", "decode"),
    "reconstruct": ("reconstruct",),
    "evaluate": ("evaluate",),
    "report": ("report",),
}
app.add_typer(data.fetch, name="fetch")
app.command("check")(data.check)
app.command("score")(score.score)
app.command("compare")(score.compare)
STUDY = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]


@dataclass(frozen=True)
class Options:
    """What every command that takes a study understands."""

    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
    ] = None
    subject: Annotated[
        list[str] | None, typer.Option(help="Only this subject; may be repeated.")
    ] = None
    root: Annotated[
        Path | None, typer.Option(help="Where results go; by default runs/ beside the study.")
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    jobs: Annotated[int, typer.Option(help="Workers; 0 is one per core.")] = 1
    threads: Annotated[
        int, typer.Option(help="Threads of each worker; the last bits of results depend on it.")
    ] = 2
    batch: Annotated[int, typer.Option(help="Pictures at once on a GPU; 0: what fits.")] = 0
    compile: Annotated[bool, typer.Option("--compile", help="Let torch compile the U-Net.")] = False
    backend: Annotated[str, typer.Option(help="auto, serial, loky or dask.")] = "auto"
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Address of a Dask scheduler.")
    ] = None
    force: Annotated[
        bool, typer.Option("--force", help="Do this stage again even if it is done.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show tracebacks and library messages.")
    ] = False

    def study(self, path: Path) -> Study:
        """Load a study with the options' changes made to it."""
        study = Study.load(path, self.root)
        for change in self.set or ():
            study = study.replace(*parse_set(change))
        if self.subject and study.data.simulate.enabled and not study.data_root.exists():
            raise PhospheneError(
                f"--subject: nothing is simulated yet; run `phosphene simulate {path}` first."
            )
        return study.replace("data.subjects", self.subject) if self.subject else study

    @property
    def compute(self) -> Compute:
        return Compute(
            device=self.device,
            jobs=self.jobs,
            threads=self.threads,
            batch=self.batch,
            compile=self.compile,
            backend=self.backend,
            scheduler=self.scheduler,
        )


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all common options, gathered in its `options` argument, and turn errors into
    one sentence.
    """
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.name != "options"
    ]
    hints = inspect.get_annotations(Options, eval_str=True)
    common = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name]
        )
        for f in fields(Options)
    ]

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        options = Options(**{f.name: kwargs.pop(f.name) for f in fields(Options)})
        _quieten(options.verbose)
        with _one_sentence(options.verbose):
            command(*args, **kwargs, options=options)

    run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
    return run


@contextmanager
def _one_sentence(verbose: bool = False) -> Iterator[None]:
    """Errors that a user can mend are said in one sentence, exit code 1; `verbose` shows where they
    come from.
    """
    try:
        yield
    except BrokenPipeError:  # whoever reads has read enough
        sys.stderr.close()  # else the interpreter complains that it cannot write the rest
        raise typer.Exit(0) from None
    except (PhospheneError, OSError, MemoryError) as error:
        if verbose:
            raise
        typer.secho(
            f"Error: {error or 'out of memory; use a smaller --batch or fewer --jobs'}",
            err=True,
            fg="red",
        )
        raise typer.Exit(1) from None


def _quieten(verbose: bool) -> None:
    """Our own warnings as plain lines on stderr; other libraries speak only when asked to."""
    import warnings

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    if not verbose:
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)


def preset_file(name: str) -> Path:
    """The study file that ships under this name: in the installed package, or in the source
    tree.
    """
    folders = [Path(__file__).parents[1] / "studies", Path(__file__).parents[3] / "studies"]
    known = sorted({file.stem for folder in folders for file in folder.glob("*.toml")})
    for folder in folders:
        if (folder / f"{name}.toml").exists():
            return folder / f"{name}.toml"
    raise PhospheneError(f"--preset: found {name!r}, expected one of {', '.join(known)}.")


@app.command()
@with_options
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
    if (
        options.jobs == 1
    ):  # on few cores, workers with one thread each make more pictures than one with many threads
        options = replace(options, jobs=min(os.cpu_count() or 1, 4), threads=1)
    _run(path, options, None)


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder for the study; made when it is not there.")
    ],
    preset: Annotated[
        str, typer.Option(help="demo, nsd-subject, nsd-paper, nsd-released, haxby or own-data.")
    ] = "demo",
) -> None:
    """Copy a commented study file into a folder, ready to be edited."""
    with _one_sentence():
        source = preset_file(preset)
        target = folder / source.name
        if target.exists():
            raise PhospheneError(f"{target}: is there already; edit it, or choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        typer.echo(f"{target}\nEdit it, then: phosphene run {target}")


@app.command()
@with_options
def run(
    study: STUDY,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    *,
    options: Options,
) -> None:
    """Do everything that a study asks for and is not done yet."""
    _run(study, options, until)


@app.command()
@with_options
def status(study: STUDY, *, options: Options) -> None:
    """Say what is done, what is begun and what is missing."""
    _show_plan(options.study(study), options)


@app.command()
@with_options
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
        from phosphene.steps import subject as sources

        for subject in chosen.data.subjects:
            sources.dataset(chosen, subject)
    typer.echo(str(chosen.data_root))


@app.command()
@with_options
def betas(study: STUDY, *, options: Options) -> None:
    """Take the responses of the study's regions out of the scans of all sessions."""
    _run(study, options, "betas", only=True)


@app.command()
@with_options
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
    made = api.extract(options.study(study), options.compute, names, components)
    _say_paths([artefact.path for artefact in made], options)


@app.command()
@with_options
def decode(study: STUDY, *, options: Options) -> None:
    """Fit the ridge regressions and predict z and c from brain activity."""
    _run(study, options, "decode", only=True)


@app.command()
@with_options
def reconstruct(study: STUDY, *, options: Options) -> None:
    """Make pictures from decoded features."""
    _run(study, options, "reconstruct", only=True)


@app.command()
@with_options
def evaluate(study: STUDY, *, options: Options) -> None:
    """Score the reconstructions and print the headline table."""
    _run(study, options, "evaluate", only=True)


@app.command()
@with_options
def report(study: STUDY, *, options: Options) -> None:
    """Write the report and print its path."""
    _run(study, options, "report", only=True)


app.command("encode")(with_options(encode.encode))
app.command("figures")(with_options(encode.figures))
app.command("audit")(with_options(audit.audit))
app.command("rate")(with_options(rate.rate))


def _run(path: Path, options: Options, until: str | None, only: bool = False) -> None:
    """Run a study up to a stage; `only` makes ``--force`` mean that stage alone."""
    study = options.study(path)
    compute = options.compute
    last = until or "report"
    if last not in STAGES:
        raise PhospheneError(f"--until: found {last!r}, expected one of {', '.join(STAGES)}.")
    if options.dry_run:
        return _show_plan(study, options, last)
    from phosphene import api

    if options.force:
        _clear(study, STAGES[last] if only else _until(last))
    if last == "betas":
        _say_paths([a.path for a in api.betas(study, compute=compute)], options)
    elif last == "extract":
        _say_paths([a.path for a in api.extract(study, compute)], options)
    elif last == "decode":
        _say_paths([a.path for a in api.decode(study, compute)], options)
    elif last == "reconstruct":
        _say_paths(
            [
                a.path
                for mode in study.reconstruct.modes
                for a in api.reconstruct(study, mode, compute)
            ],
            options,
        )
    else:
        page = api.report(study, compute) if last == "report" else None
        _say_scores(study, page, options)


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


def _say_paths(paths: list[Path], options: Options) -> None:
    typer.echo(json.dumps([str(p) for p in paths]) if options.json else "\n".join(map(str, paths)))


def _say_scores(study: Study, page: Path | None, options: Options) -> None:
    """The headline: identification by mode and space, the judge's names, and where the report
    lies.
    """
    from phosphene import api
    from phosphene.reporting import headline
    from phosphene.steps import evaluate as evaluation

    scores = api.measures(study, options.compute)
    preset = headline_preset(study.evaluate.presets, scores)
    names, absent = (
        evaluation.all_tables(study, name, options.compute) for name in ("names", "absent")
    )
    if options.json:
        tables = (("scores", scores), ("names", names), ("absent", absent))
        shown = {name: json.loads(table.to_json(orient="records")) for name, table in tables}
        return typer.echo(json.dumps({**shown, "report": page and str(page)}))
    for subject in study.data.subjects:
        mine = scores[scores["subject"] == subject]
        if len(mine):
            title = f"{subject}: two-way identification, % (chance 50), preset {preset}"
            show_table(title, headline(mine, preset).round(1))
        judged = names[(names["subject"] == subject) & (names["n"] > 0)].set_index("condition")
        found = (100 * judged[["accuracy", "ci_low", "ci_high", "chance"]]).round(1)
        if len(found):
            show_table(f"{subject}: category named by the judge, %", found)
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
        typer.echo(json.dumps(rows))
    else:
        for row in rows:
            typer.echo(f"{row['stage']:<12} {row['name']:<28} {row['hash']}  {row['state']}")
        if options.dry_run:
            from phosphene.steps.cost import costs

            data.show_costs(
                costs(study, options.compute), "Estimated cost of everything, one worker"
            )
            data.show_data(study)


def main() -> None:
    """Run the command line."""
    app()
