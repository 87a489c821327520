"""Figures 6 to 9 of the paper: maps of encoding models, one figure per analysis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import maps as brain_maps
from phosphene.encoding import Model
from phosphene.features.names import EMPTY, OTHER, OWN_NOISE
from phosphene.maps import colours, flatmap, legends, panels, places, surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TITLES = {
    "features": "How well features of the diffusion model predict the brain",
    "asked": "How well features of the diffusion model predict the brain",
    "noise": "What z and zc each explain, with more and more noise",
    "text": "How much of zc depends on the text",
    "steps": "What z and zc each explain, along the denoising",
    "layers": "The layer of the U-Net that predicts best, along the denoising",
}
SPACES = {
    "z": "z, how it looked",
    "c": "c, what it was",
    "c:category": "c of the category’s name",
    "z:segmentation": "z of the segmentation",
}
TEXTS = {
    OTHER: "another picture’s text, over z",
    EMPTY: "empty text, over z",
    "zc": "zc over zc with empty text",
}
RANKS: dict[str, dict[int, tuple[str, ...]]] = {
    "noise": {2: ("low", "high"), 3: ("low", "medium", "high")},
    "steps": {2: ("early", "late"), 3: ("early", "middle", "late")},
}


def panel_names(analysis: str, models: Sequence[Model]) -> dict[Model, str]:
    """Say in words what tells the models of one analysis apart; models of one step of `layers` have
    one name.

    Parameters
    ----------
    analysis : str
    models : sequence of Model
        All of the analysis, whether finished or not: which noise is low depends on the others.
    """
    if analysis in ("noise", "steps", "layers") and all(
        model.spaces[-1].strength is not None for model in models
    ):
        ranked = "noise" if analysis == "noise" else "steps"
        at = {m: m.spaces[-1].strength if ranked == "noise" else m.spaces[-1].step for m in models}
        places_ = sorted({float(value) for value in at.values() if value is not None})
        words = RANKS[ranked].get(len(places_), ("",) * len(places_))
        unit = "" if ranked == "noise" else "step "
        found = {}
        for model, value in at.items():
            if value is not None:
                word = words[places_.index(float(value))]
                number = f"{unit}{value:g}"
                own = model.spaces[-1].kind == OWN_NOISE
                noise = " noise" if ranked == "noise" and not own else ""
                name = f"{word}{noise} ({number})" if word else number
                found[model] = f"separate noise: {name}" if own else name
        return {model: found.get(model, str(model)) for model in models}
    if analysis == "text":
        return {model: TEXTS.get(model.spaces[-1].kind, str(model)) for model in models}
    return {model: " + ".join(space_name(str(space)) for space in model.spaces) for model in models}


def space_name(name: str) -> str:
    """Say in words what a feature is; what has no words keeps its name."""
    if found := re.fullmatch(r"zc@([\d.]+)", name):
        return f"zc, both (noise {found[1]})"
    return SPACES.get(name, name)


def steps_of(
    names: dict[Model, str], tables: dict[Model, pd.DataFrame]
) -> dict[str, dict[str, pd.DataFrame]]:
    """Arrange layers: panel -> layer -> table; only panels with two layers or more, all that the
    fullest panel has.
    """
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for model, table in tables.items():
        found.setdefault(names[model], {})[model.spaces[0].layer] = table
    most = max((len(some) for some in found.values()), default=0)
    return {name: some for name, some in found.items() if len(some) == most > 1}


def figure(
    analysis: str,
    names: dict[Model, str],
    tables: dict[Model, pd.DataFrame],
    data: Any,
    look: brain_maps.Look,
) -> Figure | None:
    """Draw one analysis.

    Parameters
    ----------
    analysis : str
    names : dict of Model to str
        As :func:`panel_names` gives them.
    tables : dict of Model to DataFrame
        As :func:`tables_of` gives them, of models that are finished.
    data : Scans
    look : Look

    Returns
    -------
    Figure or None
        None where too little is finished: of `layers` a panel needs all of its layers.
    """
    if analysis == "layers":
        steps = steps_of(names, tables)
        return brain_maps.figure_of_best(steps, data, look) if steps else None
    named = {names[model]: table for model, table in tables.items()}
    if joint(tables):
        return brain_maps.figure_of_unique(named, data, pair_of(analysis, tables), look)
    return brain_maps.figure_of_accuracy(named, data, look)


def joint(tables: dict[Model, pd.DataFrame]) -> bool:
    """Whether all of these models have two spaces, so that unique variance is what they show."""
    return all(len(model.spaces) == 2 for model in tables)


def pair_of(analysis: str, tables: dict[Model, pd.DataFrame]) -> tuple[str, str]:
    """What the two spaces are called in all panels, such as z and zc, whatever the noise."""
    if analysis == "text":
        return "the reference", "zc"  # not the same reference in all panels
    first, second = next(iter(tables)).spaces
    return (first.kind, second.kind) if first.kind != second.kind else (str(first), str(second))


def turned(
    subject: str,
    analysis: str,
    names: dict[Model, str],
    tables: dict[Model, pd.DataFrame],
    data: Any,
) -> list[surface.Turned]:
    """Maps of one analysis on a cortex that can be turned; none where the way to the surface is not
    known.
    """
    folder = brain_maps.transforms_of(data)
    look = panels.PLAIN
    if folder is None:
        return []
    on = surface.Cortex(flatmap.read_transforms(folder, places.resolution(data)))
    named = {names[model]: table for model, table in tables.items()}
    if analysis == "layers":
        return _turned_layers(subject, steps_of(names, tables), on, data)
    if joint(tables):
        pair = pair_of(analysis, tables)
        shown = panels.of_unique(named, on, data, pair, look, "unique")
        legend = surface.Legend(
            f"Unique variance, R²; colours are full from {shown.top:g} on",
            patches=legends.words_of_square(pair),
        )
        said = [f"only {name}" for name in pair]
        return [
            surface.turned(subject, shown, panel, f"unique variance, {panel.name}", (said, legend))
            for panel in shown.panels
        ]
    shown = panels.of_accuracy(named, on, data, look)
    legend = surface.Legend(
        "r of predicted with measured responses", colours.ACCURACY, ("0", f"≥ {shown.top:g}")
    )
    found = [
        surface.turned(subject, shown, panel, f"r of {panel.name}", (["r"], legend))
        for panel in shown.panels
    ]
    single = {str(model): table for model, table in tables.items()}
    return found + (
        _turned_difference(subject, single, on, data) if {"z", "c"} <= set(single) else []
    )


def _turned_difference(
    subject: str, tables: dict[str, pd.DataFrame], on: surface.Cortex, data: Any
) -> list[surface.Turned]:
    shown = panels.of_difference(
        "r of z less r of c", (tables["z"], tables["c"]), on, data, panels.PLAIN
    )
    legend = surface.Legend(
        "r of z less r of c, where either predicts",
        colours.DIVERGING,
        (f"c better, −{shown.top:g}", f"{shown.top:g}, z better"),
    )
    panel = shown.panels[0]
    return [surface.turned(subject, shown, panel, panel.name, (["r of z less r of c"], legend))]


def _turned_layers(
    subject: str, steps: dict[str, dict[str, pd.DataFrame]], on: surface.Cortex, data: Any
) -> list[surface.Turned]:
    if not steps:
        return []
    layers = list(next(iter(steps.values())))
    best = {name: brain_maps.best_layer(tables) for name, tables in steps.items()}
    shown = panels.of_best(best, layers, on, data, panels.PLAIN)
    legend = surface.Legend(
        f"The layer that predicts best; paler where its r is less than {shown.top:g} over the next",
        patches=dict(zip(colours.palette(len(layers)), layers, strict=True)),
    )
    return [
        surface.turned(
            subject, shown, panel, f"best layer, {panel.name}", (["r over second best"], legend)
        )
        for panel in shown.panels
    ]


def outlined(data: Any) -> dict[str, NDArray[np.bool_]]:
    """Regions to outline on a cortex that can be turned: name -> its vertices; none where it is not
    known.
    """
    folder = brain_maps.transforms_of(data)
    if folder is None:
        return {}
    on = surface.Cortex(flatmap.read_transforms(folder, places.resolution(data)))
    return {
        name: on.labels(mask.astype(float)) > 0 for name, mask in places.regions(data, None).items()
    }
