"""What tests of the console share: a deployment, a browser, and somebody who is signed in."""

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.console.stage import Stage, stage

BOUND_MS = 30_000
"""How long a test waits for anything in the browser, in milliseconds."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    expect.set_options(timeout=BOUND_MS)
    async with async_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox of its own; it opens our own pages alone.
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@pytest.fixture(scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    folder: Path = tmp_path_factory.mktemp("console")
    async with stage(folder) as made:
        yield made


@pytest.fixture
async def stranger(browser: Browser, deployment: Stage) -> AsyncGenerator[Page]:
    """A page of somebody who is not signed in; whatever goes wrong in it fails the test."""
    context = await browser.new_context(
        base_url=deployment.url, viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    context.set_default_timeout(BOUND_MS)
    page = await context.new_page()
    wrong = list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None,
    )
    yield page
    await context.close()
    assert wrong == []


@pytest.fixture
async def page(stranger: Page, deployment: Stage) -> Page:
    """A page of an administrator."""
    answer = await stranger.request.post(
        "/v1/session",
        data={"key": deployment.key},
        headers={"Origin": deployment.url},
    )
    assert answer.ok, await answer.text()
    return stranger
