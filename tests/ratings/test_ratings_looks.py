"""The pages of the study fit every window, can be read, and need neither mouse nor touch."""

from __future__ import annotations

import pytest

from support.contrasts import CONTRASTS
from support.ratings_browser import CHROMIUM, N, Window, answer_all, stored
from support.ratings_example import ADMIN

pytest.importorskip("playwright.async_api")
pytest_plugins = ("support.ratings_fixtures",)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
# how far the page is wider and higher than the window
OVERFLOW = """() => { const e = document.scrollingElement;
  return [e.scrollWidth - innerWidth, e.scrollHeight - innerHeight]; }"""


SIZES = [
    (1920, 1080),
    (1280, 720),
    (390, 844),
    (360, 640),
    (320, 568),
    (640, 360),
    (740, 360),
    (1024, 400),
]


def test_a_trial_fits_every_window(browser, loop, study):
    """A trial never scrolls, its pictures lie in the window, and no side is larger or higher than
    the other.
    """
    window = Window(browser, study, 0)

    async def work():
        await window.open()
        await window.agree()
        await window.page.get_by_role("button", name="Begin").click()
        await window.ready(0)
        found = []
        for width, height in SIZES:
            await window.page.set_viewport_size({"width": width, "height": height})
            pictures = await window.page.query_selector_all("#trial .picture")
            boxes = [await picture.bounding_box() for picture in pictures]
            found.append(((width, height), await window.page.evaluate(OVERFLOW), boxes))
        await window.close()
        return found

    for (width, height), (sideways, down), (photo, left, right) in loop(work()):
        assert sideways <= 0 and down <= 0, (width, height)
        for box in (photo, left, right):
            assert (
                min(
                    box["x"],
                    box["y"],
                    width - box["x"] - box["width"],
                    height - box["y"] - box["height"],
                )
                >= 0
            )
            assert box["width"] == box["height"] >= 130, (width, height)
        assert left["width"] == right["width"] and left["y"] == right["y"]
        # the middle is the middle
        assert abs(left["x"] - (width - right["x"] - right["width"])) <= 1


def test_on_a_phone_by_taps(browser, loop, study):
    """No page is wider than 390 pixels; the words speak of tapping."""
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    window = Window(browser, study, 0, **phone)
    wide = []

    async def work():
        async def look():
            wide.append((await window.page.evaluate(OVERFLOW))[0])

        await window.open()
        await look()
        await window.agree()
        await look()
        assert await window.page.get_by_text("Tap the picture you choose").is_visible()
        assert not await window.page.get_by_text("Click the picture you choose").is_visible()
        await window.page.get_by_role("button", name="Begin").tap()
        await window.trials(0, 3, ["tap"], 1)
        await window.page.get_by_role("heading", name="Time for a break").wait_for()
        await look()
        await window.page.get_by_role("button", name="Go on").tap()
        await window.trials(3, 4, ["tap"], 1)
        await window.ready(4)
        await look()
        answer_all(study, 0)
        for path in (window.link, f"{study.address}/a/{ADMIN}", f"{study.address}/nothing"):
            await window.page.goto(path)
            await look()
        await window.close()

    loop(work())
    assert len(wide) == 7 and max(wide) <= 0
    assert stored(study, 0)["choice"][:4].to_dict() == window.clicked


def test_a_keyboard_is_enough(browser, loop, study):
    window = Window(browser, study, 0)

    async def press_tab_to(name):
        for _ in range(8):
            await window.page.keyboard.press("Tab")
            text, ring = await window.page.evaluate(
                "() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return [e.ariaLabel || e.innerText, s.outlineStyle + s.outlineWidth]; }"
            )
            if text.startswith(name):
                assert ring == "solid3px", text  # where the focus is can be seen
                return
        raise AssertionError(f"Tab does not reach {name}")

    async def work():
        keys = window.page.keyboard
        await press_tab_to("I agree")
        await keys.press("Enter")
        await window.page.wait_for_function(
            "() => document.querySelector('#begin')?.disabled === false"
        )
        await keys.press("ArrowLeft")
        await window.page.get_by_text("Look again").wait_for()
        await keys.press("ArrowRight")
        await window.page.get_by_text("Yes: a striped tower").wait_for()
        await press_tab_to("Begin")
        await keys.press("Enter")
        for position in range(N):
            if position in (3, 6):
                await window.page.get_by_role("heading", name="Time for a break").wait_for()
                await keys.press("ArrowLeft")  # no answer in a break
                await keys.press("Enter")  # the button has the focus
            await window.ready(position)
            if position == 1:
                await keys.press("Alt+ArrowRight")  # the browser's own
                await keys.press("Escape")
            side = window.clicked[position] = ("left", "right")[position % 2]
            if position < 3:
                await press_tab_to(f"{side.capitalize()} picture")
                await keys.press(["Enter", "Space", "Enter"][position])
            else:
                await keys.press("Arrow" + side.capitalize())
        await window.thanked()
        await window.close()

    loop(window.open())
    loop(work())
    assert stored(study, 0)["choice"].to_dict() == window.clicked and window.said == []


def test_neither_side_stays_marked(browser, loop, study):
    """After a click and a key, no candidate of the next trial has a focus ring or looks chosen."""
    window = Window(browser, study, 0)

    async def work():
        await window.open()
        await window.agree()
        await window.page.get_by_role("button", name="Begin").click()
        await window.choose(0, "left", "click")
        await window.choose(1, "right", "key")
        await window.ready(2)
        marked = await window.page.evaluate(
            "document.querySelectorAll('.candidate:focus, .chosen').length"
        )
        await window.close()
        return marked

    assert loop(work()) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser, loop, study, scheme):
    window = Window(browser, study, 0, color_scheme=scheme)

    async def work():
        found = []

        async def look():
            await window.page.wait_for_load_state()
            found.extend(await window.page.evaluate(CONTRASTS))

        await window.open()
        await look()
        await window.agree()
        await window.page.keyboard.press("ArrowLeft")
        await look()
        await window.page.get_by_role("button", name="Begin").click()
        await window.ready(0)
        await window.page.evaluate("trouble('The connection is interrupted.')")
        await look()
        await window.page.evaluate(
            "trouble(''); show('break'); document.querySelector('#break-count').textContent = '5 "
            "of 12'"
        )
        await look()
        answer_all(study, 0)
        await window.page.goto(window.link)
        await window.thanked()
        await look()
        for path in (f"/a/{ADMIN}", "/nothing"):
            await window.page.goto(study.address + path)
            await look()
        await window.close()
        return found

    found = loop(work())
    assert len(found) > 60 and min(found)[0] >= 4.5, min(found)


def test_without_scripts_the_page_says_so(browser, loop, study):
    window = Window(browser, study, 0, java_script_enabled=False)

    async def work():
        await window.open()
        await window.page.get_by_role("button", name="I agree").click()
        await window.page.get_by_text("How it works").wait_for()
        said = await window.page.locator("body").inner_text()
        await window.close()
        return said

    assert "needs JavaScript" in loop(work())
