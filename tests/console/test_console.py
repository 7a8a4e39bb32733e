"""The console in a real Chromium: jobs started, watched, decided about and steered by people."""

import re

import pytest
from playwright.async_api import Locator, Page, expect

from domain.envelope import decode
from domain.events import ApprovalDecided, ApprovalRequested, RunCancelled
from domain.ids import RunRef
from tests.console.stage import LETTER, MARKUP, Stage

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.browser]


async def open_job(page: Page, job: str, part: str = "conversation") -> None:
    """The page of a job, as soon as its stream has told of it."""
    await page.goto(f"/#/job/{job}/{part}")
    await expect(page.locator(".job-status .chip")).to_be_visible()


def wait_card(page: Page) -> Locator:
    """What waits for a person."""
    return page.get_by_role("region", name="Waiting for you").locator("article")


async def test_a_stranger_signs_in_with_a_key_and_sees_the_jobs(
    stranger: Page, deployment: Stage
) -> None:
    await stranger.goto("/")
    await expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()
    await stranger.get_by_label("API key").fill("wrong")
    await stranger.get_by_role("button", name="Sign in").click()
    await expect(stranger.get_by_role("alert").first).to_contain_text("not known here")
    await stranger.get_by_label("API key").fill(deployment.key)
    await stranger.get_by_role("button", name="Sign in").click()
    await expect(stranger.get_by_role("heading", name="Jobs")).to_be_visible()

    cookies = await stranger.context.cookies()
    assert [(one.get("name"), one.get("httpOnly")) for one in cookies] == [
        ("peritus_session", True)
    ]
    await stranger.get_by_role("button", name="Sign out").click()
    await expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_job_is_started_and_its_text_is_seen_as_it_comes(
    page: Page, deployment: Stage
) -> None:
    talk = deployment.cast.talk("Tell me a story")
    await page.goto("/#/start")
    await page.get_by_label("Expert").select_option("talker")
    await page.get_by_label("What is to be done?").fill("Tell me a story")
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_role("heading", level=1, name="Tell me a story")).to_be_visible()
    await talk.let(4)
    await expect(page.locator(".live.text")).to_have_text("Once upon a time, ")
    await expect(page.get_by_text("writing…")).to_be_visible()
    await expect(page.locator("details.thinking")).not_to_have_attribute("open", re.compile(".*"))
    await talk.finish()
    await expect(page.locator("article.reply .prose")).to_have_text(talk.text.strip())
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await page.locator("details.thinking summary").click()
    await expect(page.locator(".thought")).to_have_text(talk.thought)


async def test_a_job_is_started_with_limits_and_a_file(page: Page) -> None:
    await page.goto("/#/start")
    await page.get_by_label("Expert").select_option("clerk")
    await page.get_by_label("What is to be done?").fill("Read this")
    await page.get_by_label("Attachments").set_input_files(
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Grey, not blue."}
    )
    await page.get_by_text("Limits and model").click()
    await page.get_by_label("Steps at most").fill("7")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator("article.input").first).to_contain_text("Read this")
    await expect(page.locator("article.input").first).to_contain_text("Grey, not blue.")
    assert await page.evaluate("() => [...peritusJob().runs.values()][0].stepsMax") == 7


async def test_what_is_approved_is_what_was_shown_and_a_question_is_answered(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("clerk", "Write to Ada")
    await open_job(page, job)
    card = wait_card(page)
    await expect(card.get_by_role("heading")).to_have_text("May send run?")
    shown = await card.get_by_label("Exact arguments").inner_text()
    digest = await card.locator("[data-digest]").get_attribute("data-digest")
    await card.get_by_label("Reason").fill("she waits for it")
    await card.get_by_role("button", name="Approve").click()
    await expect(card.get_by_role("heading")).to_have_text("question asks")
    await expect(card.locator(".question")).to_have_text("Which colour?")
    await card.get_by_label("Your answer").fill("dark blue")
    await card.get_by_role("button", name="Answer").click()
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await expect(wait_card(page)).to_have_count(0)

    stored = await deployment.backbone.log.load(RunRef("default", job, job))
    events = [event for one in stored for event in decode(one.data).events]
    asked = [one for one in events if isinstance(one, ApprovalRequested)]
    decided = [one for one in events if isinstance(one, ApprovalDecided)]
    assert [one.digest for one in asked] == [digest]
    assert [(one.verdict, one.digest, one.reason) for one in decided] == [
        ("approved", digest, "she waits for it")
    ]
    assert shown.replace(" ", "").replace("\n", "") == LETTER.replace(" ", "")
    assert {"to": "Ada", "text": "Dear Ada"} in deployment.sent


async def test_a_call_is_changed_before_it_runs_and_the_choice_is_remembered(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("clerk", "Write to Eve")
    await open_job(page, job)
    card = wait_card(page)
    await card.get_by_role("button", name="Edit").click()
    await card.get_by_label("Arguments to run instead").fill('{"to": "Eve"')
    await card.get_by_role("button", name="Approve changed").click()
    await expect(page.locator(".toast")).to_contain_text("Arguments to run instead")
    await card.get_by_label("Arguments to run instead").fill('{"to": "Eve"}')
    await card.get_by_label("It holds for").select_option("tool")
    await card.get_by_role("button", name="Approve changed").click()
    await expect(card.get_by_role("heading")).to_have_text("question asks")
    await page.locator("details.call summary", has_text="send").click()
    await expect(page.locator("details.call[open]")).to_contain_text("as a person changed it")
    await expect(page.locator(".note", has_text="The rules changed")).to_be_visible()
    assert {"to": "Eve"} in deployment.sent


async def test_arguments_that_deceive_the_eye_are_seen_as_they_are(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("trickster", "Deceive")
    await open_job(page, job)
    card = wait_card(page)
    await expect(card.get_by_label("Exact arguments")).to_have_text(
        '{\n  "to": "gpj.\\u202eexe",\n  "id": 12345678901234567890,\n  "to": "Eve"\n}'
    )
    await card.get_by_role("button", name="Edit").click()
    await card.get_by_role("button", name="Approve changed").click()
    await expect(page.locator(".toast")).to_contain_text("rounds numbers")
    await expect(card.get_by_role("button", name="Approve changed")).to_be_visible()


async def test_a_call_is_denied_and_the_expert_is_told(page: Page, deployment: Stage) -> None:
    before = len(deployment.sent)
    job = await deployment.start("clerk", "Write to nobody")
    await open_job(page, job)
    await wait_card(page).get_by_role("button", name="Deny").click()
    await expect(page.locator("details.call", has_text="send")).to_contain_text("refused")
    assert len(deployment.sent) == before


async def test_what_waits_under_a_team_is_decided_at_the_top_of_its_job(
    page: Page, deployment: Stage
) -> None:
    job = await deployment.start("lead", "Have it written")
    await open_job(page, job)
    tree = page.get_by_role("navigation", name="Runs of the job")
    await expect(tree.get_by_role("link")).to_have_count(2)
    await expect(tree.get_by_role("link", name="clerk")).to_contain_text("waits for you")
    await wait_card(page).get_by_role("button", name="Approve").click()
    await tree.get_by_role("link", name="clerk").click()
    await expect(tree.get_by_role("link", name="clerk")).to_have_attribute("aria-current", "true")
    await expect(page.locator("article.input")).to_contain_text("Write it.")
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await tree.get_by_role("link", name="lead").click()
    await expect(page.locator("article.reply").last).to_contain_text("It is written.")


async def test_a_run_is_paused_resumed_steered_and_cancelled(page: Page, deployment: Stage) -> None:
    job = await deployment.start("talker", "Talk until I say stop")
    talk = deployment.cast.talk("Talk until I say stop")
    await open_job(page, job)
    await talk.let(2)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator(".job-status")).to_contain_text("paused")
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator(".job-status")).to_contain_text("running")
    await page.get_by_label("Steer talker").fill("Be brief.")
    await page.get_by_role("button", name="Steer").click()
    await expect(page.locator("article.input").last).to_contain_text("Be brief.")
    await page.get_by_role("button", name="Cancel job…").click()
    dialog = page.get_by_role("dialog", name="Cancel this job?")
    await dialog.get_by_role("button", name="Go back").click()
    await expect(dialog).to_have_count(0)
    await page.get_by_role("button", name="Cancel job…").click()
    await dialog.get_by_label("Reason").fill("enough")
    await dialog.get_by_role("button", name="Cancel the job").click()
    await expect(page.locator(".job-status")).to_contain_text("cancelled")
    await expect(page.locator(".note", has_text="enough")).to_be_visible()
    await expect(page.get_by_role("button", name="Pause")).to_have_count(0)

    stored = await deployment.backbone.log.load(RunRef("default", job, job))
    assert isinstance(decode(stored[-1].data).events[-1], RunCancelled)


async def test_a_run_at_rest_is_continued(page: Page, deployment: Stage) -> None:
    job = await deployment.start("talker", "One thing")
    await deployment.cast.talk("One thing").finish()
    await open_job(page, job)
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await page.get_by_label("Continue with talker").fill("And another")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("article.input").last).to_contain_text("And another")
    await expect(page.locator("article.reply").last).to_contain_text("And more.")
    await expect(page.locator("article.end")).to_have_count(2)


async def test_markup_of_people_models_and_tools_stays_text(page: Page, deployment: Stage) -> None:
    job = await deployment.start("shouter", MARKUP)
    await deployment.until_rest(job)
    await open_job(page, job)
    await page.locator("details.call summary").click()
    await expect(page.locator("details.call pre").last).to_have_text(MARKUP)
    await expect(page.locator("article.reply").last).to_contain_text(MARKUP.split("[")[0])

    found = page.locator("main img, main script, main b, main a[href^=javascript]")
    assert await found.count() == 0
    assert await page.evaluate("() => window.owned") is None


async def test_what_is_too_large_for_an_event_is_fetched_when_somebody_asks(
    page: Page, deployment: Stage
) -> None:
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    job = await deployment.start("flooder", "Read a lot")
    await open_job(page, job)
    await expect(page.locator(".job-status")).to_contain_text("completed")
    await page.locator("details.call summary").click()
    call = page.locator("details.call")
    show = call.get_by_role("button", name=re.compile(r"^Show .* KiB$")).last
    await expect(show).to_be_visible()
    assert [url for url in asked if "/v1/blobs/" in url] == []
    await show.click()
    await call.get_by_role("button", name=re.compile("^Show all")).last.click()
    await expect(call.locator("pre").last).to_contain_text("line 7999")
    assert len([url for url in asked if "/v1/blobs/" in url]) == 1


async def test_a_key_that_is_taken_back_leads_to_the_login(
    stranger: Page, deployment: Stage
) -> None:
    admin = {"Authorization": f"Bearer {deployment.key}"}
    made = await stranger.request.post(
        "/v1/keys", data={"name": "short", "role": "operator"}, headers=admin
    )
    job = await deployment.start("talker", "Talk to whoever is there")
    await stranger.goto(f"/#/job/{job}/conversation")
    await stranger.get_by_label("API key").fill((await made.json())["key"])
    await stranger.get_by_role("button", name="Sign in").click()
    await expect(stranger.locator(".job-line .connection")).to_have_text("Live")
    await stranger.request.delete("/v1/keys/short", headers=admin)
    await expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_who_may_only_look_is_offered_nothing_else(
    stranger: Page, page: Page, deployment: Stage
) -> None:
    job = await deployment.start("clerk", "Write to the viewer")
    made = await page.request.post(
        "/v1/keys",
        data={"name": "looker", "role": "viewer"},
        headers={"Authorization": f"Bearer {deployment.key}"},
    )
    key = (await made.json())["key"]
    await stranger.context.clear_cookies()
    await stranger.goto("/#/start")
    await stranger.get_by_label("API key").fill(key)
    await stranger.get_by_role("button", name="Sign in").click()
    await expect(stranger.get_by_text("Your role may look, not start.")).to_be_visible()
    await open_job(stranger, job)
    await expect(wait_card(stranger)).to_contain_text("Your role may look, not decide.")
    for name in ("Approve", "Pause", "Cancel job…", "Steer"):
        await expect(stranger.get_by_role("button", name=name)).to_have_count(0)
