"""Maps of encoding: files that others can read, and colours at the places where they were
planted.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import load_surf_mesh

from phosphene import maps as brain_maps
from phosphene.data import atlas
from phosphene.data.nsd import NSD
from phosphene.data.simulated.simulate import simulate
from phosphene.errors import PhospheneError
from phosphene.maps import Look, colours, panels, surface
from phosphene.maps.flatmap import read_transforms
from phosphene.maps.flatmap.raster import FlatGround, pixels
from phosphene.maps.page import NARROW, box, layout

N = 10242
SIDES = {"lh": "left", "rh": "right"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> NSD:
    root = simulate(
        tmp_path_factory.mktemp("maps") / "nsd",
        images_shared=4,
        images_own=8,
        sessions=3,
        voxel_size=6.0,
        picture_size=32,
    )
    return NSD(root, "subj01")


@pytest.fixture(scope="module")
def voxels(data: NSD) -> pd.DataFrame:
    """Every voxel, with r and q as planted: early and ventral cortex predicted, nothing else."""
    table = data.voxels("brain", uncovered="nan")
    early = table["streams"] == "early"
    ventral = table["streams"] == "ventral"
    table["r"], table["q"] = (
        np.where(early | ventral, 0.8, 0.0),
        np.where(early | ventral, 0.001, 0.9),
    )
    table["unique z"], table["unique zc"] = np.where(early, 0.4, 0.0), np.where(ventral, 0.4, 0.0)
    return table


def bare(data: NSD) -> Any:
    """The same scans without a way to the surface."""
    return SimpleNamespace(
        shape=data.shape, affine=data.affine, rois=data.rois, trials=data.trials, select=data.select
    )


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [
        text.get_text() for text in figure.texts
    ]


def drawn(figure: Figure, panel: int = 0) -> np.ndarray:
    """The picture of a panel, (height, width, 3)."""
    return np.asarray(figure.axes[panel].images[0].get_array())[..., :3].astype(float)


def near(picture: np.ndarray, colour: np.ndarray | str, within: float = 0.03) -> np.ndarray:
    return (
        np.abs(picture - (colours.rgb(colour) if isinstance(colour, str) else colour)).max(-1)
        < within
    )


def streams_of_pixels() -> np.ndarray:
    """The label of the stream at every pixel of flattened cortex, by anatomy alone; 0 for none."""
    labels = [
        atlas.draw_regions(load_surf_mesh(fetch_surf_fsaverage()[f"white_{side}"]).coordinates)[
            "streams"
        ]
        for side in SIDES.values()
    ]
    corners, weights, _ = pixels()
    corner = np.take_along_axis(corners, weights.argmax(-1)[..., None], -1)[..., 0]
    return np.where(weights.sum(-1) > 0, np.concatenate(labels)[corner], 0)


# ---- files
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
def test_a_volume_has_each_value_at_its_place_in_the_space_of_the_scan(
    data: NSD, voxels: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    values = np.random.default_rng(0).normal(size=len(voxels))
    values[7] = np.nan
    path = brain_maps.write_volume(values, voxels, data, tmp_path / "new" / name)
    image = nib.load(path)
    mask = nib.load(data.layout.mask)
    np.testing.assert_array_equal(image.affine, mask.affine)
    volume = np.asarray(image.dataobj)
    assert (
        volume.dtype == np.float32
        and volume.shape == mask.shape
        and image.header.get_xyzt_units()[0] == "mm"
    )
    for row in (0, 100, len(voxels) - 1):
        assert volume[tuple(voxels.loc[row, ["x", "y", "z"]])] == np.float32(values[row])
    assert np.isfinite(volume).sum() == len(voxels) - 1
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_a_wrong_suffix_and_a_wrong_number_of_values_are_named(
    data: NSD, voxels: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(PhospheneError, match=r"map.mgz: found the suffix '.mgz'; expected .nii"):
        brain_maps.write_volume(np.ones(len(voxels)), voxels, data, tmp_path / "map.mgz")
    with pytest.raises(PhospheneError, match=r"found shape \(3,\), expected one for each"):
        brain_maps.write_volume(np.ones(3), voxels, data, tmp_path / "map.nii")
    assert not list(tmp_path.iterdir())


def test_a_surface_has_all_vertices_and_early_cortex_at_the_back(
    data: NSD, voxels: pd.DataFrame, tmp_path: Path
) -> None:
    folder = brain_maps.transforms_of(data)
    assert folder is not None
    early = np.where(voxels["streams"] == "early", 1.0, 0.0)
    paths = brain_maps.write_surface(early, voxels, data, folder, tmp_path / "subj01.z")
    assert [path.name for path in paths] == ["subj01.z.lh.func.gii", "subj01.z.rh.func.gii"]
    for path, (_, side), structure in zip(
        paths, SIDES.items(), ("CortexLeft", "CortexRight"), strict=True
    ):
        image = nib.load(path)
        assert image.meta["AnatomicalStructurePrimary"] == structure
        (array,) = image.darrays
        assert array.data.shape == (N,) and array.data.dtype == np.float32
        points = load_surf_mesh(fetch_surf_fsaverage()[f"white_{side}"]).coordinates
        assert 50 < (array.data > 0.5).sum() < N / 4 and points[array.data > 0.5, 1].max() < -50
    assert len(list(tmp_path.iterdir())) == 2


# ---- accuracy
# --------------------------------------------------------------------------------------------------


def test_what_was_planted_is_coloured_where_it_lies_and_the_rest_is_grey(
    data: NSD, voxels: pd.DataFrame
) -> None:
    figure = brain_maps.figure_of_accuracy(
        {"z": voxels, "c": voxels.assign(q=0.9)}, data, Look(top=0.8)
    )
    picture = drawn(figure)
    streams = streams_of_pixels()
    hit = near(picture, colours.ACCURACY[-1])
    assert 0.6 < hit[streams == 1].mean() and 0.6 < hit[streams == 5].mean()
    assert hit[streams == 0].mean() < 0.02 and hit[np.isin(streams, (6, 7))].mean() < 0.1
    grey = np.ptp(drawn(figure, 1), axis=-1) < 1e-9
    assert grey.all()  # nothing significant: nothing coloured


def test_models_share_one_scale(data: NSD, voxels: pd.DataFrame) -> None:
    figure = brain_maps.figure_of_accuracy(
        {"z": voxels, "c": voxels.assign(r=voxels["r"] / 2)}, data
    )
    middle = colours.ramp(np.array(0.5), colours.ACCURACY)
    assert (
        near(drawn(figure), colours.ACCURACY[-1]).sum() > 1000
        and not near(drawn(figure, 0), middle).any()
    )
    assert near(drawn(figure, 1), middle).sum() > 1000


def test_n_threshold_regions_and_counts_are_stated(
    data: NSD, voxels: pd.DataFrame, tmp_path: Path
) -> None:
    figure = brain_maps.figure_of_accuracy({"z": voxels}, data, Look("A title", threshold=0.01))
    said = " ".join(texts(figure)).replace("\u00a0", " ").replace("\u202f", " ")
    n = int((voxels["q"] < 0.01).sum())
    assert "A title" in said and "N = 4 test pictures" in said and "q < 0.01" in said
    assert f"{n} of {len(voxels):,} voxels".replace(",", " ") in said and "r up to 0.80" in said
    for name in ("early", "ventral", "lateral", "parietal"):
        assert texts(figure).count(name) == 2
    figure = brain_maps.figure_of_accuracy({"z": voxels}, data, Look(outlines=("V1v",)))
    assert texts(figure).count("V1v") == 2 and "early" not in texts(figure)
    figure.savefig(tmp_path / "map.png", dpi=60)
    assert matplotlib.image.imread(tmp_path / "map.png").std() > 0.1


def test_an_unknown_region_and_no_map_are_refused(data: NSD, voxels: pd.DataFrame) -> None:
    with pytest.raises(PhospheneError, match="V9"):
        brain_maps.figure_of_accuracy({"z": voxels}, data, Look(outlines=("V9",)))
    with pytest.raises(PhospheneError, match="maps: found none"):
        brain_maps.figure_of_accuracy({}, data)


def test_without_a_surface_there_are_slices_that_say_so(data: NSD, voxels: pd.DataFrame) -> None:
    scans = bare(data)
    assert brain_maps.transforms_of(scans) is None
    one = voxels.assign(q=0.9)
    row = int(voxels.index[voxels["streams"] == "early"][0])
    one.loc[row, "q"] = 0.0
    figure = brain_maps.figure_of_accuracy({"z": one}, scans, Look(top=0.8))
    assert any("No surface registration was found" in text for text in texts(figure))
    hit = np.argwhere(near(drawn(figure), colours.ACCURACY[-1]))
    assert len(hit) == 1 and f"z = {voxels['z'][row]}" in texts(figure)  # one voxel, its own slice


def test_the_part_with_results_is_shown_and_the_figure_says_so(
    data: NSD, voxels: pd.DataFrame
) -> None:
    figure = brain_maps.figure_of_accuracy({"z": voxels}, data)
    left, right = figure.axes[0].get_xlim()
    assert (
        left == -right
        and right < pixels().extent[1]
        and any("the part of it" in text for text in texts(figure))
    )
    transforms = brain_maps.transforms_of(data)
    assert transforms is not None
    flat = FlatGround(read_transforms(transforms))
    everywhere = np.ones(pixels().weights.shape[:2], bool)
    assert box(flat, [everywhere]) == box(flat, [~everywhere]) == pixels().extent


# ---- unique variance
# -----------------------------------------------------------------------------------------------


def test_corners_of_the_colour_map_of_two_dimensions() -> None:
    first = np.array([0, 1, 0, 1, 2, -1.0])
    second = np.array([0, 0, 1, 1, 2, -1.0])
    expected = [
        colours.NEITHER,
        colours.FIRST,
        colours.SECOND,
        colours.BOTH,
        colours.BOTH,
        colours.NEITHER,
    ]
    np.testing.assert_allclose(
        colours.bivariate(first, second), [colours.rgb(c) for c in expected], atol=2e-3
    )
    shares = np.linspace(0, 1, 30)
    lightness = colours.to_oklab(colours.bivariate(shares, shares))[:, 0]
    assert (np.diff(lightness) < 0).all()  # more is darker


def test_unique_variance_is_blue_in_early_and_vermilion_in_ventral_cortex(
    data: NSD, voxels: pd.DataFrame
) -> None:
    both = voxels.assign(
        **{"unique z": 0.4 * (voxels["q"] < 0.05), "unique zc": 0.4 * (voxels["q"] < 0.05)}
    )
    figure = brain_maps.figure_of_unique({"low": voxels, "high": both}, data)
    streams = streams_of_pixels()
    picture = drawn(figure)
    first = near(picture, colours.FIRST)
    second = near(picture, colours.SECOND)
    assert 0.5 < first[streams == 1].mean() and first[streams == 5].mean() < 0.05
    assert 0.5 < second[streams == 5].mean() and second[streams == 1].mean() < 0.05
    assert 0.6 < near(drawn(figure, 1), colours.BOTH)[np.isin(streams, (1, 5))].mean()
    assert {"low", "high", "only z", "only zc"} <= set(texts(figure))
    share = 100 * (voxels["streams"] == "early").sum() / (voxels["q"] < 0.05).sum()
    assert any(f"z more in {share:.0f} %" in text for text in texts(figure))


def test_a_model_of_one_space_has_no_unique_variance(data: NSD, voxels: pd.DataFrame) -> None:
    with pytest.raises(
        PhospheneError, match="panel 'low' has 1 columns 'unique SPACE', expected two"
    ):
        brain_maps.figure_of_unique({"low": voxels.drop(columns="unique zc")}, data)


# ---- best layer
# --------------------------------------------------------------------------------------------------


def layers(voxels: pd.DataFrame, margin: float) -> dict[str, pd.DataFrame]:
    """Layer "down0" is best in early, "mid" in ventral cortex, by a margin; "up0" nowhere."""
    owners = {"down0": "early", "mid": "ventral", "up0": "nowhere"}
    return {
        name: voxels.assign(r=0.5 + margin * (voxels["streams"] == owner))
        for name, owner in owners.items()
    }


def test_best_layers_and_margins_are_those_planted(voxels: pd.DataFrame) -> None:
    tables = layers(voxels, 0.1)
    tables["up0"].loc[3, "r"] = np.nan  # not known for one layer: no best one
    found = brain_maps.best_layer(tables)
    early = voxels["streams"] == "early"
    ventral = voxels["streams"] == "ventral"
    assert (found["layer"][early] == "down0").all() and (found["layer"][ventral] == "mid").all()
    np.testing.assert_allclose(found["margin"][early | ventral], 0.1)
    assert np.isnan(found["margin"][3]) and np.isnan(found["q"][3])
    assert (found["margin"][~(early | ventral)].drop(3) == 0).all()
    with pytest.raises(PhospheneError, match="layer 'mid' has other voxels than the first"):
        brain_maps.best_layer({**tables, "mid": tables["mid"][::-1]})


def test_best_layers_have_their_colours_and_pale_ones_where_the_margin_is_small(
    data: NSD, voxels: pd.DataFrame
) -> None:
    maps = {"early steps": layers(voxels, 0.1), "late steps": layers(voxels, 0.001)}
    figure = brain_maps.figure_of_best(maps, data, Look(top=0.1))
    streams = streams_of_pixels()
    own = colours.palette(3)
    for label, colour in ((1, own[0]), (5, own[1])):
        assert 0.5 < near(drawn(figure), colour)[streams == label].mean()
        assert near(drawn(figure), colour)[np.isin(streams, (6, 7))].mean() < 0.1
        assert not near(drawn(figure, 1), colour).any()
        pale = colours.categorical(np.array(0), np.array(0.01), (colour,))
        assert 0.5 < near(drawn(figure, 1), pale)[streams == label].mean()
    assert not near(drawn(figure), own[2]).any()
    share = 100 * (voxels["streams"] == "early").sum() / (voxels["q"] < 0.05).sum()
    said = texts(figure)
    assert {"down0", "mid", "up0", "early steps", "late steps"} <= set(said) and said.count(
        f"{share:.0f} %"
    ) >= 2


def test_layers_that_differ_between_panels_are_named(data: NSD, voxels: pd.DataFrame) -> None:
    tables = layers(voxels, 0.1)
    with pytest.raises(PhospheneError, match="panel 'late' has layers down0, mid; expected"):
        brain_maps.figure_of_best(
            {"early": tables, "late": {k: tables[k] for k in ("down0", "mid")}}, data
        )


# ---- a cortex that can be turned, and narrow pages
# -----------------------------------------------------------------


def test_a_cortex_to_turn_says_what_the_flat_map_says(data: NSD, voxels: pd.DataFrame) -> None:
    transforms = brain_maps.transforms_of(data)
    assert transforms is not None
    on = surface.Cortex(read_transforms(transforms))
    flat = FlatGround(read_transforms(transforms))
    labels = np.concatenate(
        [
            atlas.draw_regions(load_surf_mesh(fetch_surf_fsaverage()[f"white_{side}"]).coordinates)[
                "streams"
            ]
            for side in SIDES.values()
        ]
    )
    shown = panels.of_accuracy({"z": voxels}, on, data, Look(top=0.8))
    assert shown.top == panels.of_accuracy({"z": voxels}, flat, data, Look(top=0.8)).top
    one = surface.turned("subj01", shown, shown.panels[0], "z", (["r"], surface.Legend("r")))
    full = near(one.colours, colours.ACCURACY[-1]) & one.there
    assert (
        full.shape == (2 * N,) and 0.7 < full[labels == 1].mean() and 0.7 < full[labels == 5].mean()
    )
    assert full[labels == 0].mean() < 0.02 and np.nanmax(one.values["r"]) == pytest.approx(0.8)
    best = panels.of_best(
        {"late": brain_maps.best_layer(layers(voxels, 0.1))},
        ["down0", "mid", "up0"],
        on,
        data,
        Look(top=0.1),
    )
    own = colours.palette(3)
    found = best.colour(best.panels[0].pictures)
    assert (
        0.7 < near(found, own[0])[labels == 1].mean()
        and 0.7 < near(found, own[1])[labels == 5].mean()
    )


def test_a_difference_is_blue_where_the_first_is_better_and_vermilion_where_the_second_is(
    data: NSD, voxels: pd.DataFrame
) -> None:
    transforms = brain_maps.transforms_of(data)
    assert transforms is not None
    early = voxels["streams"] == "early"
    pair = (
        voxels.assign(r=0.4 * early, q=np.where(early, 0, 0.9)),
        voxels.assign(r=0.4 * (voxels["q"] < 0.05) * ~early),
    )
    on = FlatGround(read_transforms(transforms))
    shown = panels.of_difference("z less c", pair, on, data, Look(top=0.4))
    picture = shown.colour(shown.panels[0].pictures)
    streams = streams_of_pixels()
    assert 0.5 < near(picture, colours.DIVERGING[-1])[streams == 1].mean()
    assert 0.5 < near(picture, colours.DIVERGING[0])[streams == 5].mean()
    lightness = colours.to_oklab(colours.diverging(np.array([-1, -0.5, 0, 0.5, 1.0])))[:, 0]
    assert lightness[0] < lightness[1] < lightness[2] > lightness[3] > lightness[4]


@pytest.mark.parametrize("bare", [True, False])
def test_on_a_narrow_page_everything_stands_below_each_other(
    data: NSD, voxels: pd.DataFrame, bare: bool
) -> None:
    look = Look("A title", width=4.6, bare=bare)
    for figure in (
        brain_maps.figure_of_accuracy({"z": voxels, "c": voxels}, data, look),
        brain_maps.figure_of_unique({"low": voxels, "high": voxels}, data, look=look),
        brain_maps.figure_of_best(
            {"early (step 4)": layers(voxels, 0.1), "late": layers(voxels, 0.1)}, data, look
        ),
    ):
        assert figure.get_figwidth() == pytest.approx(4.6) and look.width < NARROW
        first, second = (axes.get_position() for axes in figure.axes[:2])
        assert first.x0 == pytest.approx(second.x0) and first.y0 > second.y1
        figure.canvas.draw()
        for text in [
            *figure.texts,
            *(t for axes in figure.axes for t in axes.texts if not t.get_clip_on()),
        ]:
            extent = text.get_window_extent()
            assert (
                0 <= extent.x0
                and extent.x1 <= figure.bbox.width
                and 0 <= extent.y0
                and extent.y1 <= figure.bbox.height
            )
        said = texts(figure)
        assert ("A title" in said) is not bare and any(
            "test pictures" in text for text in said
        ) is not bare


# ---- colours and places on the page
# --------------------------------------------------------------------------------

# What readers without red or green receptors see (Machado et al. 2009, severity 1), on linear RGB
SIGHTS = [
    np.eye(3),
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
]


@pytest.mark.parametrize("sight", SIGHTS)
def test_colour_blind_readers_can_tell_colours_apart(sight: Any) -> None:
    palettes = [colours.palette(n) for n in range(2, 10)]
    for palette in (*palettes, (colours.NEITHER, colours.FIRST, colours.SECOND, colours.BOTH)):
        seen = np.array([colours.rgb(colour) for colour in palette])
        linear = np.clip(
            np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)
            @ np.array(sight).T,
            0,
            1,
        )
        lab = colours.to_oklab(
            np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        )
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(lab), 1)]
        assert len(set(palette)) == len(palette) and apart.min() > 0.14
    with pytest.raises(PhospheneError, match="found 10, expected at most 9"):
        colours.palette(10)


def test_oklab_there_and_back() -> None:
    some = np.random.default_rng(1).uniform(size=(100, 3))
    np.testing.assert_allclose(colours.from_oklab(colours.to_oklab(some)), some, atol=1e-6)
    # white, by definition
    np.testing.assert_allclose(colours.to_oklab(np.ones(3)), [1, 0, 0], atol=1e-3)


def test_three_panels_stand_side_by_side_and_three_wide_ones_above_each_other() -> None:
    assert (
        layout(3, 1.4, 6.0)[0] == 3 and layout(3, 6.0, 6.0)[0] == 1 and layout(4, 1.4, 6.0)[0] == 2
    )
