"""What a server nobody here wrote asks a person, answered in the console with a form."""

from contextlib import closing
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.console.stage import free_port
from tests.e2e.cli_project import Project, scripted
from tests.e2e.mcp_project import EVERYTHING_SKILL, HELPER, call, script_of, turn
from tests.e2e.processes import team
from tests.support import registries

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.browser, pytest.mark.registries]

FETCH_S = 600.0
ASKS = call("trigger-elicitation-request")
TOLD = ("- Name: Ada Lovelace", "- Favorite Integer: 7", '"Violin"')


async def test_a_form_of_a_server_is_filled_in(browser: Browser, tmp_path: Path) -> None:
    missing = registries.missing()
    if missing is not None:
        pytest.skip(missing)
    port = free_port()
    project = Project(tmp_path, registries.settings(), FETCH_S)
    project.write("perstack.toml", HELPER + EVERYTHING_SKILL)
    assert project.peritus("lock").code == 0
    project.write("script.toml", script_of(turn(ASKS), turn(expect=TOLD)))
    words = ("run", "helper", "Go", *scripted("script.toml"), "--json", "--job", "one")
    running = project.start(*words)
    running.until("tool_call.asked.v1")
    settings = {"PERITUS_GATEWAY_PORT": str(port), "PERITUS_GATEWAY_AUTH": "none"}
    with closing(project), team(tmp_path, settings) as services:
        services.start("gateway", "projections")
        await services.ready()
        page = await browser.new_page(base_url=f"http://127.0.0.1:{port}")
        await page.goto("/#/job/one/conversation")
        card = page.get_by_role("region", name="Waiting for you").locator("article")
        await expect(card.get_by_role("heading")).to_have_text("trigger-elicitation-request asks")
        await card.get_by_label("String", exact=True).fill("Ada Lovelace")
        await card.get_by_label("Integer (optional)").fill("700")
        await card.get_by_role("group", name="Multi").first.get_by_label("Violin").check()
        await card.get_by_role("button", name="Send").click()
        await expect(page.locator(".toast")).to_contain_text("integer")
        await card.get_by_label("Integer (optional)").fill("7")
        await card.get_by_role("button", name="Send").click()
        await expect(page.locator(".job-status")).to_contain_text("completed")
        await page.close()
        assert running.end() == 0
