"""What people see of a run: the live view and the words in it. Not where it is written."""

import pytest

from domain import events as e
from domain.content import BlobRef, CallPart, TextPart
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.record import canonical
from domain.tools import Lane, Safety
from eventlog.port import Cursor
from peritus.cli.live_view import OUTPUT_LINES_MAX, LiveView
from peritus.cli.wording import call_line, clean, duration, outcome_line, short, usage_line
from peritus.feed import Heard
from services.worker.live import LiveDelta, LiveToolOutput

ROOT = RunRef("t", "root", "root")
CHILD = RunRef("t", "root", "child")


def heard(event: e.Event, ref: RunRef = ROOT, at_ms: int = 0) -> Heard:
    return Heard(Cursor("a", 1), ref, 1, at_ms, event)


def started(expert: str, depth: int = 0) -> list[e.Event]:
    model = ModelChoice(provider="scripted", model="m")
    return [
        e.RunStarted(command="c", expert=expert, definition="d", limits=Limits(), depth=depth),
        e.ContextPinned(renderer="r", context="x", context_bytes=1, model=model, tools=()),
    ]


def requested(step: int, attempt: int = 1) -> e.GenerationRequested:
    return e.GenerationRequested(step=step, attempt=attempt, request="r", reserved=0)


def completed(step: int, text: str, usage: Usage | None = None) -> e.GenerationCompleted:
    return e.GenerationCompleted(
        step=step,
        attempt=1,
        stop_reason="end",
        parts=(TextPart(text=text),),
        usage=usage,
        charged=0,
    )


def delta(step: int, offset: int, text: str) -> bytes:
    piece = LiveDelta(step=step, attempt=1, kind="text", part=0, offset=offset, text=text)
    return canonical(piece)


def ended(text: str, *, is_error: bool = False) -> e.ToolCallEnded:
    return e.ToolCallEnded(
        call="c1-0",
        outcome="failed" if is_error else "succeeded",
        content=(TextPart(text=text),),
        is_error=is_error,
        duration_ms=12,
    )


@pytest.fixture
def view() -> LiveView:
    made = LiveView(ROOT, colour=False)
    for event in started("clerk"):
        made.heard(heard(event))
    return made


def shown(view: LiveView, *events: e.Event, ref: RunRef = ROOT) -> str:
    return "".join(view.heard(heard(event, ref)) for event in events)


def test_a_reply_is_shown_while_it_is_made_and_only_once(view: LiveView) -> None:
    written = [
        shown(view, requested(1)),
        view.piece(ROOT, delta(1, 0, "Good ")),
        view.piece(ROOT, delta(1, 5, "mor")),
        shown(view, completed(1, "Good morning.")),
    ]

    assert "".join(written) == "── step 1\nGood morning.\n"


def test_pieces_that_overtake_the_log_wait_for_what_led_to_them(view: LiveView) -> None:
    shown(view, requested(1), completed(1, "One."))
    early = view.piece(ROOT, delta(2, 0, "Two"))
    late = shown(view, requested(2))

    assert early == ""
    assert late == "── step 2\nTwo"


def test_a_lost_piece_is_made_up_for_by_the_whole_reply(view: LiveView) -> None:
    shown(view, requested(1))
    view.piece(ROOT, delta(1, 0, "Good "))
    lost = view.piece(ROOT, delta(1, 9, "ning."))

    assert lost == ""
    assert shown(view, completed(1, "Good morning.")) == "morning.\n"


def test_two_runs_never_write_into_one_line(view: LiveView) -> None:
    for event in started("helper", depth=1):
        view.heard(heard(event, CHILD))
    shown(view, requested(1))
    shown(view, requested(1), ref=CHILD)
    view.piece(ROOT, delta(1, 0, "I am "))

    assert view.piece(CHILD, delta(1, 0, "Me too")) == ""
    assert shown(view, completed(1, "Me too."), ref=CHILD) == "\n  Me too.\n"


def test_delegates_are_indented_by_their_depth(view: LiveView) -> None:
    lines = "".join(view.heard(heard(event, CHILD)) for event in started("helper", depth=1))

    assert lines == "  ● helper  child  scripted m\n"


def test_calls_are_shown_with_their_outcome(view: LiveView) -> None:
    call = e.ToolCallRequested(
        call="c1-0",
        step=1,
        provider_id="p",
        tool="exec",
        skill="base",
        lane=Lane.SANDBOX,
        safety=Safety.UNSAFE,
        arguments='{"command": "python3", "args": ["-m", "unittest"]}',
        key="k",
    )
    text = '{"exitCode": 1, "output": "boom\\n----\\nFAILED\\n"}'

    assert shown(view, call, ended(text, is_error=True)) == (
        "▸ exec python3 -m unittest\n  ✗ exec 12 ms  exit 1: boom / FAILED\n"
    )


def test_a_result_that_was_said_last_is_not_repeated(view: LiveView) -> None:
    shown(view, requested(1), completed(1, "The answer."))

    assert view.result("The answer.") == ""
    assert view.result("Another.") == "\nAnother.\n"


def test_the_end_tells_steps_time_and_tokens(view: LiveView) -> None:
    shown(view, requested(1), completed(1, "Done.", Usage(input=1_200, output=30, cached=900)))
    end = view.heard(heard(e.RunCompleted(step=1, result="Done."), at_ms=2_500))

    assert end == "✔ completed in step 1 · 2.5 s · 1,200 tokens in (900 cached), 30 out\n"


def test_a_failed_attempt_tells_when_the_next_one_is_due_and_counts_what_it_used(
    view: LiveView,
) -> None:
    failure = e.Failure(kind="rate_limited", message="slow down", status=429)
    failed = e.GenerationFailed(
        step=1, attempt=1, failure=failure, retryable=True, usage=Usage(input=5), charged=5
    )
    timer = e.TimerArmed(timer="retry-1-1", purpose="retry", due_ms=3_200)

    written = shown(view, requested(1), failed, timer, requested(1, 2))
    end = view.heard(heard(e.RunCompleted(step=1, result="")))

    assert written == (
        "── step 1\n! attempt 1 failed: rate_limited: slow down\n  next attempt in 3.2 s\n"
    )
    assert "5 tokens in" in end


def test_the_time_of_a_run_that_goes_on_is_that_since_it_went_on(view: LiveView) -> None:
    view.heard(heard(e.RunContinued(command="c"), at_ms=60_000))

    end = view.heard(heard(e.RunCompleted(step=2, result=""), at_ms=60_500))

    assert end == "✔ completed in step 2 · 500 ms\n"


def test_a_query_too_large_for_the_log_is_shown_by_its_size(view: LiveView) -> None:
    query = TextPart(text=BlobRef(digest="0" * 64, size=1_000_000))

    said = e.InputReceived(input="i", speaker="user", parts=(query,))

    assert shown(view, said) == "» 1,000,000 bytes of text\n"


def test_what_a_model_says_cannot_control_the_terminal(view: LiveView) -> None:
    shown(view, requested(1))
    text = "\x1b[2Jgone\x07\x9b31m\u202eback"

    assert view.piece(ROOT, delta(1, 0, text)) == "[2Jgone31mback"
    assert clean("\x1b]0;title\x07a\tb\nc") == "]0;titlea\tb\nc"


def test_what_is_not_a_piece_of_a_reply_is_left_out(view: LiveView) -> None:
    shown(view, requested(1))

    assert view.piece(ROOT, canonical(LiveToolOutput(call="c", offset=0, text="x"))) == ""


def calling(tool: str) -> e.ToolCallRequested:
    return e.ToolCallRequested(
        call="c1-0",
        step=1,
        provider_id="p",
        tool=tool,
        skill="s",
        lane=Lane.SANDBOX,
        safety=Safety.UNSAFE,
        arguments="{}",
        key="k",
    )


def output(text: str) -> bytes:
    return canonical(LiveToolOutput(call="c1-0", offset=0, text=text))


def test_what_a_server_of_a_skill_says_is_shown_while_its_tool_is_at_work(view: LiveView) -> None:
    shown(view, requested(1), calling("index"))

    assert view.piece(ROOT, output("[1/4] read")) == ""
    assert view.piece(ROOT, output("ing\n\n\x1b[2J[2/4]\n")) == "  · [1/4] reading\n  · [2J[2/4]\n"
    many = "".join(view.piece(ROOT, output(f"{number}\n" * 3)) for number in range(100))
    assert many.count("\n") == OUTPUT_LINES_MAX - 2
    assert len(view.piece(ROOT, output("x" * 10_000))) == 0


def test_a_long_line_of_a_server_is_cut(view: LiveView) -> None:
    shown(view, requested(1), calling("index"))

    said = view.piece(ROOT, output("x" * 100_000 + "\n"))

    assert 0 < len(said) < 300


def test_what_commands_print_is_in_their_results_alone(view: LiveView) -> None:
    shown(view, requested(1), calling("exec"))

    assert view.piece(ROOT, output("a line\n")) == ""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ('{"path": "a.py", "from": 3}', "tool path=a.py from=3"),
        ('{"command": "ls"}', "tool ls"),
        ("not json", "tool not json"),
        ("", "tool"),
        ('{"deep": {"a": [1]}}', 'tool deep={"a": [1]}'),
    ],
)
def test_a_call_reads_as_a_person_would_note_it_down(arguments: str, line: str) -> None:
    assert call_line("tool", arguments) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"error": "not_found", "message": "no such file"}', "no such file"),
        ('{"items": [{"name": "a"}, {"name": "b"}]}', "2 entries: a, b"),
        ('{"path": "x", "content": "a\\nb\\n"}', "2 lines"),
        ('{"path": "x", "bytes": 3, "created": true}', "bytes 3, created true"),
        ("plain text", "plain text"),
        ('{"exitCode": 0, "output": "fine\\n"}', "fine"),
        ('{"exitCode": 143, "output": "", "timedOut": true}', "timed out"),
        ('{"exitCode": 143, "output": "half", "timedOut": true}', "timed out: half"),
    ],
)
def test_an_outcome_shows_its_telling_part(text: str, line: str) -> None:
    assert outcome_line(ended(text)) == line


def test_numbers_read_naturally() -> None:
    assert duration(7) == "7 ms"
    assert duration(61_000) == "1 min 1 s"
    assert usage_line(Usage()) == ""
    assert short("a\n  b" * 10, 5) == "a ba…"


def test_calls_of_a_reply_are_not_text(view: LiveView) -> None:
    reply = completed(1, "x").model_copy(
        update={"parts": (CallPart(provider_id="p", tool="t", arguments="{}"),)}
    )

    assert shown(view, reply) == ""


def test_what_the_model_said_to_tools_is_in_the_usage_of_the_run() -> None:
    """C12."""
    view = LiveView(ROOT, colour=False)
    for event in (*started("boss"), requested(1)):
        view.heard(heard(event))
    used = Usage(input=1_200, output=34)
    view.heard(heard(e.SamplingEnded(ask="q1", how="replied", usage=used, charged=1_234)))
    assert usage_line(used) in view.heard(heard(e.RunCompleted(step=1, result="done")))


def test_fork_is_told_with_where_it_comes_from(view: LiveView) -> None:
    forked = e.RunForked(
        command="c",
        source=e.Source(job="j", run="first", version=9, hash="h" * 64),
        generation=1,
        step=3,
        expert="boss",
        definition="d",
        limits=Limits(),
    )
    lines = shown(view, forked, started("boss")[1]).splitlines()
    assert lines == ["⑂ from run first after step 3", "● boss  root  scripted m"]
