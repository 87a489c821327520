"""Flat maps: sampled where the transforms say, carried to the right vertices, and slices when there
are none.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import load_surf_mesh

from phosphene.data import atlas
from phosphene.data.simulated.brain import draw_anatomy
from phosphene.data.simulated.simulate import simulate
from phosphene.data.simulated.writing import write_mgz
from phosphene.errors import PhospheneError
from phosphene.maps import flatmap

N = 10242
SHAPE = (6, 7, 8)
REGIONS = {"early": 1, "ventral": 5, "parietal": 7}
SIDES = {"lh": "left", "rh": "right"}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ppdata/subj01 of a small simulated subject."""
    root = simulate(
        tmp_path_factory.mktemp("flat") / "nsd",
        images_shared=4,
        images_own=8,
        sessions=3,
        voxel_size=8.0,
        picture_size=32,
    )
    return root / "nsddata" / "ppdata" / "subj01"


def volume(subject: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(subject / "func1pt8mm" / f"{name}.nii.gz").dataobj, float)


def write(
    folder: Path, points: np.ndarray, nearest: np.ndarray | None = None, grid: str = "func1pt8"
) -> Path:
    """Write transforms in which all depths of a hemisphere lie at `points` (1-based), shape (3, n,
    3) or (n, 3).
    """
    layers = np.broadcast_to(points, (3, *points.shape[-2:]))
    for hemisphere in SIDES:
        for depth, layer in enumerate(layers, start=1):
            write_mgz(folder / f"{hemisphere}.{grid}-to-layerB{depth}.mgz", layer)
        index = np.arange(N) % layers.shape[1] + 1 if nearest is None else nearest
        write_mgz(folder / f"{hemisphere}.white-to-fsaverage.mgz", index)
    return folder


def sampled(folder: Path, values: np.ndarray, points: Any, kind: Any = "values") -> np.ndarray:
    transforms = flatmap.read_transforms(write(folder, np.asarray(points, float)))
    return flatmap.to_native(values, transforms, kind)["lh"]


# ---- from voxels to the subject's surface
# --------------------------------------------------------------------------


def test_a_linear_volume_gives_its_function_at_every_vertex(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    # 1-based: from the centre of the first voxel to that of the last
    points = draw.uniform(1, SHAPE, (3, 50, 3))
    x, y, z = np.indices(SHAPE) + 1.0
    values = sampled(tmp_path, 2 * x - 3 * y + 0.5 * z + 7, points)
    expected = (points @ [2, -3, 0.5] + 7).mean(0)
    np.testing.assert_allclose(values, expected, atol=1e-5)  # the files are float32


def test_the_first_voxel_is_1_and_both_ends_of_the_grid_count(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=SHAPE)
    points = [[1, 1, 1], SHAPE, [3, 2, 5], [0.9, 1, 1], [1, 1, 8.1]]
    found = sampled(tmp_path, values, points)
    np.testing.assert_allclose(
        found, [values[0, 0, 0], values[-1, -1, -1], values[2, 1, 4], np.nan, np.nan]
    )


def test_9999_anywhere_in_a_coordinate_is_no_value_at_that_depth(tmp_path: Path) -> None:
    points = np.full((3, 2, 3), 2.0)
    points[:, 0, 1] = 9999
    points[0, 1] = (1, 2, 3)
    points[1, 1] = (9999, 2, 3)
    points[2, 1] = (3, 2, 3)
    x, _, _ = np.indices(SHAPE) + 1.0
    # the mean of depths 1 and 3
    np.testing.assert_allclose(sampled(tmp_path, x, points), [np.nan, 2.0])
    # three depths differ: the middle one
    assert sampled(tmp_path, x, points, "labels").tolist() == [
        -1,
        -1,
    ]


def test_values_stay_in_their_mask_and_nothing_else_comes_in(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    values = np.full(SHAPE, np.nan)
    values[2:4, 2:5, 3] = draw.uniform(5, 6, (2, 3))
    points = draw.uniform(1, SHAPE, (3, 4000, 3))
    found = sampled(tmp_path, values, points)
    own = np.floor(points - 1 + 0.5).astype(int)
    # (3, 4000): the voxel that the point lies in
    inside = np.isfinite(values[tuple(np.moveaxis(own, -1, 0))])
    assert 20 < inside.any(0).sum() < 4000 and (inside.sum(0) == 1).any()
    np.testing.assert_array_equal(np.isfinite(found), inside.any(0))
    # a zero or NaN from outside would pull it down
    assert 5 <= np.nanmin(found) and np.nanmax(found) <= 6


def test_labels_are_those_of_two_depths_or_of_the_middle(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE)
    labels[:3] = np.array([3, 5, -1])[:, None, None]
    places = np.array(
        [[1, 1, 2], [2, 1, 1], [1, 2, 1], [1, 2, 3], [3, 3, 2], [1, 3, 4]]
    ).T  # x at the three depths
    points = np.stack([places + 0.4, np.full_like(places, 2), np.full_like(places, 3)], axis=-1)
    found = sampled(tmp_path, labels, points, "labels")
    assert found.dtype == np.int64 and found.tolist() == [3, 3, 3, 5, -1, -1]


# ---- to fsaverage
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_fsaverage", [N, 163842])
def test_vertices_of_another_surface_find_their_place(tmp_path: Path, n_fsaverage: int) -> None:
    draw = np.random.default_rng(3)
    n_native = 12000  # so that 9999 occurs as an index, where it is a vertex like any other
    order = draw.integers(1, n_native + 1, n_fsaverage)
    order[:3] = 1, n_native, 9999
    points = draw.uniform(1, SHAPE, (n_native, 3))
    transforms = flatmap.read_transforms(write(tmp_path, points, order, "func1pt0"), "func1mm")
    x, _, _ = np.indices(SHAPE) + 1.0
    native = flatmap.to_native(x, transforms)
    assert native["rh"].shape == (n_native,)
    found = flatmap.to_fsaverage5(native, transforms)["rh"]
    np.testing.assert_allclose(found, points[order[:N] - 1, 0], atol=1e-5)


def test_every_point_of_the_simulated_cortex_is_where_the_anatomy_put_it(subject: Path) -> None:
    anatomy = draw_anatomy(0, "subj01", 8.0)
    millimetres = (
        np.moveaxis(np.indices(anatomy.shape), 0, -1) * 8.0 + anatomy.affine[:3, 3] + anatomy.shift
    )
    transforms = flatmap.read_transforms(subject / "transforms")
    for axis in range(3):
        found = flatmap.to_fsaverage5(
            flatmap.to_native(millimetres[..., axis], transforms), transforms
        )
        for hemisphere, side in SIDES.items():
            pial, white = (
                load_surf_mesh(fetch_surf_fsaverage()[f"{kind}_{side}"])
                for kind in ("pial", "white")
            )
            middle = (pial.coordinates + white.coordinates)[:, axis] / 2
            there = np.isfinite(transforms.layers[hemisphere]).all((0, 2))
            assert there.mean() > 0.2
            np.testing.assert_allclose(found[hemisphere][there], middle[there], atol=1e-3)


def test_early_cortex_is_at_the_back_and_sides_stay_sides(subject: Path) -> None:
    transforms = flatmap.read_transforms(subject / "transforms")
    for prefix in ("", "lh.", "rh."):
        early = volume(subject, f"roi/{prefix}streams") == 1
        found = flatmap.to_fsaverage5(flatmap.to_native(early, transforms, "labels"), transforms)
        for hemisphere, side in SIDES.items():
            points = load_surf_mesh(fetch_surf_fsaverage()[f"white_{side}"]).coordinates
            hits = found[hemisphere] == 1
            if prefix not in ("", f"{hemisphere}."):
                # a voxel of 8 mm at the midline may touch the other side
                assert hits.mean() < 0.005
                continue
            expected = atlas.draw_regions(points)["streams"] == 1
            dice = 2 * (hits & expected).sum() / (hits.sum() + expected.sum())
            assert dice > 0.6 and points[hits, 1].max() < -50
            assert (points[hits, 0].mean() < 0) == (hemisphere == "lh")


# ---- what is wrong is named
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rh.func1pt8-to-layerB2.mgz", "lh.white-to-fsaverage.mgz"])
def test_a_missing_or_damaged_file_is_named(subject: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(subject / "transforms", tmp_path / "transforms"))
    whole = (folder / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100], b"", b"no surface" * 100):
        (folder / name).write_bytes(damaged)
        with pytest.raises(PhospheneError, match=f"{name}: could not be read"):
            flatmap.read_transforms(folder)
    (folder / name).unlink()
    with pytest.raises(PhospheneError, match=f"{name}: no such file"):
        # a part of the transforms is a mistake, not a reason to draw slices
        flatmap.show(np.ones(SHAPE), folder)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("lh.func1pt8-to-layerB1.mgz", np.ones(1), r"shape \(\); expected"),
        (
            "lh.func1pt8-to-layerB1.mgz",
            np.ones((20, 4)),
            r"shape \(20, 4\); expected \(n_vertices, 3\)",
        ),
        (
            "lh.func1pt8-to-layerB3.mgz",
            np.ones((21, 3)),
            r"shape \(21, 3\).*lh.func1pt8-to-layerB1",
        ),
        ("rh.white-to-fsaverage.mgz", np.ones(100), r"shape \(100,\); expected 163842"),
        (
            "rh.white-to-fsaverage.mgz",
            np.full(N, 21),
            "21 to 21; expected whole numbers from 1 to 20",
        ),
        (
            "rh.white-to-fsaverage.mgz",
            np.arange(N) % 20,
            "0 to 19; expected whole numbers from 1 to 20",
        ),
        ("rh.white-to-fsaverage.mgz", np.full(N, 1.5), "expected whole numbers"),
        ("rh.white-to-fsaverage.mgz", np.full(N, np.nan), "expected whole numbers"),
    ],
)
def test_files_that_do_not_fit_are_named(
    tmp_path: Path, name: str, values: np.ndarray, sentence: str
) -> None:
    write_mgz(write(tmp_path, np.ones((20, 3))) / name, values)
    with pytest.raises(PhospheneError, match=f"{name}.*{sentence}"):
        flatmap.read_transforms(tmp_path)


def test_arrays_that_do_not_fit_are_named(tmp_path: Path) -> None:
    transforms = flatmap.read_transforms(write(tmp_path, np.full((20, 3), 2.0)))
    values = {"lh": np.ones(N), "rh": np.ones(N)}
    with pytest.raises(PhospheneError, match="func2mm"):
        flatmap.read_transforms(tmp_path, "func2mm")
    with pytest.raises(PhospheneError, match=r"volume: has shape \(6, 7\)"):
        flatmap.to_native(np.ones((6, 7)), transforms)
    with pytest.raises(PhospheneError, match="kind: unknown kind of volume 'value'"):
        flatmap.to_native(np.ones(SHAPE), transforms, "value")  # type: ignore[arg-type]
    with pytest.raises(PhospheneError, match=r"values: has shape \(163842,\); expected \(10242,\)"):
        flatmap.draw({**values, "rh": np.ones(163842)})
    with pytest.raises(PhospheneError, match=r"V1: has shape \(20,\)"):
        flatmap.draw(values, {"V1": {"lh": np.ones(20), "rh": np.ones(N)}})
    for way in (transforms, None):
        with pytest.raises(PhospheneError, match="V1: has shape"):
            flatmap.show(np.ones(SHAPE), way, {"V1": np.ones((2, 2, 2))})
        with pytest.raises(PhospheneError, match="none of those to draw is finite"):
            flatmap.show(np.full(SHAPE, np.nan), way)


# ---- what is drawn
# -------------------------------------------------------------------------------------------------


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [
        text.get_text() for text in figure.texts
    ]


def pixels(figure: Figure, path: Path) -> np.ndarray:
    figure.savefig(path, dpi=60)
    return matplotlib.image.imread(path)[..., :3]


def coloured(picture: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """Where the map, without the colour bar below it, has a colour: row and column as fractions of
    the figure.
    """
    hit = np.abs(picture - colour).max(-1) < 0.02
    hit[int(0.85 * len(hit)) :] = False
    return np.argwhere(hit) / hit.shape


def test_left_is_left_and_the_back_of_the_head_is_in_the_middle(tmp_path: Path) -> None:
    red = flatmap.Scale(low=0, high=1, colours="bwr")  # 1 is pure red, unlike any grey
    for hemisphere, side in SIDES.items():
        points = load_surf_mesh(fetch_surf_fsaverage()[f"pial_{side}"]).coordinates
        values = {other: np.full(N, np.nan) for other in SIDES}
        values[hemisphere][:] = 1
        column = coloured(pixels(flatmap.draw(values, scale=red), tmp_path / "all.png"), (1, 0, 0))[
            :, 1
        ]
        assert len(column) > 5000 and (
            column.max() < 0.5 if hemisphere == "lh" else column.min() > 0.5
        )
        values[hemisphere][points[:, 1] > -75] = np.nan
        back = coloured(pixels(flatmap.draw(values, scale=red), tmp_path / "back.png"), (1, 0, 0))[
            :, 1
        ]
        assert 100 < len(back) < len(column) / 4 and (np.abs(back - 0.5) < 0.15).all()
        values[hemisphere][:] = np.where(points[:, 2] > 55, 1, np.nan)
        top = coloured(pixels(flatmap.draw(values, scale=red), tmp_path / "top.png"), (1, 0, 0))[
            :, 0
        ]
        assert len(top) > 100 and top.mean() < 0.35


def test_the_flat_map_names_what_it_shows(subject: Path, tmp_path: Path) -> None:
    mask = volume(subject, "brainmask") > 0
    streams = volume(subject, "roi/streams")
    values = np.where(mask, np.random.default_rng(4).uniform(0, 9, mask.shape), np.nan)
    outlines = {"early": streams == 1, "ventral": streams == 5, "nowhere": streams == 99}
    figure = flatmap.show(
        values,
        str(subject / "transforms"),
        outlines,
        "A title",
        flatmap.Scale("noise ceiling, %", 0, 5),
        tmp_path / "map.png",
    )
    shown = texts(figure)
    assert (
        "A title" in shown
        and shown.count("early") == shown.count("ventral") == 2
        and "nowhere" not in shown
    )
    assert figure.axes[1].get_xlabel() == "noise ceiling, %"
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.png"]
    assert matplotlib.image.imread(tmp_path / "map.png").shape[1] == 1760


def test_a_name_stands_in_its_region(tmp_path: Path) -> None:
    points = {
        h: load_surf_mesh(fetch_surf_fsaverage()[f"pial_{side}"]).coordinates
        for h, side in SIDES.items()
    }
    regions = {
        name: {h: atlas.draw_regions(points[h])["streams"] == k for h in SIDES}
        for name, k in REGIONS.items()
    }
    figure = flatmap.draw({h: points[h][:, 1] for h in SIDES}, regions)
    for text in figure.axes[0].texts:
        if text.get_text() in regions:
            (x, y) = text.get_position()
            hemisphere = "lh" if text.get_position()[0] < 0 else "rh"
            mesh, _ = flatmap.flat_mesh(hemisphere)
            nearest = np.argsort(np.hypot(mesh.x - x, mesh.y - y))[:7]
            assert regions[text.get_text()][hemisphere][nearest].all()


def test_a_failed_drawing_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "map.png").write_text("old")
    with pytest.raises(ValueError, match="not supported"):
        flatmap.show(np.ones(SHAPE), None, path=tmp_path / "map.nothing")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="folder.png"):
        flatmap.show(np.ones(SHAPE), None, path=tmp_path / "folder.png")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.png", "map.png"]


def test_without_transforms_there_are_slices_that_say_so(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    values = draw.normal(size=SHAPE)
    region = np.zeros(SHAPE, bool)
    region[1:4, 2:5, 3] = True
    (tmp_path / "absent").mkdir()
    with pytest.warns(UserWarning, match="absent: no surface registration found"):
        figure = flatmap.show(
            values, tmp_path / "absent", {"V1": region, "nowhere": region & False}, "A title"
        )
    shown = texts(figure)
    assert any("No surface registration was found" in text for text in shown)
    assert {"A title", "V1", *(f"z = {z}" for z in range(8))} <= set(
        shown
    ) and "nowhere" not in shown


def test_slices_have_x_to_the_right_and_y_upwards(tmp_path: Path) -> None:
    values = np.full((9, 11, 30), np.nan)
    values[:, :, 4] = values[:, :, 20] = 0
    scale = flatmap.Scale(low=0, high=1, colours="bwr")
    for place, right, up in (
        ((8, 0, 4), True, False),
        ((0, 10, 4), False, True),
        ((8, 10, 20), True, True),
    ):
        one = values.copy()
        one[place] = 1
        figure = flatmap.show(one, None, scale=scale, background=np.ones(one.shape))
        assert [text for text in texts(figure) if text.startswith("z")] == ["z = 4", "z = 20"]
        picture = pixels(figure, tmp_path / "slices.png")
        red = coloured(picture, (1, 0, 0))
        blue = coloured(picture, (0, 0, 1))
        half = blue[(blue[:, 1] < 0.5) == (place[2] == 4)]  # z = 4 is on the left
        assert len(red) > 10 and (red.mean(0)[1] < 0.5) == (place[2] == 4)
        assert (red.mean(0)[1] > half.mean(0)[1]) == right and (
            red.mean(0)[0] < half.mean(0)[0]
        ) == up


def test_a_constant_map_and_one_hemisphere_can_be_drawn(tmp_path: Path) -> None:
    values = {"lh": np.full(N, 3.0), "rh": np.full(N, np.nan)}
    assert pixels(flatmap.draw(values), tmp_path / "map.png").std() > 0.1


def test_values_of_voxels_go_where_the_voxels_lie() -> None:
    voxels = pd.DataFrame({"x": [1, 0], "y": [2, 0], "z": [0, 3]})
    volume = flatmap.to_volume(np.array([7.0, 8.0]), voxels, (2, 3, 4))
    assert volume[1, 2, 0] == 7 and volume[0, 0, 3] == 8 and np.isnan(volume).sum() == 22
    with pytest.raises(
        PhospheneError, match=r"found shape \(1,\), expected one for each of 2 voxels"
    ):
        flatmap.to_volume(np.array([7.0]), voxels, (2, 3, 4))


def test_a_mistyped_folder_and_an_atlas_for_a_mask_are_refused(tmp_path: Path) -> None:
    volume = np.ones((2, 3, 4))
    with pytest.raises(PhospheneError, match="nothere: no such folder"):
        flatmap.show(volume, tmp_path / "nothere")
    with pytest.raises(PhospheneError, match="'early' holds more than 0 and 1"):
        flatmap.show(volume, None, outlines={"early": 5 * volume})
