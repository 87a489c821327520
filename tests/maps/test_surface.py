"""The cortex that can be turned: the page holds what was given, loads nothing, and a browser draws
it.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from typing import Any

import numpy as np
import pytest

from phosphene.errors import PhospheneError
from phosphene.maps import surface
from phosphene.maps.surface import NONE, STEP, UNIT, Legend, Turned, surface_page

N = 10242
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


def planted(
    subject: str = "subj01", name: str = "r of z", colour: tuple[float, float, float] = (1, 0, 0)
) -> Turned:
    """A map with one value, 0.25, on the vertices at the back of both hemispheres."""
    there = np.concatenate([surface._mesh(h)[0][:, 1] < -40 for h in ("lh", "rh")])
    return Turned(
        subject,
        name,
        np.tile(np.array(colour, float), (2 * N, 1)),
        there,
        {"r": np.where(there, 0.25, np.nan)},
        Legend("r", ("#ffffff", "#ff0000"), ("0", "≥ 1")),
    )


@pytest.fixture(scope="module")
def back() -> dict[str, np.ndarray]:
    return {"early": planted().there}


@pytest.fixture(scope="module")
def page(back: dict[str, np.ndarray]) -> str:
    maps = [
        planted(),
        planted(name="r of c", colour=(0, 0, 1)),
        planted("subj02", "r of c", (0, 1, 0)),
    ]
    return surface_page("A <study>", maps, {"subj01": back, "subj02": back})


def held(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_points_faces_values_and_colours_are_held_as_they_were_given(page: str) -> None:
    content = held(page)
    one = planted()
    for k, (side, hemisphere) in enumerate(zip(content["sides"], ("lh", "rh"), strict=True)):
        points, faces = surface._mesh(hemisphere)
        np.testing.assert_allclose(
            unpacked(side["points"], "<i2").reshape(-1, 3) * UNIT, points, atol=UNIT
        )
        np.testing.assert_array_equal(unpacked(side["faces"], "<u2").reshape(-1, 3), faces)
        assert side["name"] == ("left", "right")[k] and np.sign(points[:, 0]).max() == (-1, 1)[k]
    first = content["maps"][0]
    assert (first["subject"], first["name"]) == ("subj01", "r of z")
    values = unpacked(first["values"][0]["data"], "<i2")
    np.testing.assert_allclose(values[one.there] * STEP, 0.25, atol=STEP)
    assert (values[~one.there] == NONE).all() and first["values"][0]["name"] == "r"
    assert (unpacked(first["colours"], "u1").reshape(-1, 3) == (255, 0, 0)).all()
    np.testing.assert_array_equal(unpacked(first["there"], "u1"), one.there)


def test_outlines_run_between_what_is_inside_and_what_is_not(
    page: str, back: dict[str, np.ndarray]
) -> None:
    known = held(page)["regions"]["subj02"]
    assert known["names"] == ["early"]
    np.testing.assert_array_equal(unpacked(known["labels"], "u1"), back["early"])
    for lines in known["lines"]:
        points = unpacked(lines, "<i2").reshape(-1, 2, 3) * UNIT
        assert 50 < len(points) < 1000
        # the border lies at y = -40, within an edge of it
        assert np.abs(points[..., 1] + 40).max() < 6
        assert np.linalg.norm(points[:, 0] - points[:, 1], axis=-1).max() < 10


def test_nothing_is_loaded_and_the_title_is_text(page: str) -> None:
    own = page.replace(surface._plotly(), "")
    assert "Plotly.react" in own and "A &lt;study&gt;" in own and "<study>" not in own
    assert (
        not re.findall(r"(?:src|href)=\"(?!data:)", own)
        and "import(" not in own
        and "fetch(" not in own
    )
    assert "default-src 'none'" in own
    assert len(page) < 3e6


def test_no_map_is_refused_and_a_nilearn_without_plotly_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    with pytest.raises(PhospheneError, match="found no map"):
        surface_page("none", [], {})
    monkeypatch.setattr("nilearn.__file__", str(tmp_path / "__init__.py"))
    surface._plotly.cache_clear()
    with pytest.raises(PhospheneError, match="found no plotly-"):
        surface._plotly()
    surface._plotly.cache_clear()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_draws_the_chosen_map_and_asks_nothing_of_the_network(
    page: str, tmp_path: Any
) -> None:
    api = pytest.importorskip("playwright.sync_api")
    path = tmp_path / "surface.html"
    said = []
    path.write_text(page)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        tab = browser.new_page(viewport={"width": 390, "height": 600})
        tab.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "request",
            lambda r: (
                said.append(r.url) if r.url.split(":")[0] not in ("file", "data", "blob") else None
            ),
        )
        tab.goto(path.as_uri())
        tab.wait_for_selector("#plot canvas")
        shown = "() => document.querySelector('#plot').data.filter(t => t.type === 'mesh3d')"
        vertex = int(np.flatnonzero(planted().there)[0])
        colours = f"({shown})().map(t => t.vertexcolor[{vertex}])"
        assert tab.evaluate(colours)[0] == "rgb(255,0,0)"
        assert tab.evaluate(f"({shown})()[0].text[{vertex}]") == "left · early · r 0.250"
        tab.select_option("[name=map]", label="r of c")
        assert tab.evaluate(colours)[0] == "rgb(0,0,255)"
        tab.select_option("[name=subject]", "subj02")
        assert tab.evaluate(colours)[0] == "rgb(0,255,0)"
        tab.select_option("[name=side]", "1")
        assert tab.evaluate(f"({shown})().map(t => t.visible)") == [False, True]
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert [text for text in said if "WebGL" not in text and "GPU stall" not in text] == []
