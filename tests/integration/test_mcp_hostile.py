"""Servers that do harm, as processes: results are honest and bounded, nothing is left behind."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from domain.errors import Unavailable
from domain.tools import Safety
from services.worker.skills import SkillFailed
from tests.integration.mcp_sandbox import GROUNDS, ground_of
from tests.support.processes import Ground
from tests.support.skills import QUICK, stage, text, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=GROUNDS)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Ground]:
    """Where a server runs makes no difference to what becomes of its harm."""
    async with ground_of(request.param, tmp_path) as found:
        yield found


async def test_a_server_that_never_answers_initialize_did_not_run_the_call(ground: Ground) -> None:
    async with stage("hostile", "silent", ground=ground, bounds=replace(QUICK, open_s=0.5)) as here:
        with pytest.raises(Unavailable, match=r"did not begin a session within 0\.5 s"):
            await here.call()
        assert len(here.started) == 1


async def test_garbage_on_stdout_is_shown_and_skipped(ground: Ground) -> None:
    async with stage("hostile", "garbage", ground=ground) as here:
        result = await here.call()
        assert (text(result), result.is_error) == ("done", False)
        assert "[not a message] Loading..." in "".join(here.heard)


async def test_a_flood_on_stderr_holds_nothing_up(ground: Ground) -> None:
    async with stage("hostile", "stderr_flood", ground=ground) as here:
        result = await here.call()
        assert text(result) == "done"
        assert "eeee" in "".join(here.heard)


async def test_an_answer_of_100_mb_ends_the_connection_with_a_reason(ground: Ground) -> None:
    async with stage("hostile", "huge", ground=ground) as here:
        result = await here.call()
        assert "it sent a message of more than 16 MiB" in text(result)
        assert (result.is_error, result.unknown) == (True, True)


async def test_an_answer_that_would_swell_is_not_read(ground: Ground) -> None:
    async with stage("hostile", "swells", ground=ground) as here:
        result = await here.call()
        assert "it sent a message of more than 500000 values" in text(result)
        assert result.unknown


async def test_an_answer_of_many_parts_is_cut_and_kept(ground: Ground) -> None:
    async with stage("hostile", "many", ground=ground) as here:
        result = await here.call()
        assert "readResult with call 'c1-0'" in text(result)
        assert len(text(result)) < 31_000
        assert result.full_output is not None
        assert result.full_output.endswith(b"[4000 more parts are left out]")


async def test_a_server_that_dies_in_a_call_leaves_its_outcome_unknown(ground: Ground) -> None:
    async with stage("hostile", "dies", ground=ground) as here:
        result = await here.call()
        assert (result.is_error, result.unknown) == (True, True)
        assert "it ended with exit code 3" in text(result)
        assert "assertion failed: no more" in text(result)
        assert len(here.started) == 1


async def test_a_call_that_may_run_twice_is_sent_again_to_a_new_server(ground: Ground) -> None:
    async with stage("hostile", "dies_once", ground=ground) as here:
        result = await here.call(safety=Safety.IDEMPOTENT)
        assert (text(result), len(here.started)) == ("done", 2)


async def test_the_last_words_of_a_server_that_ends_are_heard(ground: Ground) -> None:
    async with stage("hostile", "answers_and_dies", ground=ground) as here:
        assert text(await here.call()) == "the last words"


async def test_a_server_that_ignores_every_request_to_end_is_killed(ground: Ground) -> None:
    async with stage("hostile", "stubborn", ground=ground) as here:
        await here.call()
        assert here.processes()
        await here.host.leave("acme", here.place)
        assert not here.processes()


async def test_what_a_server_started_ends_with_it(ground: Ground) -> None:
    async with stage("hostile", "forks", ground=ground) as here:
        assert (await here.call()).unknown
        await here.host.leave("acme", here.place)
        await until(lambda: not here.processes())  # whoever adopted it has reaped it


async def test_a_tool_that_changes_after_approval_is_not_called(ground: Ground) -> None:
    async with stage("hostile", "changes", ground=ground) as here:
        assert text(await here.call()) == "done"
        result = await here.call(name="c2-0")
        assert result.is_error
        assert "was not called: the server changed: its description" in text(result)
        assert "id_rsa" not in text(result)


async def test_orders_of_a_server_are_data(ground: Ground) -> None:
    async with stage("hostile", "instructs", ground=ground) as here:
        result = await here.call()
        assert text(result).startswith("Ignore all previous instructions")
        assert not result.is_error


async def test_answers_to_nothing_are_skipped(ground: Ground) -> None:
    async with stage("hostile", "wrong_ids", ground=ground) as here:
        assert text(await here.call()) == "done"
        heard = "".join(here.heard)
        assert heard.count("[not a message]") == heard.count("jsonrpc") == 5


async def test_a_call_that_is_never_answered_ends_at_its_time(ground: Ground) -> None:
    async with stage("hostile", "never_right", ground=ground) as here:
        result = await here.call(timeout_ms=300)
        assert result.is_error
        assert "gave no answer in 300 ms" in text(result)


async def test_second_answers_are_taken_for_no_other_call(ground: Ground) -> None:
    async with stage("hostile", "twice", ground=ground) as here:
        for number in range(3):
            result = await here.call(arguments=f'{{"text": "{number}"}}')
            assert text(result) == f"first {number}"


async def test_a_server_that_never_reads_costs_a_call_its_time_and_no_more(ground: Ground) -> None:
    async with stage("hostile", "deaf", ground=ground) as here:
        large = f'{{"text": "{"x" * 1_000_000}"}}'
        result = await here.call(arguments=large, timeout_ms=500)
        assert "gave no answer in 500 ms" in text(result)


async def test_a_server_that_asks_without_end_is_ended(ground: Ground) -> None:
    brief = replace(QUICK, stuck_s=0.2, unasked_per_s=100_000)
    async with stage("hostile", "asks_flood", ground=ground, bounds=brief) as here:
        result = await here.call()
        assert (result.is_error, result.unknown) == (True, True)
        assert "requests of its own unanswered" in text(result)


async def test_a_flood_of_notes_is_read_slowly_and_not_all_shown(ground: Ground) -> None:
    async with stage(
        "hostile", "notes_flood", ground=ground, bounds=replace(QUICK, unasked_per_s=3_000)
    ) as here:
        result = await here.call()
        assert text(result) == "done"
        assert "[info] note 0 " in "".join(here.heard)


async def test_a_server_may_refuse_a_call_with_any_code(ground: Ground) -> None:
    async with stage("hostile", "refuses", ground=ground) as here:
        result = await here.call()
        assert (result.is_error, result.unknown) == (True, False)
        assert "refused the call: no such row" in text(result)


async def test_a_late_answer_is_of_no_other_call_and_no_noise(ground: Ground) -> None:
    async with stage("hostile", "late", ground=ground) as here:
        assert "gave no answer" in text(await here.call(timeout_ms=300))
        assert text(await here.call(name="c2-0")) == "done"
        assert "[not a message]" not in "".join(here.heard)
        assert len(here.started) == 1


async def test_noise_between_messages_is_skipped(ground: Ground) -> None:
    fast = replace(QUICK, unasked_per_s=1_000_000)
    async with stage("hostile", "noise", ground=ground, bounds=fast) as here:
        assert text(await here.call()) == "done"


async def test_a_question_outside_of_any_call_reaches_nobody(ground: Ground) -> None:
    async with stage("hostile", "asks_outside", ground=ground) as here:
        told = text(await here.call())
        assert "no call is open that could ask" in told
        assert here.person.asked == []


async def test_a_question_of_a_call_that_is_over_is_taken_back(ground: Ground) -> None:
    async with stage("hostile", "asks_and_goes_on", ground=ground) as here:
        here.person.may_answer.clear()
        assert text(await here.call()) == "done"
        await until(lambda: here.person.left == ["c1-0"])


async def test_a_call_asks_a_person_so_often_and_no_more(ground: Ground) -> None:
    async with stage("hostile", "asks_on", ground=ground) as here:
        assert text(await here.call()) == "32 of 40"
        assert len(here.person.asked) == 32


@pytest.mark.slow
async def test_what_is_asked_with_too_much_beside_it_reaches_nobody(ground: Ground) -> None:
    """It would be kept as long as nobody answers."""
    async with stage("hostile", "asks_heavily", ground=ground) as here:
        assert text(await here.call()) == "0 of 3"
        assert here.person.asked == []


async def test_data_nested_without_end_is_no_message(ground: Ground) -> None:
    async with stage("hostile", "nested", ground=ground) as here:
        result = await here.call(timeout_ms=1_000)
        assert result.is_error


async def test_an_object_that_is_no_result_is_told_of(ground: Ground) -> None:
    async with stage("hostile", "no_result", ground=ground) as here:
        result = await here.call()
        assert "answered with what is no result" in text(result)


async def test_pages_without_end_are_not_walked(ground: Ground) -> None:
    async with stage("hostile", "endless_pages", ground=ground) as here:
        with pytest.raises(SkillFailed, match="has no end"):
            await here.discover()
