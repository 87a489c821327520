"""Maps on a subject of a pycortex store: what pycortex is given, what is refused, and a real store
if there is one.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene import maps
from phosphene.errors import PhospheneError
from phosphene.maps import Look, colours, flatmap
from phosphene.maps.flatmap import Pycortex, draw_pycortex, pycortex_ground

SHAPE = (8, 6, 3)  # x, y, z
PLACE = Pycortex("S1", "fullhead")


class Transforms:
    def __dir__(self) -> list[str]:
        return ["fullhead"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """pycortex as far as it is used: its flat map is a plane of the scan, x to the right, y
    upwards.
    """

    def picture(
        data: Any, height: int, thick: int = 0, sampler: str = ""
    ) -> tuple[np.ndarray, tuple[float, ...]]:
        flat = (
            data.volume[1]
            if hasattr(data, "volume")
            else np.where(np.arange(8) < 7, 1.0, np.nan) * np.ones((6, 1))
        )
        return np.repeat(np.repeat(flat[::-1], 10, 0), 10, 1), (-4.0, 4.0, 0.0, 6.0)

    cortex = ModuleType("cortex")
    quickflat = ModuleType("cortex.quickflat")
    quickflat.utils = SimpleNamespace(make_flatmap_image=picture)  # type: ignore[attr-defined]
    cortex.quickflat = quickflat  # type: ignore[attr-defined]
    cortex.Volume = lambda volume, subject, transform: SimpleNamespace(volume=volume)  # type: ignore[attr-defined]
    cortex.db = SimpleNamespace(  # type: ignore[attr-defined]
        filestore="/my/store",
        subjects={"S1": SimpleNamespace(transforms=Transforms())},
        get_xfm=lambda subject, transform: SimpleNamespace(shape=SHAPE[::-1]),
        get_surfinfo=lambda subject, kind: SimpleNamespace(),
    )
    monkeypatch.setitem(sys.modules, "cortex", cortex)
    monkeypatch.setitem(sys.modules, "cortex.quickflat", quickflat)
    pycortex_ground.cache_clear()
    yield cortex
    pycortex_ground.cache_clear()


def test_a_value_appears_where_its_voxel_lies(fake: Any) -> None:
    volume = np.full(SHAPE, np.nan)
    volume[2, 4, 1] = 7.0
    ground = pycortex_ground(PLACE)
    found = ground.values(volume)
    assert found.shape == (60, 80) and ground.extent == (-4, 4, 0, 6)
    rows, columns = np.nonzero(np.isfinite(found))
    # y = 4 is the second from above
    assert set(rows // 10) == {1} and set(columns // 10) == {2} and found[15, 25] == 7
    assert (ground.labels(volume) == np.nan_to_num(found)).all()
    assert set(np.unique(ground.shade()[..., 3][0])) == {0, 1}  # the last column is no cortex


def test_the_figures_of_encoding_are_painted_on_it(fake: Any) -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(range(7), range(6), indexing="ij"))
    table = pd.DataFrame({"x": x, "y": y, "z": 1, "r": 0.5, "q": np.where(x < 3, 0.001, 0.9)})
    trials = pd.DataFrame({"image": [0, 1], "split": ["test", "test"]})
    data = SimpleNamespace(
        shape=SHAPE,
        affine=np.eye(4),
        rois=("early",),
        trials=trials,
        select=lambda name: np.array([[k, 2, 1] for k in range(1, 3)]),
    )
    figure = maps.figure_of_accuracy({"z": table}, data, Look(transforms=PLACE, top=0.5))
    picture = np.asarray(figure.axes[0].images[0].get_array())
    full = np.abs(picture[..., :3] - colours.rgb(colours.ACCURACY[-1])).max(-1) < 0.03
    assert full[:, :30].all() and not full[:, 30:].any() and (picture[:, 70:, 3] == 0).all()
    said = [
        text.get_text()
        for text in [*figure.texts, *(t for axes in figure.axes for t in axes.texts)]
    ]
    assert said.count("early") == 1 and any("S1, from pycortex" in text for text in said)


def test_show_draws_on_it_too(fake: Any, tmp_path: Any) -> None:
    volume = np.full(SHAPE, np.nan)
    volume[1:4, :, 1] = 1.0
    mask = np.zeros(SHAPE, bool)
    mask[1, 1:3, 1] = True
    flatmap.show(volume, PLACE, {"mine": mask}, "A title", path=tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_what_is_not_there_is_named(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PhospheneError, match=r"/my/store: holds no subject 'S2', only S1; import it"
    ):
        pycortex_ground(Pycortex("S2", "fullhead"))
    with pytest.raises(
        PhospheneError, match=r"subject 'S1' has no transform 'nsd', only fullhead; align"
    ):
        pycortex_ground(Pycortex("S1", "nsd"))
    with pytest.raises(
        PhospheneError,
        match=r"shape \(3, 6, 8\); expected \(8, 6, 3\), that of transform 'fullhead'",
    ):
        draw_pycortex(np.ones(SHAPE[::-1]), PLACE)
    monkeypatch.setitem(sys.modules, "cortex", None)
    with pytest.raises(
        PhospheneError, match=r"pycortex could not be imported.*pip install 'phosphene\[flatmaps\]'"
    ):
        pycortex_ground(Pycortex("S1", "other"))


def test_a_real_store() -> None:
    cortex = pytest.importorskip("cortex", reason="pycortex is an extra")
    if "S1" not in cortex.db.subjects:
        pytest.skip("the example subject of pycortex is not in the store")
    ground = pycortex_ground(PLACE)
    x = np.broadcast_to(np.arange(ground.shape[0], dtype=float)[:, None, None], ground.shape)
    found = ground.values(x)
    half = found.shape[1] // 2  # the hemispheres lie on two sides of the scan, and of the page
    assert abs(np.nanmean(found[:, :half]) - np.nanmean(found[:, half:])) > 0.2 * ground.shape[0]
    assert 0 <= np.nanmin(found) < np.nanmax(found) <= ground.shape[0] - 1
