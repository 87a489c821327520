"""Fixtures for the tests of raters' pages: a browser whose coroutines run in a thread of their own,
and a served study.

A plugin (`pytest_plugins`), so that two test modules share it.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from phosphene.ratings.server.app import Texts, create_app
from support.ratings_browser import CHROMIUM, N
from support.ratings_example import ADMIN, example, served


@pytest.fixture(scope="module")
def loop():
    """Run coroutines one after another in a thread of their own."""
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, daemon=True)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, running).result(120)
    running.call_soon_threadsafe(running.stop)
    thread.join(10)


@pytest.fixture(scope="module")
def browser(loop):
    from playwright import async_api

    async def start():
        playwright = await async_api.async_playwright().start()
        return playwright, await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )

    async def stop():
        await started.close()
        await playwright.stop()

    playwright, started = loop(start())
    yield started
    loop(stop())


@pytest.fixture
def study(tmp_path):
    made = example(tmp_path, n_trials=N)
    app = create_app(
        made.answers,
        made.pictures,
        Texts(contact="Write to lab@example.org."),
        ADMIN,
        break_every=3,
    )
    with served(app) as made.address:
        yield made
    made.answers.close()
