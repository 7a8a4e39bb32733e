"""The page of `/v1/docs` in a browser: under its policy, with a key, dark and light, on a phone."""

import json

import pytest
from playwright.async_api import Page, expect

from tests.console.stage import Stage
from tests.console.test_console_looks import judged

pytestmark = [pytest.mark.anyio, pytest.mark.browser]


async def opened(page: Page, name: str) -> None:
    await page.goto(f"/v1/docs#{name}")
    await expect(page.locator(f"#{name} .inside")).to_be_visible()


async def test_operations_are_listed_and_found(stranger: Page) -> None:
    asked = list[str]()
    stranger.on("request", lambda request: asked.append(request.url))
    await stranger.goto("/v1/docs")
    operations = stranger.locator("details.operation")
    await expect(operations.filter(has_text="/v1/runs/{run}/fork")).to_be_visible()
    document = await (await stranger.request.get("/v1/openapi.json")).json()
    count = sum(len(methods) for methods in document["paths"].values())
    await expect(operations).to_have_count(count)
    await stranger.fill("#find", "search")
    await expect(stranger.locator("details.operation:visible")).to_have_count(1)
    own = stranger.url.partition("/v1/")[0]
    assert {url for url in asked if not url.startswith((own, "data:"))} == set()


async def test_operation_is_told_with_parameters_body_and_answers(stranger: Page) -> None:
    await opened(stranger, "start_run")
    inside = stranger.locator("#start_run .inside")
    await expect(inside).to_contain_text("Needs the role operator")
    await expect(inside).to_contain_text("maxMicroUsd")
    await expect(inside).to_contain_text("Idempotency-Key")
    answer = inside.locator("summary", has_text="202")
    await answer.click()
    await expect(inside).to_contain_text("events_url")
    body = json.loads(await inside.locator("textarea").input_value())
    assert body["expert"] == "coder"


async def test_operation_is_tried_with_the_key_that_was_typed(
    stranger: Page, deployment: Stage
) -> None:
    await opened(stranger, "get_me")
    place = stranger.locator("#get_me")
    await place.get_by_role("button", name="Send").click()
    await expect(place.locator(".status")).to_have_text("401 Unauthorized")
    await stranger.fill("#key", deployment.key)
    await place.get_by_role("button", name="Send").click()
    await expect(place.locator(".status")).to_have_text("200 OK")
    await expect(place.locator("pre").last).to_contain_text('"role": "admin"')


async def test_stream_is_shown_as_it_comes_and_can_be_stopped(
    stranger: Page, deployment: Stage
) -> None:
    await opened(stranger, "events")
    await stranger.fill("#key", deployment.key)
    place = stranger.locator("#events")
    await place.get_by_role("button", name="Send").click()
    await expect(place.locator("pre").last).to_contain_text("event: hello")
    await place.get_by_role("button", name="Stop").click()
    await expect(place.get_by_role("button", name="Stop")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_fits_a_phone_in_both_schemes(stranger: Page, scheme: str) -> None:
    await stranger.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await stranger.set_viewport_size({"width": 360, "height": 740})
    await opened(stranger, "get_file")
    wide = await stranger.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    back = await stranger.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(13, 17, 23)" if scheme == "dark" else "rgb(255, 255, 255)")
    assert await judged(stranger) == []
