"""Figures: those of the encoding models of a study, and brain maps that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from phosphene import maps as brain_maps
from phosphene.encoding import Model
from phosphene.encoding.models import Named
from phosphene.encoding.regions import labelled
from phosphene.features.names import slug
from phosphene.maps import analyses, surface
from phosphene.steps.encode import maps
from phosphene.steps.subject import dataset
from phosphene.study import Study


def tables_of(study: Study, subject: str, models: Sequence[Model]) -> dict[Model, pd.DataFrame]:
    """Read of each model what is drawn: x, y, z, r, q, "unique SPACE", and `region`, that of the
    first atlas.
    """
    found = {}
    for model in dict.fromkeys(models):
        table = maps(study, subject, model)
        unique = [column for column in table if str(column).startswith("unique ")]
        _, regions = labelled(table, study.encode.atlases)[0]
        found[model] = table[["x", "y", "z", "r", "q", *unique]].assign(region=regions)
    return found


def write(study: Study, subject: str, models: Named, folder: Path) -> list[Path]:
    """Write figures (PNG, PDF) of every analysis, a page with the cortex to turn, and every model's
    map of r.

    Parameters
    ----------
    study : Study
    subject : str
    models : sequence of (str, Model)
        Finished models and the analysis each belongs to (:func:`phosphene.steps.encode.planned`).
    folder : Path
        Made where it is not there; files of the same names are written anew.

    Returns
    -------
    list of Path
        Per analysis ANALYSIS.png and ANALYSIS.pdf; surface.html; per model MODEL-r.nii.gz and, on
        fsaverage, MODEL-r.lh.func.gii and MODEL-r.rh.func.gii. What lies on a surface is left out
        where no transforms of the subject are known.
    """
    data: Any = dataset(study, subject)
    written: list[Path] = []
    turnable: list[surface.Turned] = []
    folder.mkdir(parents=True, exist_ok=True)
    for analysis in dict.fromkeys(analysis for analysis, _ in models):
        mine = [model for name, model in models if name == analysis]
        names = analyses.panel_names(analysis, mine)
        tables = tables_of(study, subject, mine)
        drawn = analyses.figure(
            analysis,
            names,
            tables,
            data,
            brain_maps.Look(f"{subject}: {analyses.TITLES[analysis]}"),
        )
        for suffix in ("png", "pdf") if drawn else ():
            path = folder / f"{analysis}.{suffix}"
            assert drawn is not None
            drawn.savefig(path, dpi=200)
            written.append(path)
        turnable += analyses.turned(subject, analysis, names, tables, data)
        for model, table in tables.items():
            written += _write_r(model, table, data, folder)
    if turnable:
        page = folder / "surface.html"
        page.write_text(
            surface.surface_page(
                f"{study.name}, {subject}", turnable, {subject: analyses.outlined(data)}
            ),
            "utf-8",
        )
        written.append(page)
    return list(dict.fromkeys(written))


def _write_r(model: Model, table: pd.DataFrame, data: Any, folder: Path) -> list[Path]:
    stem = slug(model)
    values = table["r"].to_numpy()
    transforms = brain_maps.transforms_of(data)
    written = [brain_maps.write_volume(values, table, data, folder / f"{stem}-r.nii.gz")]
    if transforms is not None:
        written += brain_maps.write_surface(values, table, data, transforms, folder / f"{stem}-r")
    return written
