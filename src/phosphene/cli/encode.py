"""The commands of the encoding half. Heavy imports wait inside them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli.options import STUDY, Options, command
from phosphene.cli.terminal import show_costs, show_paths, show_table

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.encoding import Model
    from phosphene.study import Study

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
    from phosphene.encoding import asked
    from phosphene.steps import encode as stage

    chosen = options.study(study)
    models = (
        [("asked", model) for model in asked(features.split(","), joint)]
        if features
        else stage.planned(chosen)
    )
    if options.dry_run:
        return _show_plan(chosen, models, options)
    found: dict[str, list[pd.DataFrame]] = {"regions": [], "preferences": [], "seeds": []}
    for subject in chosen.data.subjects:
        if options.force:
            stage.clear(chosen, subject, models)
        stage.analyse(chosen, subject, models, options.compute)
        for name, table in (
            ("regions", stage.regions),
            ("preferences", stage.preferences),
            ("seeds", stage.agreement),
        ):
            found[name].append(table(chosen, subject, models).assign(subject=subject))
    if options.json:
        rows = {
            name: [row for t in some for row in json.loads(t.to_json(orient="records"))]
            for name, some in found.items()
        }
        return typer.echo(json.dumps(rows))
    for regions, preferences, seeds in zip(*found.values(), strict=True):
        _show(regions, preferences, seeds)


@command
def figures(
    study: STUDY,
    folder: Annotated[
        Path | None, typer.Option(help="Where they go; by default figures/ beside the results.")
    ] = None,
    *,
    options: Options,
) -> None:
    """Draw figures 6 to 9 of the paper from the study's encoding models, and write brain maps as
    files.
    """
    from phosphene.steps import figures as drawing
    from phosphene.steps.encode import analyse, planned

    chosen = options.study(study)
    models = planned(chosen)
    written = []
    for subject in chosen.data.subjects:
        place = (folder or chosen.root / "figures") / subject
        if options.dry_run:
            typer.echo(str(place))
            continue
        analyse(chosen, subject, models, options.compute)
        written += drawing.write(chosen, subject, models, place)
    if not options.dry_run:
        show_paths(written, options.json)


def _show_plan(study: Study, models: list[tuple[str, Model]], options: Options) -> None:
    """Every model, whether it is fitted, and what all of it will take."""
    from phosphene.steps.encode import finished
    from phosphene.steps.encode.cost import encoding_costs

    rows = []
    for subject in study.data.subjects:
        done = finished(study, subject, models)
        rows += [
            {
                "subject": subject,
                "analysis": analysis,
                "model": str(model),
                "state": "done" if (analysis, model) in done else "to do",
            }
            for analysis, model in models
        ]
    if options.json:
        return typer.echo(json.dumps(rows))
    for row in rows:
        typer.echo(f"{row['subject']:<10} {row['analysis']:<10} {row['model']:<40} {row['state']}")
    costs = encoding_costs(study, [model for _, model in models], options.compute)
    show_costs(costs, "Estimated cost of all of it, one worker")


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
