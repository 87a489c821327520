"""Figures 6 to 9 of the paper, and brain maps that other programs read, from the encoding models of a study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from phosphene import brain_maps
from phosphene.encoding import Model, maps
from phosphene.sources import dataset
from phosphene.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "features": "How well features of the diffusion model predict the brain",
    "asked": "How well features of the diffusion model predict the brain",
    "noise": "What z and zc each explain, with more and more noise",
    "steps": "What z and zc each explain, along the denoising",
    "layers": "The layer of the U-Net that predicts best, along the denoising",
}
LAYER = re.compile(r"unet/(?P<layer>\w+)@(?P<strength>[\d.]+)/step=(?P<step>\d+)")


def write(study: Study, subject: str, models: Sequence[tuple[str, Model]], folder: Path) -> list[Path]:
    """Write figures (PNG, PDF) of every analysis, and for every model its map of r as NIfTI and on fsaverage as GIFTI.

    Parameters
    ----------
    study : Study
    subject : str
    models : sequence of (str, Model)
        Finished models and the analysis each belongs to (:func:`phosphene.encoding.planned`).
    folder : Path
        Made where it is not there; files of the same names are written anew.

    Returns
    -------
    list of Path
        Surface files are left out where no transforms of the subject are known.
    """
    data: Any = dataset(study, subject)
    transforms, written = brain_maps.transforms_of(data), []
    folder.mkdir(parents=True, exist_ok=True)
    tables = {model: maps(study, subject, model) for _, model in models}
    for analysis in dict.fromkeys(analysis for analysis, _ in models):
        mine = {model: tables[model] for name, model in models if name == analysis}
        figure = _figure(analysis, mine, data, brain_maps.Look(f"{subject}: {TITLES[analysis]}", transforms))
        for suffix in ("png", "pdf"):
            path = folder / f"{analysis}.{suffix}"
            figure.savefig(path, dpi=200, bbox_inches="tight")
            written.append(path)
    for model, table in tables.items():
        stem = re.sub(r"[^A-Za-z0-9.]+", "-", str(model).replace("step=", "step"))
        values = table["r"].to_numpy()
        written.append(brain_maps.write_volume(values, table, data, folder / f"{stem}-r.nii.gz"))
        if transforms is not None:
            written += brain_maps.write_surface(values, table, data, transforms, folder / f"{stem}-r")
    return written


def _figure(analysis: str, tables: dict[Model, pd.DataFrame], data: Any, look: brain_maps.Look) -> Figure:
    if analysis == "layers":
        panels: dict[str, dict[str, pd.DataFrame]] = {}
        for model, table in tables.items():
            found = LAYER.fullmatch(str(model))
            assert found is not None
            panels.setdefault(f"step {found['step']}", {})[found["layer"]] = table
        return brain_maps.figure_of_best(panels, data, look)
    if all(len(model.spaces) == 2 for model in tables):
        named = {str(model.spaces[1]): table for model, table in tables.items()}
        return brain_maps.figure_of_unique(named, data, ("z", "zc"), look)
    return brain_maps.figure_of_accuracy({str(model): table for model, table in tables.items()}, data, look)
