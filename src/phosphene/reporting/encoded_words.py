"""What is seen in the maps of the encoding half, said in numbers, and numbers by region: tables
in, texts out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from phosphene import maps
from phosphene.data.atlas import ATLASES
from phosphene.encoding import Model
from phosphene.encoding.regions import ELSEWHERE
from phosphene.features.names import OWN_NOISE
from phosphene.maps import analyses
from phosphene.reporting.tables import Cell

GREY = "Grey cortex is not significant (q\u00a0≥\u00a00.05), or was not measured"
HOW = {
    "one": f"The darker, the higher the correlation of predicted with measured responses. {GREY}.",
    "two": "Colour is R² that is lost without a space: blue only {0} explains, vermilion only {1}, "
    f"dark each adds to the other; pale is what both explain alike. {GREY}.",
    "layers": "Colour is the layer that predicts a voxel best, paler where the second best is "
    f"close. {GREY}.",
}


MEANING = {
    "noise": "With one noise for all pictures, what the text adds stands at the same place of "
    "every latent, where a linear model can read it. With separate noise for each picture it is "
    "not absent, but stands elsewhere in every latent, where a linear model reads far less of it.",
    "text": "With one noise for all pictures the U-Net expands z nonlinearly, so that zc explains "
    "voxels even with empty text. Only what zc adds to zc with empty text depends on the text, and "
    "only this may be called semantic.",
}


def meaning(analysis: str, tables: dict[Model, pd.DataFrame]) -> str:
    """What controls mean that are among these models, "" where there are none."""
    controls = analysis == "text" or any(_is_own_noise(model) for model in tables)
    return MEANING.get(analysis, "") if controls else ""


def _is_own_noise(model: Model) -> bool:
    return model.spaces[-1].kind == OWN_NOISE


def words(
    analysis: str, names: dict[Model, str], tables: dict[Model, pd.DataFrame]
) -> tuple[str, str]:
    """What is seen, in a sentence for everyone, and in numbers for those who cannot see the
    figure.
    """
    if analysis == "layers":
        return _words_of_layers(names, tables)
    if analysis == "text":
        return _words_of_text(names, tables)
    if analyses.joint(tables):
        return _words_of_two(names, tables)
    said: list[str] = []
    told: list[str] = []
    for model, table in tables.items():
        mean = _means(table, "r")
        found = 100 * (table["q"] < 0.05).mean()
        told.append(f"{names[model]}: {found:.0f} % of voxels significant; mean r {_listed(mean)}")
        if len(mean):
            verb, best = ("", "") if said else ("predicts ", " best")
            where = _cortex(mean.idxmax())
            said.append(f"{_short(model)} {verb}{where}{best} (mean r {_number(mean.max())})")
    return f"{_sentence(said)}.", f"Accuracy of {_counted(tables, 'model')}. {'. '.join(told)}."


def _words_of_two(names: dict[Model, str], tables: dict[Model, pd.DataFrame]) -> tuple[str, str]:
    """Where each space alone explains most, in the first and the last panel."""
    panels = []
    for model, table in tables.items():
        each = [
            f"only {s.kind.split(':')[0]} {_listed(_means(table, f'unique {s}'), 3)}"
            for s in model.spaces
        ]
        panels.append(f"{names[model]}: {'; '.join(each)}")
    main, own = ([m for m in tables if _is_own_noise(m) is control] for control in (False, True))
    ends = list(dict.fromkeys([(main or own)[0], (main or own)[-1]]))
    clauses = []
    for k in range(2):
        found = []
        for model in ends:
            mean = _means(tables[model], f"unique {model.spaces[k]}")
            if len(mean):
                there = f" ({_cortex(mean.idxmax())})" if mean.max() >= 0.0005 else ""
                found.append(
                    f"{_number(mean.max(), 3) if there else 'nothing'} {_short(model)}{there}"
                )
        clauses.append(
            f"only {ends[0].spaces[k].kind} explains up to {' and '.join(found) or 'nothing'}"
        )
    if main and own:
        mean = _means(tables[own[-1]], f"unique {own[-1].spaces[1]}")
        most = _number(mean.max(), 3) if len(mean) else "–"
        clauses.append(
            "with separate noise for each picture, zc alone explains at most "
            f"{most} {_short(own[-1])}"
        )
    return (
        f"As mean R² of a region, {'; '.join(clauses)}.",
        f"Unique variance of {_counted(tables, 'joint model')}, mean R². {'. '.join(panels)}.",
    )


def _words_of_text(names: dict[Model, str], tables: dict[Model, pd.DataFrame]) -> tuple[str, str]:
    """What each zc adds to its reference, where it adds most."""
    panels = []
    clauses = []
    for model, table in tables.items():
        mean = _means(table, f"unique {model.spaces[1]}")
        if len(mean):
            panels.append(f"{names[model]}: adds {_listed(mean, 3)}")
            clauses.append(f"{_number(mean.max(), 3)} in {_cortex(mean.idxmax())} ({names[model]})")
    return (
        f"As mean R² of a region, zc adds at most {_sentence(clauses) if clauses else 'nothing'}.",
        f"Unique variance of {_counted(tables, 'joint model')}, mean R². {'. '.join(panels)}.",
    )


def _words_of_layers(names: dict[Model, str], tables: dict[Model, pd.DataFrame]) -> tuple[str, str]:
    """Which layer wins most voxels, at every step."""
    regions = next(iter(tables.values()))["region"]
    steps = {name: model for model, name in names.items()}
    told = []
    said = []
    for panel, some in analyses.steps_of(names, tables).items():
        best = maps.best_layer(some).assign(region=regions.to_numpy())
        best = best[best["q"] < 0.05]
        if best.empty:
            told.append(f"{panel}: no voxel significant")
            continue
        wins = best["layer"].value_counts(normalize=True)
        said.append((str(wins.index[0]), f"{100 * wins.iloc[0]:.0f} %", _short(steps[panel])))
        own = {
            str(region): rows["layer"].mode().iloc[0]
            for region, rows in best.groupby("region")
            if len(rows) > 4
        }
        listed = ", ".join(
            f"{region} {own[region]}" for region in ordered(list(own)) if region != ELSEWHERE
        )
        shares = ", ".join(f"{layer} {100 * share:.0f} %" for layer, share in wins.items())
        told.append(f"{panel}: {shares}; most often best in {listed or 'no region'}")
    alt = f"Best layer of each voxel. {'. '.join(told)}."
    if len({layer for layer, _, _ in said}) == 1:
        where = _sentence([f"{n} {at}" for _, n, at in said])
        return f"{said[0][0]} is best for most voxels: {where}.", alt
    each = _sentence([f"{layer} {at} ({share})" for layer, share, at in said])
    return f"Best for most voxels: {each}.", alt


def _means(table: pd.DataFrame, column: str) -> pd.Series:
    """Mean over the voxels of each region that has values; without what has no name, if any has
    one.
    """
    mean = table.groupby("region", sort=False)[column].mean().dropna()
    named = mean.drop(ELSEWHERE, errors="ignore")
    return _ordered(named if len(named) else mean)


def _ordered(some: pd.Series) -> pd.Series:
    return some.loc[ordered(list(some.index))]


def ordered(regions: Sequence[str], atlas: str = "streams") -> list[str]:
    """Put regions into the order of their atlas, those it does not know after them, what has no
    name last.
    """
    known = ATLASES.get(atlas, ())
    rank = {name: k for k, name in enumerate(known)}
    return sorted(regions, key=lambda name: (name == ELSEWHERE, rank.get(name, len(rank))))


def _listed(mean: pd.Series, digits: int = 2) -> str:
    return ", ".join(f"{region} {_number(value, digits)}" for region, value in mean.items())


def _number(value: float, digits: int = 2) -> str:
    return (
        f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−") if np.isfinite(value) else "–"
    )


def _counted(tables: dict[Model, pd.DataFrame], what: str) -> str:
    return f"{len(tables)} {what}{'s' if len(tables) > 1 else ''}"


def _short(model: Model) -> str:
    """What tells a model apart from the others of its analysis, in running text."""
    last = model.spaces[-1]
    if last.strength is None:
        return " + ".join(map(str, model.spaces))
    if last.step is not None:
        return f"at step {last.step}"
    return (
        f"{last.kind} at noise {last.strength:g}"
        if len(model.spaces) == 1
        else f"at noise {last.strength:g}"
    )


def _cortex(region: str) -> str:
    return f"{region} cortex" if region in ATLASES["streams"] else region


def _sentence(parts: Sequence[str]) -> str:
    return (
        f"{', '.join(parts[:-1])} and {parts[-1]}"
        if len(parts) > 1
        else "".join(parts) or "nothing is predicted"
    )


# Numbers by region


@dataclass(frozen=True)
class Table:
    """Numbers of one analysis by the regions of one atlas: columns, and groups of rows, each a
    title and lines.
    """

    atlas: str
    columns: list[tuple[str, int]]
    groups: list[tuple[str, list[tuple[str, list[Cell | None]]]]]


def by_region(regions: pd.DataFrame, names: dict[Model, str]) -> list[Table]:
    """Arrange what :func:`phosphene.steps.encode.regions` gives of one analysis: a table per atlas,
    in their order.
    """
    shown = {str(model): name for model, name in names.items()}
    spaces = [
        column
        for column in regions
        if str(column).startswith("unique ") and regions[column].notna().any()
    ]
    found = []
    for atlas in dict.fromkeys(regions["atlas"]):
        some = regions[regions["atlas"] == atlas]
        order = ordered(list(dict.fromkeys(some["region"])), str(atlas))
        size = some.drop_duplicates("region").set_index("region")["n_voxels"]
        groups = _accuracy(some, order, shown)
        if not all("unet/" in model for model in some["model"]):
            groups += _plain(some, order, shown, "significant", "Voxels with q < 0.05, %", (100, 0))
            groups += _plain(
                some, order, shown, "r_of_ceiling", "r, as a share of the noise ceiling", (1, 2)
            )
            groups += _unique(some, order, shown, spaces)
        found.append(Table(str(atlas), [(region, int(size[region])) for region in order], groups))
    return found


def _accuracy(some: pd.DataFrame, order: list[str], names: dict[str, str]) -> list[Any]:
    """r with its interval; of layers a group for each step. The best of a group is marked."""
    title = "Correlation r, mean over voxels"
    layered = some["model"].str.startswith("unet/").all()
    groups = some["model"].map(names) if layered else pd.Series(title, index=some.index)
    found = []
    for group, rows in some.groupby(groups, sort=False):
        rivals = rows[rows["region"] != ELSEWHERE] if rows["model"].nunique() > 1 else rows[:0]
        best = rivals.groupby("region")["r"].max()
        lines = []
        for model, own in rows.groupby("model", sort=False):
            at = own.set_index("region")
            name = (
                Model.of(str(model)).spaces[0].layer
                if layered
                else names.get(str(model), str(model))
            )
            cells: list[Cell | None] = [
                _cell(at.loc[region], best.get(region)) if region in at.index else None
                for region in order
            ]
            lines.append((name, cells))
        found.append((f"{title}: {group}" if layered else title, lines))
    return found


def _cell(row: pd.Series, best: float | None) -> Cell:
    low = _number(row["ci_low"])
    high = _number(row["ci_high"])
    between = f"{low} to {high}" if np.isfinite(row["ci_low"]) else ""
    return Cell(_number(row["r"]), between, best=best is not None and row["r"] == best)


def _plain(
    some: pd.DataFrame,
    order: list[str],
    names: dict[str, str],
    column: str,
    title: str,
    scale: tuple[float, int],
) -> list[Any]:
    if column not in some or not some[column].notna().any():
        return []
    factor, digits = scale
    wide = some.pivot(index="model", columns="region", values=column).reindex(columns=order)
    lines = [
        (
            names.get(model, model),
            [Cell(_number(factor * value, digits)) for value in wide.loc[model]],
        )
        for model in dict.fromkeys(some["model"])
    ]
    return [(title, lines)]


def _unique(
    some: pd.DataFrame, order: list[str], names: dict[str, str], spaces: list[str]
) -> list[Any]:
    lines = []
    for model in dict.fromkeys(some["model"]):
        at = some[some["model"] == model].set_index("region").reindex(order)
        for space in [space for space in spaces if at[space].notna().any()]:
            name = f"{space.removeprefix('unique ').split('@')[0]}, {names.get(model, model)}"
            lines.append((name, [_unique_cell(row, space) for _, row in at.iterrows()]))
    return [("Unique variance: R² lost without the space", lines)] if lines else []


def _unique_cell(row: pd.Series, space: str) -> Cell:
    low, high = (_number(row.get(f"{end} {space}", np.nan), 3) for end in ("ci_low", "ci_high"))
    return Cell(_number(row[space], 3), "" if "–" in (low, high) else f"{low} to {high}")
