"""How the console is with a keyboard, a narrow screen, a screen reader, and in the dark."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.console.stage import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.browser]

FOUND = find_spec("axe_playwright_python")
assert FOUND is not None
assert FOUND.origin is not None
AXE = (Path(FOUND.origin).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


async def story(deployment: Stage) -> dict[str, str]:
    """Jobs that show all there is to show: what waits, a team, files, and one that talks."""
    waits = await deployment.start("clerk", "Wait for me")
    built = await deployment.start("builder", "Build what is looked at")
    team = await deployment.start("lead", "A team that waits")
    await deployment.until_rest(built)
    return {"waits": waits, "built": built, "team": team}


def addresses(jobs: dict[str, str]) -> list[str]:
    """Where every page is, with something to show."""
    return [
        "#/jobs",
        "#/start",
        "#/search?q=build",
        "#/usage",
        "#/audit",
        f"#/job/{jobs['waits']}/conversation",
        f"#/job/{jobs['team']}/timeline",
        f"#/job/{jobs['built']}/conversation",
        f"#/job/{jobs['built']}/checkpoints",
        f"#/job/{jobs['built']}/files",
    ]


READY = {
    "jobs": ".job-row",
    "start": "form.card",
    "search": ".hits li",
    "usage": "svg.columns",
    "audit": "table",
    "conversation": "article.entry",
    "timeline": ".lanes rect",
    "checkpoints": ".checkpoints table",
    "files": ".files table",
}


async def show(page: Page, address: str) -> None:
    """Go there, and wait until what the page is for is in it."""
    await page.goto(f"/{address}")
    name = address.partition("?")[0].rpartition("/")[2]
    await expect(page.locator(READY[name]).first).to_be_visible()
    if "/job/" in address:
        await expect(page.locator(".job-status .chip")).to_be_visible()


async def judged(page: Page) -> list[str]:
    """What axe finds wrong: its rules of WCAG 2.2 A and AA, and its best practices."""
    await page.evaluate(AXE)
    found: dict[str, Any] = await page.evaluate(
        "(tags) => axe.run(document, { runOnly: { type: 'tag', values: tags } })", RULES
    )
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:160]} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_any_page(
    page: Page, deployment: Stage, scheme: Any
) -> None:
    jobs = await story(deployment)
    await page.emulate_media(color_scheme=scheme)
    for address in addresses(jobs):
        await show(page, address)
        if "conversation" in address:
            await page.locator("details.call summary").first.click()
        if "checkpoints" in address:
            await page.get_by_role("button", name="Compare").click()
            await expect(page.locator(".unified")).to_be_visible()
        assert await judged(page) == [], address
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    assert await judged(page) == []


async def test_axe_finds_nothing_wrong_with_the_login(stranger: Page) -> None:
    await stranger.goto("/")
    await expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()
    assert await judged(stranger) == []


async def test_nothing_is_wider_than_a_small_phone(page: Page, deployment: Stage) -> None:
    jobs = await story(deployment)
    await page.set_viewport_size({"width": 360, "height": 740})
    for address in addresses(jobs):
        await show(page, address)
        wide = await page.evaluate(
            """() => [...document.querySelectorAll("main *")]
              .filter((one) => one.getBoundingClientRect().right > innerWidth + 1
                && !one.closest(".scroll, pre, .lanes, .unseen"))
              .map((one) => `${one.tagName} ${one.className}`).slice(0, 5)"""
        )
        whole = await page.evaluate("() => document.documentElement.scrollWidth")
        assert (wide, whole) == ([], 360), address


async def test_colours_follow_the_system_unless_a_person_chooses(page: Page) -> None:
    paper = "() => getComputedStyle(document.body.parentElement).backgroundColor"
    await page.emulate_media(color_scheme="dark")
    await page.goto("/")
    dark = await page.evaluate(paper)
    await page.emulate_media(color_scheme="light")
    light = await page.evaluate(paper)
    assert dark != light
    switch = page.get_by_role("button", name="Colours")
    await switch.click()
    await switch.click()
    await expect(switch).to_have_accessible_name("Colours: dark")
    assert await page.evaluate(paper) == dark
    await page.reload()
    await expect(switch).to_have_accessible_name("Colours: dark")
    assert await page.evaluate(paper) == dark


async def tab_to(page: Page, name: str, role: str) -> None:
    """Press Tab until that has the focus; it has to come within a bound."""
    wanted = page.get_by_role(role, name=name, exact=True).first  # type: ignore[arg-type]
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError(f"Tab never comes to the {role} {name!r}")


async def test_a_job_is_run_through_with_the_keyboard_alone(page: Page) -> None:
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("n")
    await expect(page.get_by_role("heading", name="Start a job")).to_be_focused()
    await expect(page.get_by_label("Expert")).to_be_visible()
    await tab_to(page, "Expert", "combobox")
    await page.keyboard.press("c")  # the clerk: a list goes by the first letter
    await tab_to(page, "What is to be done?", "textbox")
    await page.keyboard.type("Write by keyboard")
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_role("heading", level=1, name="Write by keyboard")).to_be_visible()
    await expect(page.get_by_role("heading", name="May send run?")).to_be_visible()
    await page.locator("h1").focus()
    await page.keyboard.press("w")
    await expect(page.get_by_role("button", name="Approve")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="question asks")).to_be_visible()
    await page.locator("h1").focus()
    await page.keyboard.press("2")
    await expect(page.locator(".lanes svg")).to_be_visible()
    await page.keyboard.press("w")
    await page.keyboard.type("red")
    await tab_to(page, "Answer", "button")
    await page.keyboard.press("Space")
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await page.keyboard.press("1")
    await expect(page.locator("article.reply").last).to_contain_text("Written")
    await page.keyboard.press("c")
    await page.keyboard.type("Again")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("article.reply").last).to_contain_text("And once more.")


async def test_the_first_tab_skips_to_the_content_and_help_gives_the_focus_back(
    page: Page,
) -> None:
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    await page.evaluate("() => document.activeElement.blur()")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await page.get_by_role("button", name="Keyboard help").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Keyboard help")).to_be_focused()


async def test_streaming_text_is_not_announced_piece_by_piece(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("talker", "Talk quietly")
    talk = deployment.cast.talk("Talk quietly")
    await page.goto(f"/#/job/{job}/conversation")
    await expect(page.locator(".job-status .chip")).to_be_visible()
    await talk.let(2)
    await expect(page.locator(".live.text")).to_have_text("Once upon ")
    assert await page.locator(".live.text").evaluate("(one) => one.closest('[aria-live]')") is None
    await talk.finish()
    await expect(page.locator("#announcer")).to_have_text("The job is now: completed")
