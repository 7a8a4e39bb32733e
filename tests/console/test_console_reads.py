"""What the console lists and compares, in a real Chromium: jobs, files, steps, usage, acts."""

import re

import pytest
from playwright.async_api import Page, expect

from domain.ids import RunRef
from tests.console.stage import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.browser]


async def test_the_list_of_jobs_follows_what_happens(page: Page, deployment: Stage) -> None:
    await page.goto("/")
    await expect(page.locator(".filters .connection")).to_have_text("Live")
    job = await deployment.start("talker", "A job that appears by itself")
    row = page.locator(f'[data-job="{job}"]')
    await expect(row).to_contain_text("A job that appears by itself")
    await expect(row).to_contain_text("running")
    await deployment.cast.talk("A job that appears by itself").finish()
    await expect(row).to_contain_text("completed")
    await expect(row).to_contain_text("150 tokens")
    await row.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("A job that appears by itself")


async def test_jobs_are_filtered_by_status_and_expert(page: Page, deployment: Stage) -> None:
    waiting = await deployment.start("clerk", "A job that waits")
    talk = await deployment.start("talker", "A job that is done")
    await deployment.cast.talk("A job that is done").finish()
    await deployment.until_rest(talk)
    await page.goto("/#/jobs?status=waiting")
    await expect(page.locator(f'[data-job="{waiting}"]')).to_contain_text("waits for you")
    await expect(page.locator(f'[data-job="{talk}"]')).to_have_count(0)
    await page.get_by_label("Status").select_option("completed")
    await page.get_by_label("Expert").fill("talker")
    await page.get_by_label("Expert").press("Tab")
    await expect(page.locator(f'[data-job="{talk}"]')).to_be_visible()
    await expect(page.locator(f'[data-job="{waiting}"]')).to_have_count(0)
    await page.get_by_label("Expert").fill("nobody")
    await page.get_by_label("Expert").press("Tab")
    await expect(page.get_by_text("No job is like that.")).to_be_visible()


async def built(page: Page, deployment: Stage, query: str) -> str:
    """A job whose expert has written a file in two steps, in the browser."""
    job = await deployment.start("builder", query)
    await deployment.until_rest(job)
    await page.goto(f"/#/job/{job}/conversation")
    await expect(page.locator(".job-status")).to_contain_text("completed")
    return job


async def test_two_checkpoints_are_compared_and_a_job_goes_on_from_one(
    page: Page, deployment: Stage
) -> None:
    job = await built(page, deployment, "Build a plan")
    await page.get_by_role("link", name="Checkpoints").click()
    await page.get_by_label("From step 1", exact=True).check()
    await page.get_by_label("To step 2", exact=True).check()
    await page.get_by_role("button", name="Compare").click()
    await expect(page.get_by_role("heading", name="From step 1 to step 2")).to_be_focused()
    await expect(page.locator(".unified .came").first).to_contain_text("A longer plan.")
    await expect(page.get_by_role("table", name="State")).to_contain_text("tokens")
    await page.get_by_role("button", name="Lines of plan.md").click()
    await expect(page.locator(".changed .came", has_text=re.compile(r"^\+two"))).to_be_visible()

    await page.get_by_role("button", name="Fork from step 1").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("New query").fill("Another way")
    await dialog.get_by_role("button", name="Fork", exact=True).click()
    await expect(page.locator(".note", has_text="Forked after")).to_be_visible()
    await expect(page.locator("article.input")).to_contain_text("Another way")
    await expect(page.locator(".job-status")).to_contain_text("completed")
    fork = page.url.split("/job/")[1].split("/")[0]
    assert fork != job
    assert await deployment.backbone.log.load(RunRef("default", fork, fork))
    await page.get_by_role("link", name=f"step 1 of {job}").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Build a plan")


async def test_files_are_listed_read_and_downloaded(page: Page, deployment: Stage) -> None:
    await built(page, deployment, "Build a file")
    await page.get_by_role("link", name="Files").click()
    await page.get_by_role("button", name="plan.md").click()
    await expect(page.locator(".file-view pre")).to_have_text("# Plan\n\none\ntwo\n")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download plan.md").click()
    taken = await download.value
    assert taken.suggested_filename == "plan.md"
    assert (await taken.path()).read_text() == "# Plan\n\none\ntwo\n"
    await page.get_by_label("Filter files").fill("nothing-like-it")
    await expect(page.get_by_text("0 files")).to_be_visible()


async def test_the_timeline_is_to_scale_and_leads_to_what_it_shows(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("lead", "Have a timeline")
    await page.goto(f"/#/job/{job}/timeline")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.locator(".job-status")).to_contain_text("completed")
    spans = await page.evaluate(
        """async () => {
          const { lanesOf } = await import("/console/spans.js");
          return lanesOf(peritusJob()).map(({ run, spans }) =>
            [run.expert, spans.map(({ kind, from, to }) => [kind, to - from])]);
        }"""
    )
    assert [expert for expert, _ in spans] == ["lead", "clerk"]
    waits = {kind: ms for _, found in spans for kind, ms in found if kind == "wait"}
    widths = await page.evaluate(
        """() => [...document.querySelectorAll(".lanes rect.wait")]
          .map((rect) => rect.getAttribute("width") / rect.ownerSVGElement.getAttribute("width"))"""
    )
    whole = await page.evaluate(
        """() => {
          const runs = [...peritusJob().runs.values()];
          return runs[0].endedMs - runs[0].startedMs;
        }"""
    )
    assert widths == [pytest.approx(waits["wait"] / whole, rel=0.02)]

    await page.get_by_role("button", name="Zoom in").click()
    lanes = page.get_by_role("group", name="Timeline")
    await lanes.focus()
    for _ in range(2):
        await page.keyboard.press("ArrowRight")
    await expect(page.locator(".span-detail")).to_contain_text("Delegate · clerk")
    await page.keyboard.press("Enter")
    await expect(page.locator("details.call[open] .tool")).to_have_text("clerk")
    await page.get_by_role("button", name="Open the delegate's run").click()
    await expect(page.locator("article.input")).to_contain_text("Write it.")


async def test_what_was_said_is_found(page: Page, deployment: Stage) -> None:
    job = await deployment.start("talker", "A xylophone for the search")
    await deployment.cast.talk("A xylophone for the search").finish()
    await deployment.until_rest(job)
    await page.goto("/")
    await page.keyboard.press("g")
    await page.keyboard.press("s")
    await page.get_by_label("Words that all occur").fill("xylophone")
    await page.keyboard.press("Enter")
    await expect(page.locator(".hits mark").first).to_have_text("xylophone")
    await page.get_by_role("link", name=f"Job {job}").first.click()
    await expect(page.locator("article.input").first).to_contain_text("xylophone")


async def test_usage_is_shown_as_pictures_and_tables(page: Page, deployment: Stage) -> None:
    job = await deployment.start("talker", "Use something")
    await deployment.cast.talk("Use something").finish()
    await deployment.until_rest(job)
    await page.goto("/#/usage")
    await page.get_by_label("Measure").select_option("tokens")
    await expect(page.locator("svg.columns .bar").last).not_to_have_attribute("height", "0")
    across = page.get_by_role("list", name="By expert")
    await expect(across).to_contain_text("talker")
    models = page.locator("section.card", has=page.get_by_role("heading", name="By model"))
    await models.get_by_text("As a table").click()
    await expect(page.get_by_role("table", name="By model")).to_contain_text("script.toml")


async def test_who_did_what_is_listed(page: Page, deployment: Stage) -> None:
    job = await deployment.start("clerk", "Be audited")
    await page.goto(f"/#/job/{job}/conversation")
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", name="question asks")).to_be_visible()
    await page.goto("/#/audit")
    table = page.get_by_role("table", name="Who did what")
    await expect(table.get_by_role("row").nth(1)).to_contain_text("approved")
    await expect(table.get_by_role("row").nth(2)).to_contain_text("started")
