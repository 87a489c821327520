"""The report without a browser: which numbers stand where, which pictures are shown, what the page
is made of.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import phosphene
from phosphene.reporting import figures, gallery, tables
from phosphene.reporting.page import render
from phosphene.reporting.tables import headline
from support.report_example import example, scored

STYLE = (Path(phosphene.__file__).parent / "reporting/templates/report.css").read_text()


@pytest.fixture(scope="module")
def one():
    return example()


@pytest.fixture(scope="module")
def four():
    return example(["subj01", "subj02", "subj05", "subj07"], n=12)


def row(metric: str, value: float, **other: object) -> dict[str, object]:
    usual = {
        "subject": "subj01",
        "mode": "zc",
        "source": "brain",
        "preset": "scenes",
        "direction": "takagi2023",
        "selection": "mean",
        "ci_low": value,
        "ci_high": value,
        "p": 0.001,
        "n": 10,
        "samples": 2,
        "better": "higher",
    }
    return usual | {"metric": metric, "value": value} | other


# Numbers


def test_the_headline_is_the_presets_own_rule_in_its_first_direction():
    scores = pd.DataFrame(
        [
            row("judge-early", 0.9),
            row("pixels", 0.7),
            row("judge-early", 0.1, direction="braindiffuser"),
            row("pixels", 0.2, selection="oracle"),
            row("pixels", 0.3, preset="pixel"),
            row("judge-early", 0.5, source="shuffled"),
            row("pixels", 0.5, source="shuffled"),
        ]
    ).assign(kind="whatever people call it")
    table = headline(scores, "scenes")
    assert list(table.columns) == ["judge-early", "pixels", "mean"]
    assert table.loc["zc"].tolist() == pytest.approx([90, 70, 80])
    assert table.loc["zc, shuffled brain", "mean"] == pytest.approx(50)


def test_the_mean_of_the_headline_leaves_out_what_is_no_identification():
    scores = pd.DataFrame(
        [
            row(m, v, preset="mindeye", direction=d, selection="single")
            for m, v, d in (
                ("PixCorr", 0.3, None),
                ("Alex(2)", 0.8, "braindiffuser"),
                ("CLIP", 0.6, "braindiffuser"),
                ("Eff", 0.9, None),
            )
        ]
    )
    assert headline(scores, "mindeye").loc["zc"].to_dict() == pytest.approx(
        {"Alex(2)": 80, "CLIP": 60, "mean": 70}
    )


def test_blocks_never_mix_presets_directions_or_rules():
    scores, _ = scored(["subj01"], ["scenes", "mindeye"], 20)
    found = tables.blocks(scores)
    assert [(b.preset, b.direction) for b in found] == [
        ("scenes", "takagi2023"),
        ("scenes", "braindiffuser"),
        ("mindeye", "braindiffuser"),
    ]
    for block in found:
        own = "mean" if block.preset == "scenes" else "single"
        rows = scores[
            (scores["preset"] == block.preset)
            & (scores["selection"] == own)
            & (scores["mode"] == "c")
        ]
        for (name, _), cell in zip(
            block.columns, next(line for line in block.lines if line.name == "c").cells, strict=True
        ):
            if name != "mean":
                some = rows[
                    (rows["metric"] == name) & rows["direction"].isin([block.direction, None])
                ]
                assert cell.text == tables.number(some["value"].item(), some["kind"].item())
        assert (
            block.preset in block.said and "N = 20" in block.said and block.direction in block.said
        )


def test_the_best_mode_is_bold_and_baselines_never_are():
    same = {
        "preset": "mindeye",
        "direction": None,
        "selection": "single",
        "better": "lower",
        "kind": "distance",
    }
    rows = [
        row("Eff", v, mode=m, source=s, **same)
        for m, s, v in (("z", "brain", 0.8), ("zc", "brain", 0.6), ("zc", "true", 0.1))
    ]
    lines = tables.blocks(pd.DataFrame(rows))[0].lines
    assert [line.cells[0].best for line in lines] == [False, True, False]


def test_means_over_subjects_are_means_with_t_intervals():
    rows = [
        row("pixels", v, subject=s, kind="two-way") for s, v in (("a", 0.7), ("b", 0.8), ("c", 0.9))
    ]
    mean = tables.means(pd.DataFrame(rows)).iloc[0]
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t of 2 degrees of freedom, 97.5 %
    assert (mean["value"], mean["ci_low"], mean["ci_high"]) == pytest.approx(
        (0.8, 0.8 - half, 0.8 + half)
    )
    assert mean["n"] == 10


def test_differences_are_signed_and_bold_only_when_holm_says_so(one):
    pairs, lines = tables.pairs(one.comparisons, "scenes")
    assert pairs == ["z − c", "z − zc", "c − zc"] and len(lines) == 4
    cells = lines[0][1]
    assert [cell.text for cell in cells] == ["−5.0", "−10.0", "−1.0"]
    assert [cell.best for cell in cells] == [True, True, False] and cells[1].p == "p < 0.001"


def test_numbers_as_text():
    assert tables.number(0.98765) == "98.8" and tables.number(-0.01234, "ssim") == "−0.012"
    assert tables.number(float("nan")) == "–" and tables.interval(float("nan"), 0.5) == ""
    assert (
        tables.interval(0.5, 0.6) == "50.0–60.0"
        and tables.interval(-0.1, 0.2, "r") == "−0.100 to 0.200"
    )
    assert tables.p_text(0.0004) == "p < 0.001" and tables.p_text(float("nan")) == ""


# Pictures


def test_examples_come_from_the_best_the_middle_and_the_worst_tenth():
    scores = pd.Series(np.random.default_rng(0).permutation(100) / 100)
    found = gallery.tenths(scores)
    ranks = {
        name: [int((scores > scores[item]).sum()) for item in some] for name, some in found.items()
    }
    assert ranks == {
        "best tenth": [0, 4, 9],
        "middle tenth": [45, 49, 54],
        "worst tenth": [90, 94, 99],
    }


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 25])
def test_examples_of_few_pictures_exist_and_are_never_shown_twice_in_a_tenth(n):
    for some in gallery.tenths(pd.Series(np.arange(n) / n)).values():
        assert 1 <= len(set(some)) == len(some) <= 3 and all(0 <= item < n for item in some)


def test_what_is_shown_runs_from_the_best_to_the_worst():
    scores = pd.Series(np.random.default_rng(1).random(50))
    some = gallery.spread(scores, 50, 7)
    values = scores[some].tolist()
    assert len(some) == 7 and values == sorted(values, reverse=True)
    assert values[0] == scores.max() and values[-1] == scores.min()
    assert gallery.spread(None, 50, 3) == [0, 1, 2]


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_small_pictures_are_kept_to_the_pixel_and_large_ones_shrunk():
    small, large = (
        np.random.default_rng(2).integers(0, 255, (side, side, 3), np.uint8) for side in (64, 512)
    )
    assert (np.asarray(decoded(gallery.url(small))) == small).all()
    assert max(decoded(gallery.url(large)).size) == gallery.THUMBNAIL
    assert decoded(gallery.url(large)).format == "WEBP"


def test_a_gallery_keeps_to_its_budget():
    class Noisy:  # pictures of different sizes, as no codec can shrink them
        images = np.arange(200)

        def show(self, chosen, group=""):
            return [
                gallery.Shown("s", item, item, {"seen": "x" * (10_000 + 500 * (37 * item % 200))})
                for item in chosen
            ]

    shown = gallery.fill(Noisy(), None, 0.5)
    assert 0.3 < gallery.megabytes(shown) <= 0.5
    assert (
        len(gallery.fill(Noisy(), None, 1e-6)) == 1
        and len(gallery.fill(Noisy(), None, 1e6)) == gallery.MOST
    )


# Figures


def test_bars_begin_at_chance_and_end_at_the_numbers(one):
    table = tables.bars(one.scores, "scenes")
    for narrow in (False, True):
        bars = figures.identification(table, narrow).axes[0].patches
        lengths = [bar.get_width() if narrow else bar.get_height() for bar in bars]
        starts = [bar.get_x() if narrow else bar.get_y() for bar in bars]
        assert starts == pytest.approx([50] * len(bars))
        order = [
            v
            for kind in dict.fromkeys(table["kind"])
            for v in table.loc[table["kind"] == kind, "value"]
        ]
        assert lengths == pytest.approx([100 * v - 50 for v in order])


def test_figures_follow_the_page_and_are_the_same_bytes_again(one):
    table = tables.bars(one.scores, "scenes")
    first, again = (
        figures.svg(figures.identification(table), "bars", 'say "it" & < more') for _ in range(2)
    )
    assert first == again
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", first)) - {"none"}
    assert colours and all(colour.startswith("var(--") for colour in colours), colours
    assert (
        'role="img"' in first
        and "&quot;it&quot; &amp; &lt; more" in first
        and "<style" not in first
    )


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        c = rgb(colour)
        return float(
            np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
            @ (0.2126, 0.7152, 0.0722)
        )

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_stand_out_from_the_page(theme):
    block = STYLE[STYLE.index(f"macro {theme}()") :]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block[: block.index("endmacro")]))
    assert all(
        contrast(colours[role], colours["paper"]) >= 3
        for role in ("z", "c", "zc", "shuffled", "true")
    )
    assert all(
        contrast(colours[role], colours["paper"]) >= 4.5
        for role in ("ink", "soft", "fault", "look", "okay")
    )
    if theme == "light":
        assert {role: colours[role] for role in figures.COLOURS} == figures.COLOURS


def seen_by(colour: str, matrix: np.ndarray) -> np.ndarray:
    """Colour as a dichromat sees it (Machado, Oliveira & Fernandes 2009, severity 1), in CIE
    Lab.
    """
    from skimage.color import rgb2lab

    linear = np.where(
        rgb(colour) <= 0.04045, rgb(colour) / 12.92, ((rgb(colour) + 0.055) / 1.055) ** 2.4
    )
    c = np.clip(matrix @ linear, 0, 1)
    return rgb2lab(np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)[None, None])[
        0, 0
    ]


PROTAN = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
DEUTAN = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("matrix", [np.eye(3), PROTAN, DEUTAN], ids=["all", "protan", "deutan"])
def test_colour_blind_readers_tell_the_modes_apart(theme, matrix):
    block = STYLE[STYLE.index(f"macro {theme}()") :]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block[: block.index("endmacro")]))
    lab = {mode: seen_by(colours[mode], matrix) for mode in ("z", "c", "zc")}
    for a, b in (("z", "c"), ("z", "zc"), ("c", "zc")):
        assert np.linalg.norm(lab[a] - lab[b]) > 20, (a, b)


# The page


class Outline(HTMLParser):
    """Gathers what the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.mark.parametrize("name", ["one", "four"])
def test_the_page_stands_alone_and_can_be_read_by_all(name, request):
    text = render(request.getfixturevalue(name))
    outline = Outline(text)
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\((?!#)", text)
    assert all(
        image["alt"] and image["src"].startswith("data:image/") for image in outline.of("img")
    )
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {a["href"][1:] for a in outline.of("a") if a["href"].startswith("#")}
    assert targets <= set(ids)
    assert [len(outline.of(tag)) for tag in ("h1", "main", "nav", "header", "footer")] == [1] * 5
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all("scope" in cell for cell in outline.of("th"))
    assert len(text) < gallery.PAGE_MB * 1e6


def test_several_subjects_have_figure_4_their_means_and_their_ceilings(four):
    text = render(four)
    assert "The same pictures from every brain" in text and "Means over 4 subjects" in text
    assert "noise ceiling 40.0 %" in text and "noise ceiling 22.0 %" in text
    assert len(Outline(text).of("img")) == 4 * 9 * 4 + 9 * 5 + 4 * 12 * 4


def test_faults_come_first_and_the_oracle_is_named(one):
    text = render(one)
    order = [
        text.index(check)
        for check in ("repeats across folds", "caption with random noise", "leaked test trials")
    ]
    assert order == sorted(order)
    assert (
        "best of 5, oracle" in text
        and "mean of 5" in text
        and "best of 5, by decoded features" in text
    )
    assert "swav_800ep_pretrain.pth.tar: not found." in text
    assert "MindEye2" in text and "0.319" in text  # published rows of a preset that the study has
    assert "not the best ones only" in text


def test_no_published_row_stands_beside_another_preset():
    text = render(example(presets=("scenes", "pixel"), n=6))
    assert "MindEye1" not in text and 'id="published"' not in text


def test_a_study_without_photographs_or_audit_has_a_page_too(one):
    empty = pd.DataFrame()
    gallery = [replace(s, pictures={"c": s.pictures["c"]}, scores={}) for s in one.gallery]
    bare = replace(
        one,
        modes=["c"],
        richest="c",
        regions={"c": ["ventral"]},
        scores=empty,
        per_image=empty,
        absent=empty,
        comparisons=pd.DataFrame(columns=["subject"]),
        audit=empty,
        examples={},
        noise={},
        gallery=gallery,
    )
    text = render(bare)
    assert "Two-way identification" not in text and "seen</span>" not in text
    assert len(Outline(text).of("img")) == len(gallery)
    assert "60.0" in text and "a judge named right; chance 7.6" in text
    assert not {"scores", "audit", "pictures", "sure"} & {
        a.get("id") for _, a in Outline(text).tags
    }


def test_captions_are_text_not_markup(one):
    sly = [replace(one.gallery[0], caption='<script>alert("x")</script>')]
    assert "<script>alert" not in render(replace(one, gallery=sly))
