"""A rater in a browser, for the tests of their pages."""

from __future__ import annotations

import asyncio
import random
import shutil

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
N = 8  # trials of a rater


class Window:
    """A rater's browser window; `said` is what it complained of or asked of others than the
    server.
    """

    def __init__(self, browser, study, slot, **options):
        self.browser = browser
        self.study = study
        self.slot = slot
        self.said = []
        self.clicked = {}
        self.options = {"viewport": {"width": 1280, "height": 800}} | options
        self.link = f"{study.address}/r/{study.tokens[slot]}"

    async def open(self, path=""):
        """A new window on the link."""
        context = await self.browser.new_context(**self.options)
        self.page = await context.new_page()
        self.page.set_default_timeout(15000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on(
            "request",
            lambda asked: asked.url.startswith(self.study.address) or self.said.append(asked.url),
        )
        await self.page.goto(path or self.link)
        return self

    async def close(self):
        await self.page.context.close()

    async def agree(self):
        await self.page.get_by_role("button", name="I agree").click()
        await self.page.wait_for_function(
            "() => document.querySelector('#begin')?.disabled === false"
        )

    async def ready(self, position):
        """Wait until a trial is seen and its clock runs."""
        await self.page.wait_for_function(
            "(n) => document.querySelector('#count').textContent === n && "
            "!document.querySelector('#trial').hidden"
            " && !document.querySelector('#trial-stage').classList.contains('blank')"
            " && open && performance.now() - started > 250",
            arg=f"{position + 1} of {N}",
        )

    async def choose(self, position, side, how):
        await self.ready(position)
        self.clicked[position] = side
        if how == "key":
            await self.page.keyboard.press("Arrow" + side.capitalize())
        elif how == "tap":
            await self.page.get_by_role("button", name=f"{side} picture").tap()
        elif how == "double":  # 150 ms apart: by then a page without guard shows the next trial
            box = await self.page.get_by_role("button", name=f"{side} picture").bounding_box()
            where = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            await self.page.mouse.click(*where)
            await asyncio.sleep(0.15)
            await self.page.mouse.click(*where)
        else:
            await self.page.get_by_role("button", name=f"{side} picture").click()

    async def trials(self, start, end, hows, seed):
        """Answer trials in some way each, taking breaks."""
        chance = random.Random(seed)
        for position in range(start, end):
            if position and position % 3 == 0 and position != start:
                await self.page.get_by_role("heading", name="Time for a break").wait_for()
                await self.page.get_by_role("button", name="Go on").click()
            await self.choose(position, chance.choice(["left", "right"]), chance.choice(hows))

    async def thanked(self):
        await self.page.get_by_role("heading", name="Thank you").wait_for()


def stored(study, slot):
    """What the server has of a rater, by position."""
    found = study.answers.export()
    return found[found["slot"] == slot].set_index("position")


def answer_all(study, slot):
    """Answer what is left of a rater's trials, past the page."""
    rater = study.answers.rater(study.tokens[slot])
    for position in range(rater.answered, N):
        study.answers.answer(rater, position, "left", 500)
