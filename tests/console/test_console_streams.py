"""The console's streams in a real Chromium: reloads, gateways that die, resets, long jobs."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from domain.content import TextPart
from domain.events import RunCompleted, StepEnded, ToolCallEnded, ToolCallRequested
from domain.ids import RunRef
from domain.tools import Lane, Safety
from eventlog.port import Cursor
from tests.console.stage import Stage
from tests.support.pen import Pen, continued, replied, started

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.browser]

WITNESS = """
async ([job, after]) => {
  window.heard = [];
  window.resets = 0;
  const { follow } = await import("/console/sse.js");
  follow({
    url: `/v1/jobs/${job}/events?live=1&follow=1`,
    after,
    told: () => {},
    signal: new AbortController().signal,
    hear: (frame) => {
      if (frame.event === "reset") window.resets += 1;
      if (frame.data.event) window.heard.push([frame.data.run, frame.data.version]);
    },
  });
}
"""
"""A second reader in the page, which keeps what it was told of, frame by frame."""

FOLDED = """
() => {
  const state = peritusJob();
  return {
    events: state.events,
    missing: state.missing,
    versions: [...state.runs.values()].map((run) => [run.name, run.version]),
  };
}
"""


async def seen(page: Page) -> dict[str, Any]:
    """What the page has made of the stream."""
    found: dict[str, Any] = await page.evaluate(FOLDED)
    return found


def last_of(events: list[tuple[str, int]]) -> list[list[Any]]:
    """The last version of each run, in the order in which they began."""
    return [[run, version] for run, version in dict(events).items()]


async def test_a_reload_in_the_middle_of_a_reply_loses_and_doubles_nothing(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("talker", "A tale with a reload")
    talk = deployment.cast.talk("A tale with a reload")
    await page.goto(f"/#/job/{job}/conversation")
    await talk.let(5)
    await expect(page.locator(".live.text")).to_have_text("Once upon a time, there ")
    await page.reload()
    await expect(page.locator(".live.text")).to_have_text("Once upon a time, there ")
    await talk.let(4)
    await expect(page.locator(".live.text")).to_have_text(
        "Once upon a time, there was a log. Nothing "
    )
    await page.reload()
    await talk.finish()
    await expect(page.locator("article.reply .prose")).to_have_text(talk.text.strip())
    await expect(page.locator(".job-status")).to_contain_text("completed")

    events = await deployment.events(job)
    found = await seen(page)
    assert (found["events"], found["missing"]) == (len(events), 0)
    assert found["versions"] == last_of(events)
    await expect(page.locator("article.reply")).to_have_count(1)


async def test_a_gateway_that_is_killed_is_missed_and_then_followed_again(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("talker", "A tale with a kill")
    talk = deployment.cast.talk("A tale with a kill")
    await page.goto(f"/#/job/{job}/conversation")
    await page.evaluate(WITNESS, [job, None])
    await talk.let(3)
    await expect(page.locator(".live.text")).to_have_text("Once upon a ")
    deployment.kill_gateway()
    await expect(page.locator(".job-line .connection")).to_contain_text("trying again")
    await talk.let(3)  # said while nobody can hear it
    await deployment.start_gateway()
    await expect(page.locator(".job-line .connection")).to_have_text("Live")
    await talk.let(2)
    await deployment.restart_gateway()
    await talk.finish()
    await expect(page.locator("article.reply .prose")).to_have_text(talk.text.strip())
    await expect(page.locator(".job-status")).to_contain_text("completed")

    events = await deployment.events(job)
    await page.wait_for_function("(most) => window.heard.length >= most", arg=len(events))
    assert await page.evaluate("() => window.heard") == [list(one) for one in events]
    found = await seen(page)
    assert (found["events"], found["missing"]) == (len(events), 0)


async def test_a_cursor_of_another_life_of_the_log_is_reset_to_the_start(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("talker", "A tale with a reset")
    await deployment.cast.talk("A tale with a reset").finish()
    await deployment.until_rest(job)
    await page.goto("/")
    await page.evaluate(WITNESS, [job, str(Cursor("deadbeef", 3))])
    events = await deployment.events(job)
    await page.wait_for_function("(most) => window.heard.length >= most", arg=len(events))

    assert await page.evaluate("() => [window.resets, window.heard]") == [
        1,
        [list(one) for one in events],
    ]


STEPS = 640


async def long_job(deployment: Stage, name: str) -> int:
    """A job of 5,000 events, written straight into the log; how many there are.

    It is at rest after each envelope, so that no worker finds anything to do in it.
    """
    log, pen, count = deployment.backbone.log, Pen(RunRef("default", name, name)), 0
    for step in range(1, STEPS + 1):
        call = ToolCallRequested(
            call=f"c{step}-0",
            step=step,
            provider_id="p",
            tool="exec",
            skill="base",
            lane=Lane.SANDBOX,
            safety=Safety.UNSAFE,
            arguments=f'{{"command": "step {step}"}}',
            key="k",
        )
        ended = ToolCallEnded(call=call.call, outcome="succeeded", content=(TextPart(text="ok"),))
        begins = started("talker") if step == 1 else continued(f"c{step}", step)
        end = RunCompleted(step=step, result="The end.")
        reply = replied(step, f"Reply {step}.")
        events = (*begins, reply, call, ended, StepEnded(step=step), end)
        await pen.write(log, *events)
        count += len(events)
    return count


async def test_a_job_of_5000_events_stays_usable(page: Page, deployment: Stage) -> None:
    count = await long_job(deployment, "long")
    await page.goto("/#/job/long/conversation")
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await expect(page.locator("article.reply").last).to_contain_text(f"Reply {STEPS}.")
    found = await seen(page)
    assert (found["events"], found["missing"]) == (count, 0)
    assert count > 5_000
    shown = await page.locator(".talk-list > *").count()
    assert shown <= 150

    await page.get_by_role("button", name="Show earlier").click()
    await expect(page.locator(".talk-list > *")).to_have_count(shown + 150)
    await page.get_by_role("link", name="Timeline").click()
    await expect(page.locator(".lanes svg")).to_be_visible()
    assert await page.locator(".lanes rect").count() < 2_500
    await page.get_by_text("As a table").click()
    await expect(page.get_by_role("table", name="Timeline").get_by_role("row")).to_have_count(501)
