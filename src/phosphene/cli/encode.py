"""The commands of the encoding half. Heavy imports wait inside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli.options import STUDY, Options, command
from phosphene.cli.plan import has_data, show_plan, warn_without_data
from phosphene.cli.terminal import show_paths, show_table

if TYPE_CHECKING:
    import pandas as pd


WIDE = 160  # characters of a table that is not read on a terminal


@command
def encode(
    study: STUDY,
    features: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="In place of the study's analyses, such as z,c,zc@0.5."),
    ] = None,
    joint: Annotated[
        bool, typer.Option("--joint", help="These features together, with a penalty for each.")
    ] = False,
    *,
    options: Options,
) -> None:
    """Predict every voxel from features of the diffusion model, and say which part of the brain
    resembles which.
    """
    chosen = options.study(study)
    if options.dry_run and not has_data(chosen):
        return warn_without_data(chosen, options)
    from phosphene.encoding import asked
    from phosphene.steps import encode as stage
    from phosphene.steps import plan

    models = (
        [("asked", model) for model in asked(features.split(","), joint)]
        if features
        else stage.planned(chosen)
    )
    roots = plan.encode(chosen, models)
    if options.dry_run:
        return show_plan(chosen, roots, options)
    from phosphene.pipeline.graph import make

    make(roots, options.compute, options.force)
    kinds = {"regions": stage.regions, "preferences": stage.preferences, "seeds": stage.agreement}
    tables = {
        name: [read(chosen, s, models).assign(subject=s) for s in chosen.data.subjects]
        for name, read in kinds.items()
    }
    if options.json:
        rows = {
            name: [row for table in own for row in json.loads(table.to_json(orient="records"))]
            for name, own in tables.items()
        }
        return typer.echo(json.dumps(rows))
    for regions, preferences, seeds in zip(*tables.values(), strict=True):
        _show(regions, preferences, seeds)


@command
def figures(
    study: STUDY,
    folder: Annotated[
        Path | None, typer.Option(help="Copy them here too; they are kept with the results.")
    ] = None,
    *,
    options: Options,
) -> None:
    """Draw figures 6 to 9 of the paper from the study's encoding models, and write brain maps as
    files.
    """
    chosen = options.study(study)
    if options.dry_run and not has_data(chosen):
        return warn_without_data(chosen, options)
    from phosphene.steps import plan

    roots = plan.figures(chosen)
    if options.dry_run:
        return show_plan(chosen, roots, options)
    from phosphene.pipeline.graph import make

    written = []
    for step, artefact in zip(roots, make(roots, options.compute, options.force), strict=True):
        files = [artefact.file(name) for name in artefact.manifest["files"]]
        written += files if folder is None else _copied(files, folder / step.subject)
    show_paths(written, options.json)


def _copied(files: Iterable[Path], folder: Path) -> list[Path]:
    """Copy files into a folder, which is made when it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy2(file, folder / file.name)) for file in files]


def _show(regions: pd.DataFrame, preferences: pd.DataFrame, seeds: pd.DataFrame) -> None:
    """Print the regions of the first atlas; the other atlases are in ``--json`` and in the
    report.
    """
    subject = regions["subject"].iloc[0]
    atlas = regions["atlas"].iloc[0]
    for analysis, some in regions[regions["atlas"] == atlas].groupby("analysis", sort=False):
        show_table(
            f"{subject}: {analysis}, mean correlation x 100 with test responses",
            100 * _wide(some, "r"),
            1,
            WIDE,
        )
        spaces = [
            column for column in some if column.startswith("unique ") and some[column].notna().any()
        ]
        long = (
            some.melt(["model", "region"], spaces, "space", "value", ignore_index=False)
            .dropna()
            .sort_index()
        )
        long["model"] = long["space"].str.removeprefix("unique ") + " in " + long["model"]
        if len(long):
            title = f"{subject}: {analysis}, unique variance x 100 (R² lost without it)"
            show_table(title, 100 * _wide(long, "value"), 1, WIDE)
    for (a, b), some in preferences[preferences["atlas"] == atlas].groupby(["a", "b"], sort=False):
        shown = (
            100
            * some.set_index("region")[["difference", "ci_low", "ci_high", "better_a", "better_b"]]
        )
        shown.columns = [f"{a} - {b}", "low", "high", f"% better by {a}", f"% better by {b}"]
        title = (
            f"{subject}: {a} less {b}, mean correlation x 100, 95 % interval, and voxels with "
            "q < 0.05"
        )
        show_table(title, shown.loc[_ordered(shown.index)], 1, WIDE)
    if len(seeds):
        again = seeds.assign(
            model=seeds["model"] + ", seed " + seeds["seed"].astype(str)
        ).set_index("model")
        title = f"{subject}: maps with other noise, over voxels with q < 0.05"
        show_table(title, again[["correlation", "difference"]], 3, WIDE)


def _wide(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """A row per model and a column per region."""
    wide = table.pivot(index="model", columns="region", values=values)
    return wide.reindex(
        index=list(dict.fromkeys(table["model"])), columns=_ordered(table["region"])
    )


def _ordered(regions: Iterable[str]) -> list[str]:
    """Regions as they come, what has no name last."""
    return sorted(dict.fromkeys(regions), key=lambda region: region == "elsewhere")
