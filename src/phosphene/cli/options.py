"""Options that several commands share, and how errors and warnings reach a user."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from phosphene.cli.failures import printable, sentence
from phosphene.errors import PhospheneError
from phosphene.pipeline.caches import begin_command
from phosphene.study import Compute, Study, parse_set

STUDY = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]


@dataclass(frozen=True)
class Common:
    """What every command understands."""

    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show tracebacks and library messages.")
    ] = False


@dataclass(frozen=True)
class Changes(Common):
    """Changes to the settings of a study."""

    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
    ] = None
    subject: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this subject; may be repeated.")
    ] = None

    def study(self, path: Path, root: Path | None = None) -> Study:
        """Load a study and change its settings.

        Parameters
        ----------
        path : Path
        root : Path, optional
            Where results are kept; by default ``runs`` beside the study.
        """
        study = self.changed(Study.load(path, root))
        if self.subject and study.data.simulate.enabled and not study.data_root.exists():
            raise PhospheneError(
                f"--subject: nothing is simulated yet; run `phosphene simulate {path}` first."
            )
        return study.replace("data.subjects", self.subject) if self.subject else study

    def changed(self, study: Study) -> Study:
        """Make the changes of ``--set``."""
        for change in self.set or ():
            study = study.replace(*parse_set(change))
        return study


@dataclass(frozen=True)
class Options(Changes):
    """What every command that runs a study understands."""

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

    def study(self, path: Path, root: Path | None = None) -> Study:
        """Load a study and change its settings."""
        return super().study(path, root or self.root)

    @property
    def compute(self) -> Compute:
        """How to compute."""
        names = ("device", "jobs", "threads", "batch", "compile", "backend", "scheduler")
        return Compute(**{name: getattr(self, name) for name in names})


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose keyword `options` is one of the classes above.

    The command takes the fields of that class as options, and errors that a user can mend become
    one sentence.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    gathered = parameters["options"].annotation
    own = [p for p in parameters.values() if p.name != "options"]
    hints: dict[str, Any] = {}
    for cls in reversed(gathered.__mro__[:-1]):
        hints |= inspect.get_annotations(cls, eval_str=True)
    shared = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name]
        )
        for f in _ordered(gathered)
    ]

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        options = gathered(**{p.name: kwargs.pop(p.name) for p in shared})
        begin_command()
        _quiet_libraries(options.verbose)
        with _one_sentence(options.verbose):
            function(*args, **kwargs, options=options)

    run.__doc__ = " ".join((function.__doc__ or "").split())  # the help wraps it anew
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return run


def _ordered(gathered: Any) -> list[Field[Any]]:
    """A command's own options first, those of every command last."""
    common = {f.name for f in fields(Common)}
    own = set(inspect.get_annotations(gathered))
    return sorted(fields(gathered), key=lambda f: (f.name in common, f.name not in own))


@contextmanager
def _one_sentence(verbose: bool) -> Iterator[None]:
    """Errors are said in one sentence, exit code 1; `verbose` shows where they come from."""
    try:
        yield
    except BrokenPipeError:  # whoever reads has read enough
        sys.stderr.close()  # else the interpreter complains that it cannot write the rest
        raise typer.Exit(0) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        if verbose:
            raise
        typer.secho(f"Error: {sentence(error)}", err=True, fg="red")
        raise typer.Exit(1) from None


def _quiet_libraries(verbose: bool) -> None:
    """Our own warnings as plain lines on stderr; other libraries speak only when asked to."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {printable(str(message))}\n"
    if not verbose:
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)


class Command(TyperCommand):
    """A command whose help shows flags without a type."""

    def get_params(self, ctx: Any) -> Any:
        """Parameters of the command, ``--help`` included."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help shows flags without a type."""

    def get_params(self, ctx: Any) -> Any:
        """Parameters of the group, ``--help`` included."""
        return _without_types(super().get_params(ctx))


def _without_types(params: Any) -> Any:
    """Flags take no value; typer would show them as ``<bool>``."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.display_type_rich = lambda ctx: None
    return params
