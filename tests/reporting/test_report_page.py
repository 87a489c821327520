"""The report in a browser: quiet, narrow, dark, filtered, sorted, printed, and without scripts."""

from __future__ import annotations

import shutil

import pytest

from phosphene.reporting.page import render
from support.contrasts import CONTRASTS
from support.report_example import example

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def content():
    return example(["subj01", "subj02"], n=16)


@pytest.fixture(scope="module")
def address(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(content))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser, address):
    """Open the page; everything it says on the console or asks of the network is in `.said`."""
    contexts = []

    def opened(width: int = 1280, scheme: str = "light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on(
            "request",
            lambda request: (
                page.said.append(request.url) if request.url[:5] not in ("file:", "data:") else None
            ),
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()


def images(page) -> list[tuple[str, int]]:
    """Subject and image of the tiles that are seen, in their order."""
    tiles = page.locator("#tiles > figure:visible")
    return [
        tuple(pair)
        for pair in tiles.evaluate_all(
            "some => some.map(t => [t.dataset.subject, Number(t.dataset.image)])"
        )
    ]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_quiet_and_fits_and_can_be_read(open_page, width, scheme):
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = page.evaluate(CONTRASTS)
    assert len(found) > 300
    assert [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []
    assert page.evaluate(
        "[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt)"
    )
    assert page.said == []


def test_figures_are_readable_on_a_phone(open_page):
    page = open_page(390)
    sizes = page.locator("svg text:visible").evaluate_all(
        "some => some.map(t => t.getBoundingClientRect().height)"
    )
    assert len(sizes) > 20 and min(sizes) >= 9
    assert (
        page.locator(".plot .broad:visible").count() == 0
        and page.locator(".plot .narrow:visible").count() == 1
    )


def test_the_button_turns_the_page_dark_and_light(open_page):
    page = open_page(scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    button = page.locator("#theme")
    assert button.inner_text() == "Dark page"
    button.click()
    dark = page.evaluate(colour)
    assert dark != light and button.inner_text() == "Light page"
    assert min(ratio for ratio, _ in page.evaluate(CONTRASTS)) >= 4.5
    button.click()
    assert page.evaluate(colour) == light
    assert open_page(scheme="dark").evaluate(colour) == dark


def test_filters_do_what_they_say(open_page, content):
    page = open_page()

    def expected(keep) -> set[tuple[str, int]]:
        return {(one.subject, one.image) for one in content.gallery if keep(one)}

    word = content.gallery[3].caption.split()[1]
    page.fill("[name=text]", f"{word.upper()} ")
    assert (
        set(images(page))
        == expected(lambda one: word in f"{one.caption} {' '.join(one.categories)}")
        != set()
    )
    page.fill("[name=text]", "no such thing")
    assert images(page) == [] and page.locator("#count").inner_text() == "0 of 32 shown"
    page.click("button[type=reset]")
    page.wait_for_function("document.querySelector('#count').textContent === '32 of 32 shown'")
    category = content.gallery[0].categories[0]
    page.select_option("[name=category]", category)
    assert set(images(page)) == expected(lambda one: category in one.categories)
    page.select_option("[name=subject]", "subj02")
    assert set(images(page)) == expected(
        lambda one: category in one.categories and one.subject == "subj02"
    )
    page.select_option("[name=category]", "")
    page.select_option("[name=mode]", "z")
    page.fill("[name=low]", "80")
    page.fill("[name=high]", "90")
    some = expected(
        lambda one: one.subject == "subj02" and 80 <= round(100 * one.scores["z"], 2) <= 90
    )
    assert set(images(page)) == some != set()
    assert page.locator("#count").inner_text() == f"{len(some)} of 32 shown"


def test_sorting_does_what_it_says(open_page, content):
    page = open_page()
    scores = {(one.subject, one.image): one.scores for one in content.gallery}
    for mode in ("zc", "z", "c"):
        page.select_option("[name=mode]", mode)
        for order, reverse in (("best", True), ("worst", False)):
            page.select_option("[name=sort]", order)
            values = [round(scores[key][mode], 4) for key in images(page)]
            assert values == sorted(values, reverse=reverse)
    page.select_option("[name=sort]", "image")
    numbers = [image for _, image in images(page)]
    assert numbers == sorted(numbers) and len(numbers) == 32


def test_without_scripts_everything_is_there(open_page, content):
    page = open_page(java_script_enabled=False)
    assert page.locator("#tiles > figure:visible").count() == len(content.gallery)
    assert (
        page.locator("#controls:visible").count() == 0
        and page.locator("#theme:visible").count() == 0
    )
    dark = open_page(scheme="dark", java_script_enabled=False)
    assert dark.locator("h1").evaluate("e => getComputedStyle(e).color") == "rgb(233, 233, 231)"


def test_the_keyboard_reaches_everything(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the results"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    scrolled = "[...document.querySelectorAll('.wide, pre')].every(e => e.tabIndex === 0)"
    assert page.evaluate(scrolled)


def test_print_is_light_and_leaves_out_what_paper_cannot_do(open_page):
    page = open_page(scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.locator("nav:visible").count() == 0 and page.locator("#controls:visible").count() == 0
    )
    folded = page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded > 0
