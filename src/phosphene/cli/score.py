"""The commands that score anyone's pictures and set scores beside published ones. Heavy imports
wait inside.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli.options import Changes, Common, command
from phosphene.cli.terminal import WIDTH, console
from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from phosphene.metrics.image_files import PictureSet
    from phosphene.metrics.score import PictureScores

PICTURES = "A folder of PNG or JPEG files, or a .pt file of one tensor."


@dataclass(frozen=True)
class ScoreOptions(Common):
    """How pictures are scored."""

    preset: Annotated[
        str,
        typer.Option(help="Whose measures: names with commas, or all (every preset but scenes)."),
    ] = "all"
    by_order: Annotated[
        bool, typer.Option("--by-order", help="Pair by order of names, not by equal names.")
    ] = False
    weights: Annotated[
        Path | None, typer.Option(help="Folder with the networks' weights; then the usual caches.")
    ] = None
    cache: Annotated[
        Path | None, typer.Option(help="Folder in which features are kept for the next time.")
    ] = None
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores as CSV.")] = (
        None
    )
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with scores and pictures.")
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for intervals; 0: none.")] = 2000
    permutations: Annotated[int, typer.Option(min=0, help="Permutations for p; 0: none.")] = 2000
    seed: Annotated[int, typer.Option(help="Of resamples and permutations.")] = 0
    json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, per picture as well.")
    ] = False
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say what is being done; show tracebacks.")
    ] = False


@command
def score(
    recons: Annotated[Path, typer.Argument(metavar="RECONS", help=f"Reconstructions: {PICTURES}")],
    originals: Annotated[
        Path, typer.Argument(metavar="ORIGINALS", help=f"What was seen: {PICTURES}")
    ],
    *,
    options: ScoreOptions,
) -> None:
    """Score anyone's reconstructions against what was seen, by the exact measures of published
    work.
    """
    written = [path for path in (options.csv, options.html) if path is not None]
    _refuse_unwritable(written)
    from phosphene.metrics.image_files import read
    from phosphene.metrics.measures import Draws, Places
    from phosphene.metrics.pairing import match
    from phosphene.metrics.score import preset_names, score_sets
    from phosphene.models.diffusion.batching import own_device

    preset_names(options.preset)  # a misspelt name is said before pictures are looked at
    made, shown = match(read(recons), read(originals), options.by_order)
    for note in dict.fromkeys((*made.notes, *shown.notes)):
        typer.echo(f"Note: {note}.", err=True)
    scored = score_sets(
        made,
        shown,
        options.preset,
        options.by_order,
        draws=Draws(options.bootstrap, options.permutations, options.seed),
        places=Places(options.weights, options.cache, own_device(options.device)),
        say=_reporter(options.verbose),
    )
    if scored.scores.empty:
        raise PhospheneError(
            f"{options.preset}: nothing could be scored. "
            f"{' '.join(dict.fromkeys(scored.absent.values()))}"
        )
    if options.csv is not None:
        scored.scores.to_csv(options.csv, index=False, float_format="%.10g")
    if options.html is not None:
        from phosphene.metrics.views import page

        options.html.write_text(page(scored, made, shown), encoding="utf-8")
    if options.json:
        return typer.echo(json.dumps(_as_dict(scored, made, shown)))
    _show(scored)
    for path in written:
        typer.echo(f"Written: {path}")


@command
def compare(
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY_OR_SCORES", help="A study (TOML), or CSV or JSON of `score`."
        ),
    ],
    root: Annotated[
        Path | None, typer.Option(help="Where results are; by default runs/ beside the study.")
    ] = None,
    *,
    options: Changes,
) -> None:
    """Set your scores beside published ones of the same preset, with source and mark of each."""
    if not scores.exists():
        raise PhospheneError(
            f"{scores}: no such file; expected a study file, or what `phosphene score` wrote"
        )
    from phosphene.metrics import published

    if scores.suffix == ".toml":
        from phosphene import api

        yours = api.measures(options.study(scores, root))
    else:
        yours = published.read_scores(scores)
    if yours.empty:
        raise PhospheneError(f"{scores}: holds no scores of pictures; there is nothing to compare")
    table = published.beside(yours)
    if options.json:
        return typer.echo(table.to_json(orient="records"))
    show_beside(table)


def show_beside(table: pd.DataFrame) -> None:
    """Print what :func:`phosphene.metrics.published.beside` gives, preset by preset."""
    from rich.markup import escape

    from phosphene.metrics import published
    from phosphene.metrics.presets import PRESETS

    for preset in dict.fromkeys(table["preset"]):
        mine = table[(table["preset"] == preset) & table["yours"].astype(bool)]
        counts, samples = (
            " and ".join(dict.fromkeys(mine[name].map(int).map(str))) for name in ("n", "samples")
        )
        wide = published.wide(table, preset)
        if sum(len(name) for name in wide.columns) > WIDTH - 30 and len(wide) < len(wide.columns):
            wide = wide.T
        title = (
            f"{preset} ({PRESETS[preset].source}). Yours: {counts} pictures, rule "
            f"{PRESETS[preset].selection}"
        )
        shown = _table(["", *wide.columns])
        for name, row in wide.iterrows():
            shown.add_row(
                escape(str(name)), *row, style="bold" if str(name).startswith("yours") else ""
            )
        _print(
            escape(f"{title} of {samples} {'sample' if samples == '1' else 'samples'}"),
            style="bold",
        )
        _print(shown)
        for remark in published.remarks(table, preset) or [
            "No numbers by this preset are known here with a source."
        ]:
            _print(f"  {escape(remark)}", style="dim")
        _print("")
    _show_people()


def _show_people() -> None:
    """What people reached, and what the marks mean."""
    from rich.markup import escape

    from phosphene.metrics import published

    human = published.rows()
    human = human[human["preset"] == published.HUMAN]
    people = "; ".join(
        f"{row.method} {100 * row.value:.2f} % [{row.mark}]" for row in human.itertuples()
    )
    sources = "; ".join(dict.fromkeys(human["source"]))
    _print(
        "Published numbers are of NSD's photographs: beside other pictures they orient, they do "
        "not compare."
    )
    _print(
        "Identification in %; PixCorr, SSIM and distances (Eff, SwAV: lower is better) as they are."
    )
    _print(escape(f"People in place of networks, two-way, of no preset: {people} ({sources})."))
    _print(
        escape("; ".join(f"[{mark}] {meaning}" for mark, meaning in published.MARKS.items()) + ".")
    )


def _refuse_unwritable(paths: Sequence[Path]) -> None:
    """Before an hour of work, not after it."""
    for path in paths:
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise PhospheneError(
                f"{path}: cannot be written; expected a file in a folder that is there"
            )


def _reporter(verbose: bool) -> Callable[[str], None]:
    """Say on stderr what is being computed, where somebody watches or asked for it."""
    if verbose or sys.stderr.isatty():
        return lambda text: typer.echo(text, err=True)
    return lambda text: None


def _as_dict(found: PictureScores, made: PictureSet, shown: PictureSet) -> dict[str, Any]:
    from phosphene.metrics.presets import PRESETS
    from phosphene.metrics.views import versions

    keys = ["preset", "metric", "direction", "selection"]
    images = []
    for key, some in found.per_image.groupby(keys, sort=False, dropna=False):
        named = {
            name: None if value != value else value for name, value in zip(keys, key, strict=True)
        }
        images.append(named | {"values": [float(f"{value:.8g}") for value in some["value"]]})
    return {
        "recons": made.source,
        "originals": shown.source,
        "presets": {
            name: {"source": PRESETS[name].source, "selection": PRESETS[name].selection}
            for name in dict.fromkeys(found.scores["preset"])
        },
        "scores": json.loads(found.scores.to_json(orient="records", double_precision=10)),
        "absent": [
            {"measure": measure, "reason": reason} for measure, reason in found.absent.items()
        ],
        "notes": found.notes,
        "names": found.names,
        "per_image": images,
        "versions": versions(),
    }


def _show(found: PictureScores) -> None:
    """One table per preset; under it what its words mean; at the end what is absent."""
    from rich.markup import escape

    from phosphene.metrics.views import HEADS, RULES, blocks, grouped

    together = blocks(found.scores)
    for block in together:
        columns = ["direction", "value", "interval", "p", "chance"]
        columns = [name for name in columns if name in ("value", *block.columns)]
        heads = HEADS | {"value": block.rule}
        table = _table(["", *(heads[name] for name in columns), *block.others])
        for line in block.lines:
            metric = line.metric + (" ↓" if line.lower else "")
            table.add_row(metric, *(getattr(line, name) for name in columns), *line.others)
        _print(escape(f"{block.preset} ({block.source}): {block.said}"), style="bold")
        _print(table)
    legend = [said for block in together for said in block.directions]
    rules = [
        f"{rule}: {RULES[rule]}"
        for block in together
        for rule in (block.rule, *block.others)
        if block.samples > 1
    ]
    for said in dict.fromkeys([*legend, *rules]):
        _print(f"  {escape(said)}", style="dim")
    _print(
        "  Identification in %; ↓: lower is better; intervals: bootstrap over pictures.",
        style="dim",
    )
    for reason, measures in grouped(found.absent).items():
        _print(f"Absent: {escape(', '.join(measures))}. {escape(reason)}", style="yellow")


def _table(heads: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(
            head, justify="left" if head in ("", "direction") else "right", overflow="fold"
        )
    return table


def _print(what: Any, **options: Any) -> None:
    console().print(what, highlight=False, **options)
