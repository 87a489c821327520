"""The encoding half in the report: what is said of maps, numbers by region, and the section in a
browser.
"""

from __future__ import annotations

import base64
import gzip
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene.encoding import Model
from phosphene.maps import analyses
from phosphene.maps.surface import Legend, Turned, surface_page
from phosphene.reporting import content as page_content
from phosphene.reporting import encoded, gallery
from phosphene.reporting.encoded import Drawing, Encoded
from phosphene.reporting.encoded_words import by_region, meaning, ordered, words
from phosphene.reporting.page import render
from phosphene.steps import report
from phosphene.steps.encode import Encode, Statistics
from phosphene.steps.report import Report
from phosphene.study import Study
from support.finished import finish
from support.report_example import example

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
SIMULATED = {
    "enabled": True,
    "images_shared": 6,
    "images_own": 20,
    "sessions": 1,
    "repeats": 1,
}
Z = Model.of("z")
C = Model.of("c")
NOISY = Model.of("zc@0.8")
NOISE = [Model.of("z", f"zc@{strength}") for strength in (0.2, 0.5, 0.8)]
LAYERS = [
    Model.of(f"unet/{layer}@0.8/step={step}") for step in (4, 40) for layer in ("down0", "mid")
]


def table(r: dict[str, float], q: float = 0.001, **unique: dict[str, float]) -> pd.DataFrame:
    """Six voxels per region, with the same values."""
    regions = [region for region in r for _ in range(6)]
    places = {"x": range(len(regions)), "y": 0, "z": 0}
    more = {
        f"unique {name.replace('_', '@0.')}": [values[region] for region in regions]
        for name, values in unique.items()
    }
    return pd.DataFrame(
        {**places, "r": [r[region] for region in regions], "q": q, **more, "region": regions}
    )


def rows(model: Model, analysis: str, r: float, **more: float) -> list[dict[str, Any]]:
    usual = {
        "analysis": analysis,
        "model": str(model),
        "ci_low": r - 0.02,
        "ci_high": r + 0.02,
        "r_of_ceiling": r / 0.8,
        "significant": 0.5,
    }
    found = []
    for atlas, regions in (
        ("streams", ("ventral", "early", "elsewhere")),
        ("floc-faces", ("FFA-1", "OFA")),
    ):
        found += [
            {
                **usual,
                "atlas": atlas,
                "region": region,
                "n_voxels": 10 + k,
                "r": r - 0.1 * k,
                **more,
            }
            for k, region in enumerate(regions)
        ]
    return found


# Names and words


def test_panels_are_named_in_words_that_depend_on_all_that_is_planned() -> None:
    assert list(analyses.panel_names("noise", NOISE).values()) == [
        "low noise (0.2)",
        "medium noise (0.5)",
        "high noise (0.8)",
    ]
    steps = [Model.of("z", f"zc@0.8/step={step}") for step in (20, 4)]
    assert list(analyses.panel_names("steps", steps).values()) == [
        "late (step 20)",
        "early (step 4)",
    ]
    assert set(analyses.panel_names("layers", LAYERS).values()) == {
        "early (step 4)",
        "late (step 40)",
    }
    four = [Model.of("z", f"zc@0.{k}") for k in range(1, 5)]
    assert list(analyses.panel_names("noise", four).values()) == ["0.1", "0.2", "0.3", "0.4"]
    assert list(analyses.panel_names("features", [Z, C, NOISY]).values()) == [
        "z, how it looked",
        "c, what it was",
        "zc, both (noise 0.8)",
    ]


def test_the_caption_says_which_part_each_feature_predicts_best() -> None:
    tables = {
        Z: table({"early": 0.5, "ventral": 0.2, "elsewhere": 0.9}),
        C: table({"early": -0.0001, "ventral": 0.3}),
    }
    said, alt = words("features", analyses.panel_names("features", [Z, C]), tables)
    assert said == "z predicts early cortex best (mean r 0.50) and c ventral cortex (mean r 0.30)."
    assert "early 0.50, ventral 0.20." in alt and "early 0.00" in alt and "elsewhere" not in alt
    assert "100 % of voxels significant" in alt


def test_the_caption_of_joint_models_says_what_only_one_explains() -> None:
    first = table(
        {"early": 0.5, "ventral": 0.2},
        z={"early": 0.01, "ventral": 0.0},
        zc_2={"early": 0.0, "ventral": 0.02},
    )
    last = table(
        {"early": 0.5, "ventral": 0.2},
        z={"early": 0.04, "ventral": 0.05},
        zc_8={"early": 0.06, "ventral": 0.02},
    )
    tables = {NOISE[0]: first, NOISE[2]: last}
    said, alt = words("noise", analyses.panel_names("noise", NOISE), tables)
    assert said == (
        "As mean R² of a region, only z explains up to 0.010 at noise 0.2 (early cortex) and "
        "0.050 at noise 0.8 "
        "(ventral cortex); only zc explains up to 0.020 at noise 0.2 (ventral cortex) and 0.060 "
        "at noise 0.8 (early "
        "cortex)."
    )
    assert (
        "high noise (0.8): only z early 0.040, ventral 0.050; only zc early 0.060, ventral 0.020"
        in alt
    )


def test_the_caption_of_noise_says_what_its_control_means() -> None:
    own = Model.of("z", "zc:own-noise@0.8")
    names = analyses.panel_names("noise", [*NOISE, own])
    assert names[own] == "separate noise: high (0.8)"
    r = {"early": 0.5, "ventral": 0.2}
    shared = table(r, z={"early": 0.04, "ventral": 0.05}, zc_8={"early": 0, "ventral": 0.06})
    control = shared.drop(columns="unique zc@0.8").assign(**{"unique zc:own-noise@0.8": 0.004})
    tables = {NOISE[2]: shared, own: control}
    said, alt = words("noise", names, tables)
    assert said.endswith(
        "; with separate noise for each picture, zc alone explains at most 0.004 at noise 0.8."
    )
    assert "only zc explains up to 0.060 at noise 0.8 (ventral cortex)" in said
    assert "separate noise: high (0.8): only z early 0.040" in alt
    assert (
        "reads far less of it" in meaning("noise", tables)
        and meaning("noise", {NOISE[2]: shared}) == ""
    )


def test_the_caption_of_text_names_its_references() -> None:
    models = [
        Model.of("z", "zc:other@0.8"),
        Model.of("z", "zc:empty@0.8"),
        Model.of("zc:empty@0.8", "zc@0.8"),
    ]
    names = analyses.panel_names("text", models)
    tables = {
        model: table({"early": 0.5, "ventral": 0.2}).assign(
            **{
                f"unique {model.spaces[0]}": 0.1,
                f"unique {model.spaces[1]}": [k / 100] * 6 + [(k + 1) / 100] * 6,
            }
        )
        for k, model in enumerate(models)
    }
    said, alt = words("text", names, tables)
    assert said == (
        "As mean R² of a region, zc adds at most 0.010 in ventral cortex (another picture’s text, "
        "over z), 0.020 in "
        "ventral cortex (empty text, over z) and 0.030 in ventral cortex (zc over zc with empty "
        "text)."
    )
    assert "zc over zc with empty text: adds early 0.020, ventral 0.030" in alt
    assert analyses.pair_of("text", tables) == ("the reference", "zc")
    assert "may be called semantic" in meaning("text", tables)
    nowhere = {models[0]: tables[models[0]].assign(**{f"unique {models[0].spaces[1]}": np.nan})}
    assert words("text", names, nowhere)[0] == "As mean R² of a region, zc adds at most nothing."


def test_the_caption_of_layers_says_who_wins() -> None:
    good = {"early": 0.5, "ventral": 0.1}
    bad = {"early": 0.1, "ventral": 0.4}
    tables = dict(zip(LAYERS, (table(good), table(bad), table(bad), table(good)), strict=True))
    tables[LAYERS[0]].loc[11, "r"] = 0.45  # one ventral voxel more for down0
    tables[LAYERS[3]].loc[11, "r"] = 0.45
    said, alt = words("layers", analyses.panel_names("layers", LAYERS), tables)
    assert said == "Best for most voxels: down0 at step 4 (58 %) and mid at step 40 (58 %)."
    assert (
        "late (step 40): mid 58 %, down0 42 %; most often best in early mid, ventral down0" in alt
    )
    assert words(
        "layers",
        analyses.panel_names("layers", LAYERS),
        {m: t.assign(q=0.9) for m, t in tables.items()},
    )[1]


def test_only_steps_with_all_their_layers_are_drawn() -> None:
    names = analyses.panel_names("layers", LAYERS)
    tables = {model: table({"early": 0.5}) for model in LAYERS[:3]}
    assert list(analyses.steps_of(names, tables)) == ["early (step 4)"]
    assert analyses.steps_of(names, {LAYERS[0]: tables[LAYERS[0]]}) == {}
    assert analyses.figure("layers", names, {LAYERS[0]: tables[LAYERS[0]]}, None, None) is None  # type: ignore[arg-type]


# Numbers by region


def test_regions_stand_in_the_order_of_their_atlas() -> None:
    assert ordered(["ventral", "mine", "elsewhere", "early"]) == [
        "early",
        "ventral",
        "mine",
        "elsewhere",
    ]
    assert ordered(["FFA-1", "OFA"], "floc-faces") == ["OFA", "FFA-1"]


def test_numbers_by_region_are_those_of_the_table() -> None:
    found = by_region(
        pd.DataFrame(rows(Z, "features", 0.5) + rows(C, "features", 0.4)),
        {Z: "z in words", C: "c in words"},
    )
    streams, faces = found
    assert (streams.atlas, faces.atlas) == ("streams", "floc-faces")
    assert streams.columns == [("early", 11), ("ventral", 10), ("elsewhere", 12)]
    titles = [title for title, _ in streams.groups]
    assert len(titles) == 3 and "Unique" not in " ".join(titles)
    (z, cells), (_, others) = streams.groups[0][1]
    assert z == "z in words" and [c.text for c in cells] == ["0.40", "0.50", "0.30"]
    assert (
        cells[0].interval == "0.48 to 0.52"
        and [c.best for c in cells] == [True, True, False]
        and not any(c.best for c in others)
    )
    assert [c.text for c in streams.groups[1][1][0][1]] == ["50"] * 3
    assert [c.text for c in streams.groups[2][1][1][1]] == ["0.50"] * 3


def test_unique_variance_has_a_line_for_every_space_and_layers_one_group_for_every_step() -> None:
    some = pd.DataFrame(
        rows(
            NOISE[0],
            "noise",
            0.5,
            **{
                "unique z": 0.1,
                "unique zc@0.2": 0.02,
                "ci_low unique z": 0.05,
                "ci_high unique z": 0.15,
            },
        )
        + rows(NOISE[2], "noise", 0.5, **{"unique z": 0.2, "unique zc@0.8": -0.0001})
    )
    groups = dict(by_region(some, {NOISE[0]: "low", NOISE[2]: "high"})[0].groups)
    lines = groups["Unique variance: R² lost without the space"]
    assert [cells[0].interval for _, cells in lines] == ["0.050 to 0.150", "", "", ""]
    assert [(name, cells[0].text) for name, cells in lines] == [
        ("z, low", "0.100"),
        ("zc, low", "0.020"),
        ("z, high", "0.200"),
        ("zc, high", "0.000"),
    ]
    layers = pd.DataFrame(
        [row for k, model in enumerate(LAYERS) for row in rows(model, "layers", 0.5 + 0.01 * k)]
    )
    first, second = by_region(layers, analyses.panel_names("layers", LAYERS))[0].groups
    assert first[0].endswith("early (step 4)") and [name for name, _ in second[1]] == [
        "down0",
        "mid",
    ]
    assert [cells[0].best for _, cells in second[1]] == [False, True]
    assert by_region(pd.DataFrame(columns=["analysis", "model", "atlas", "region"]), {}) == []


# What the page is made of


def test_data_that_are_no_scans_have_no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.encode, "planned", lambda _: pytest.fail("models were planned"))
    monkeypatch.setattr(report, "dataset", lambda *_: object())
    step = Report(Study())
    vars(step)["finished_options"] = {}
    assert step.models("subj01") == [] and step.fitted("subj01") == []
    assert report._encoded(step) == []
    assert encoded.spin("", [], {}) == "" and encoded.megabytes([], "") == 0


def test_finished_models_are_part_of_what_the_page_is_made_from(tmp_path: Path) -> None:
    values = {"data": {"root": "data", "simulate": SIMULATED}, "encode": {"analyses": ["features"]}}
    study = Study.from_dict(values, root=tmp_path / "runs", folder=tmp_path)
    model = Encode(study, "subj01", Z)
    statistics = Statistics(study, "subj01", Z)

    always = Report(study).recipe.inputs

    def inputs() -> dict[str, str]:
        """Those of the page that the encoding half gives."""
        found = Report(study).recipe.inputs
        return {name: hash for name, hash in found.items() if name not in always}

    finish(model)
    before = inputs()
    transforms = "subj01-transforms"
    assert before["subj01-encode-z"] == model.hash and transforms in before
    assert "subj01-statistics-z" not in before
    finish(statistics)
    assert inputs() == before | {"subj01-statistics-z": statistics.hash}
    next(study.data_root.rglob("lh.func1pt8-to-layerB1.mgz")).write_bytes(b"another")
    assert inputs()[transforms] != before[transforms]


def test_maps_take_their_share_of_the_page_from_the_gallery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[float] = []
    monkeypatch.setattr(gallery, "fill", lambda album, scores, budget: given.append(budget) or [])
    monkeypatch.setattr(page_content, "_examples", lambda *_: [])
    bare = replace(example(n=12), examples={})
    albums = {s: SimpleNamespace(images=np.arange(4)) for s in bare.subjects}
    for shown in (bare, replace(bare, surface="x" * 3_000_000)):
        page_content.with_pictures(shown, albums)  # type: ignore[arg-type]
    assert given == pytest.approx([gallery.GALLERY_MB, gallery.GALLERY_MB - 3])


# The section


def planted(subjects: list[str]) -> list[Encoded]:
    numbers = by_region(
        pd.DataFrame(rows(Z, "features", 0.5) + rows(C, "features", 0.4)), {Z: "z", C: "c"}
    )
    joint = by_region(
        pd.DataFrame(rows(NOISE[0], "noise", 0.5, **{"unique z": 0.1})),
        {NOISE[0]: "low noise (0.2)"},
    )
    wide, narrow = (gallery.url(np.full((h, w, 3), 230, np.uint8)) for h, w in ((60, 90), (90, 30)))
    drawings = [
        Drawing(name, wide, narrow, f"Flat map, {name}.", f"What is seen in {name}.")
        for name in encoded.TITLES
    ]
    tables = {"features": numbers, "noise": joint, "text": [], "steps": [], "layers": []}
    return [Encoded(s, drawings, tables, 2 * k, [], "On slices.") for k, s in enumerate(subjects)]


@pytest.fixture(scope="module")
def content() -> Any:
    n = 2 * 10242
    one = Turned(
        "subj01",
        "r of z",
        np.ones((n, 3)),
        np.ones(n, bool),
        {"r": np.full(n, 0.5)},
        Legend("r", ("#fff", "#000")),
    )
    page = surface_page("example", [one], {"subj01": {"early": np.zeros(n, bool)}})
    packed = base64.b64encode(gzip.compress(page.encode(), 6)).decode()
    return replace(
        example(["subj01", "subj02"], n=12), encoded=planted(["subj01", "subj02"]), surface=packed
    )


def test_without_encodings_nothing_of_them_is_on_the_page(content: Any) -> None:
    page = render(replace(content, encoded=[], surface=""))
    assert not re.search(r'id="brain"|#brain|surface|class="map|DecompressionStream', page)


def test_the_section_holds_figures_captions_and_numbers(content: Any) -> None:
    page = render(content)
    section = page[page.index('<section id="brain"') :]
    section = section[: section.index("</section>")]
    for drawing in content.encoded[0].drawings:
        # wide and narrow, two subjects
        assert section.count(drawing.alt) == 4 and section.count(drawing.caption) == 2
    assert section.count("On slices.") == 2
    assert section.count("<iframe") == 1 and 'sandbox="allow-scripts"' in section
    assert "2 of the study’s models are not fitted yet" in section
    assert section.index("<table") < section.index("<details>")  # the streams stand open
    assert (
        "Numbers by region: floc-faces" in section
        and "Numbers by region: streams, floc-faces" in section
    )
    assert "The cortex, to turn" not in render(replace(content, surface=""))


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_section_fits_can_be_read_and_unpacks_the_cortex_only_when_asked(
    content: Any, tmp_path: Any
) -> None:
    api = pytest.importorskip("playwright.sync_api")
    from support.contrasts import CONTRASTS

    path = tmp_path / "report.html"
    said = []
    path.write_text(render(content))
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        for width, scheme in ((390, "dark"), (1280, "light")):
            tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
            tab.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.on(
                "request",
                lambda r: (
                    said.append(r.url)
                    if r.url.split(":")[0] not in ("file", "data", "blob")
                    else None
                ),
            )
            tab.goto(path.as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert [text for ratio, text in tab.evaluate(CONTRASTS) if ratio < 4.5] == []
            shown = tab.locator(".map img:visible").evaluate_all(
                "some => some.map(i => i.naturalHeight > i.naturalWidth)"
            )
            assert shown == [width < 800] * 2 * len(encoded.TITLES)
        assert len(tab.frames) == 2 and not tab.locator("iframe").is_visible()
        tab.click("#surface button")
        frame = tab.frame_locator("#surface iframe")
        frame.locator("#plot canvas").first.wait_for()
        assert frame.locator("html").get_attribute("data-theme") == "light"
        browser.close()
    assert [text for text in said if "WebGL" not in text and "GPU stall" not in text] == []
