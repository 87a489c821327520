"""The study in a browser: three raters finish it by clicks and keys, come back, double-click, lose
the connection.
"""

from __future__ import annotations

import asyncio

import pytest

from support.ratings_browser import CHROMIUM, N, Window, stored

pytest.importorskip("playwright.async_api")
pytest_plugins = ("support.ratings_fixtures",)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def test_three_raters_at_once_by_clicks_and_keys(browser, loop, study):
    """One straight through; one closes the page midway and comes back; one double-clicks and goes
    back.
    """
    straight, leaver, clicker = (Window(browser, study, slot) for slot in range(3))

    async def first():
        await straight.open()
        await straight.agree()
        await straight.page.get_by_role("button", name="Begin").click()
        await straight.trials(0, N, ["key", "click"], 1)
        await straight.thanked()

    async def second():
        await leaver.open()
        await leaver.agree()
        await leaver.page.get_by_role("button", name="Begin").click()
        await leaver.trials(0, 5, ["key"], 2)
        await leaver.ready(5)
        await leaver.close()
        await leaver.open()
        await leaver.page.get_by_text("You have made 5 of 8 choices").wait_for()
        await leaver.page.get_by_role("button", name="Go on").click()
        await leaver.trials(5, N, ["click"], 3)
        await leaver.thanked()

    async def third():
        await clicker.open()
        await clicker.agree()
        await clicker.page.get_by_role("button", name="Begin").click()
        await clicker.trials(0, 2, ["double"], 4)
        await clicker.ready(2)
        await clicker.page.goto(f"{study.address}/nothing")
        await clicker.page.go_back()
        await clicker.page.get_by_role("button", name="Go on").click()
        await clicker.trials(2, 5, ["double", "click"], 5)
        await clicker.ready(5)
        await clicker.page.reload()
        await clicker.page.get_by_role("button", name="Go on").click()
        await clicker.trials(5, N, ["double"], 6)
        await clicker.thanked()
        await clicker.page.go_back()
        await clicker.page.goto(clicker.link)
        await clicker.thanked()

    async def everyone():
        await asyncio.gather(first(), second(), third())
        for window in (straight, leaver, clicker):
            await window.close()

    loop(everyone())
    for window in (straight, leaver, clicker):
        found = stored(study, window.slot)
        assert found["choice"].to_dict() == window.clicked and len(found) == N
        assert found["milliseconds"].between(200, 15000).all()
        assert [text for text in window.said if "404" not in text] == []
    assert study.answers.progress()["finished_at"].notna().all()


def test_two_windows_of_one_rater_go_on_together(browser, loop, study):
    one = Window(browser, study, 0)
    two = Window(browser, study, 0)

    async def work():
        await one.open()
        await one.agree()
        await one.page.get_by_role("button", name="Begin").click()
        await one.ready(0)
        await two.open()
        await two.page.get_by_role("button", name="Begin").click()
        await one.trials(0, 3, ["key"], 1)
        # has its answer; the window goes on where the answers end
        await two.choose(0, "left", "key")
        await two.page.get_by_role("button", name="Go on").click()
        await two.choose(3, "right", "click")
        await one.page.get_by_role("button", name="Go on").click()
        await one.choose(3, "left", "click")
        await one.ready(4)
        await one.close()
        await two.close()

    loop(work())
    assert stored(study, 0)["choice"].to_dict() == {**one.clicked, 3: "right"}


def test_pictures_are_there_before_the_clock_starts(browser, loop, study):
    """With pictures that take 700 ms: a quick answer has a short time, and the next trial is loaded
    by then.
    """
    window = Window(browser, study, 0)
    asked = []

    async def slowly(route):
        asked.append(route.request.url.rsplit("/", 1)[1])
        await asyncio.sleep(0.7)
        await route.continue_()

    async def work():
        await window.open()
        await window.page.route("**/picture/*", slowly)
        await window.agree()
        await window.page.get_by_role("button", name="Begin").click()
        for position in range(2):
            await window.choose(position, "left", "key")
        ahead = list(asked)
        widths = await window.page.eval_on_selector_all(
            "#trial img", "all => all.map(one => one.naturalWidth)"
        )
        await window.ready(2)
        await window.close()
        return ahead, widths

    ahead, widths = loop(work())
    assert stored(study, 0)["milliseconds"].max() < 650 and widths == [64, 64, 64]
    wanted = study.shown(0).loc[:2, ["photo", "left", "right"]].to_numpy().ravel()
    assert set(ahead) == set(wanted)


def test_the_response_time_is_the_one_that_passed(browser, loop, study):
    window = Window(browser, study, 0)

    async def work():
        await window.open()
        await window.agree()
        await window.page.get_by_role("button", name="Begin").click()
        await window.ready(0)
        await asyncio.sleep(0.9)
        before = await window.page.evaluate("performance.now() - started")
        await window.page.keyboard.press("ArrowLeft")
        await window.ready(1)
        await window.close()
        return before

    before = loop(work())
    assert before <= stored(study, 0)["milliseconds"][0] <= before + 150


def test_a_lost_connection_loses_no_answer(browser, loop, study):
    window = Window(browser, study, 0)
    lost = []

    async def unlucky(route):
        """The first try never arrives; the second is stored, but its reply gets lost."""
        lost.append(route)
        if len(lost) == 1:
            return await route.abort()
        if len(lost) == 2:
            await route.fetch()
            return await route.abort()
        await route.continue_()

    async def work():
        await window.open()
        await window.agree()
        await window.page.get_by_role("button", name="Begin").click()
        await window.page.route("**/answer", unlucky)
        await window.choose(0, "right", "key")
        await window.page.get_by_text("The connection is interrupted").wait_for()
        await window.page.keyboard.press("ArrowLeft")  # waiting: this is no answer
        await window.choose(1, "left", "key")
        await window.ready(2)
        assert not await window.page.get_by_text("The connection is interrupted").is_visible()
        await window.close()

    loop(work())
    assert stored(study, 0)["choice"].to_dict() == {0: "right", 1: "left"} and len(lost) == 4
