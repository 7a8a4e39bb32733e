"""The scripted and function models, as a run sees them. Not the loop around them."""

import asyncio
from pathlib import Path

import pytest

from domain.content import (
    AssistantMessage,
    BlobRef,
    CallPart,
    Message,
    ResultPart,
    TextPart,
    UserMessage,
)
from domain.limits import ModelChoice, Usage
from domain.prompt import ModelContext, ModelRequest, SystemBlock
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.script import ScriptReply, load_script, parse_script
from services.loop.models.scripted import FunctionModel, ScriptedModel
from services.loop.models.thought import thought_of

pytestmark = pytest.mark.anyio


def request_of(
    *messages: Message,
    system: tuple[SystemBlock, ...] = (),
    digest: str = "d1",
    blobs: dict[str, bytes] | None = None,
) -> ModelRequest:
    context = ModelContext(
        renderer="test",
        model=ModelChoice(provider="scripted", model="inline"),
        system=system,
        tools=(),
    )
    return ModelRequest(context=context, messages=messages, digest=digest, blobs=blobs or {})


def told(text: str) -> UserMessage:
    return UserMessage(parts=(TextPart(text=text),))


def said(text: str) -> AssistantMessage:
    return AssistantMessage(parts=(TextPart(text=text),))


async def play(
    model: ScriptedModel | FunctionModel, request: ModelRequest
) -> tuple[ModelReply, list[Delta]]:
    deltas: list[Delta] = []

    async def on_delta(delta: Delta) -> None:
        deltas.append(delta)

    async with asyncio.timeout(5):
        return await model.generate(request, on_delta), deltas


SCRIPT = """
[[reply]]
thinking = "a file will do"
text = "I write it."
usage = { input = 10, output = 5 }

[[reply.call]]
tool = "writeTextFile"
arguments = { path = "a.txt", text = "hi" }

[[reply.call]]
tool = "exec"
arguments_text = '{"broken'

[[reply]]
text = "done"
expect = "it is written"

[[experts.critic.reply]]
text = "it is bad"
"""


async def test_reply_holds_thinking_text_and_calls_in_that_order() -> None:
    model = ScriptedModel.of(parse_script(SCRIPT, name="s"))
    reply, _ = await play(model, request_of(told("go")))
    assert [part.kind for part in reply.parts] == ["thinking", "text", "call", "call"]
    assert reply.stop_reason == "tool_calls"
    assert reply.usage == Usage(input=10, output=5)
    first, second = (part for part in reply.parts if isinstance(part, CallPart))
    assert first.arguments == '{"path":"a.txt","text":"hi"}'
    assert second.arguments == '{"broken'
    assert first.provider_id != second.provider_id


async def test_same_request_gets_same_reply_from_another_instance() -> None:
    script = parse_script(SCRIPT, name="s")
    request = request_of(told("go"))
    one, _ = await play(ScriptedModel.of(script), request)
    other_model = ScriptedModel.of(script)
    await play(other_model, request)
    again, _ = await play(other_model, request)
    assert one == again


async def test_number_of_assistant_messages_decides_which_reply_is_due() -> None:
    model = ScriptedModel(["one", "two"])
    reply, _ = await play(model, request_of(told("a"), said("x"), told("b")))
    assert reply.parts == (TextPart(text="two"),)


async def test_script_without_a_due_reply_is_exhausted() -> None:
    with pytest.raises(ModelFailure) as caught:
        await play(ScriptedModel(["one"]), request_of(told("a"), said("one"), told("b")))
    assert caught.value.kind == "exhausted"
    assert not caught.value.retryable


async def test_expert_with_own_replies_gets_those() -> None:
    model = ScriptedModel.of(parse_script(SCRIPT, name="s"))
    block = SystemBlock(name="expert", text="critic\nYou find faults.")
    reply, _ = await play(model, request_of(told("go"), system=(block,)))
    assert reply.parts == (TextPart(text="it is bad"),)


async def test_expert_without_own_replies_gets_the_default_ones() -> None:
    model = ScriptedModel(["default"], experts={"critic": ["critic"]})
    block = SystemBlock(name="expert", text="writer")
    reply, _ = await play(model, request_of(told("go"), system=(block,)))
    assert reply.parts == (TextPart(text="default"),)


async def test_expected_text_is_found_in_a_tool_result_kept_by_digest() -> None:
    blob = BlobRef(digest="abc", size=13)
    result = ResultPart(provider_id="c", tool="exec", content=(TextPart(text=blob),))
    request = request_of(
        told("a"), said("x"), UserMessage(parts=(result,)), blobs={"abc": b"it is written"}
    )
    reply, _ = await play(ScriptedModel.of(parse_script(SCRIPT, name="s")), request)
    assert reply.parts == (TextPart(text="done"),)


async def test_each_expected_text_has_to_be_there() -> None:
    model = ScriptedModel([ScriptReply(text="both", expect=("apples", "pears"))])

    reply, _ = await play(model, request_of(told("pears and apples")))
    with pytest.raises(ModelFailure) as missed:
        await play(model, request_of(told("only apples")))

    assert "expects 'apples' and 'pears' in" in missed.value.message
    assert reply.parts == (TextPart(text="both"),)


async def test_another_reply_in_its_place_is_given_by_what_the_model_is_told() -> None:
    script = parse_script(
        """
        [[reply]]
        text = "repaired"
        expect = "FAILED"
        [[reply.otherwise]]
        text = "done"
        expect = "OK"
        """,
        name="fork.toml",
    )
    model = ScriptedModel.of(script)

    failed, _ = await play(model, request_of(told("FAILED (failures=1)")))
    passed, _ = await play(model, request_of(told("Ran 3 tests: OK")))
    with pytest.raises(ModelFailure) as missed:
        await play(model, request_of(told("no tests")))

    assert "expects 'FAILED' or 'OK' in" in missed.value.message
    assert failed.parts == (TextPart(text="repaired"),)
    assert passed.parts == (TextPart(text="done"),)


async def test_missed_expectation_is_rejected_and_names_both_sides() -> None:
    model = ScriptedModel([ScriptReply(text="x", expect="apples")])
    with pytest.raises(ModelFailure) as caught:
        await play(model, request_of(told("pears")))
    assert caught.value.kind == "rejected"
    assert "'apples'" in caught.value.message
    assert "pears" in caught.value.message


async def test_failing_reply_fails_its_attempts_and_then_comes() -> None:
    script = parse_script(
        '[[reply]]\ntext = "at last"\n'
        'fail = {kind = "rate_limited", retry_after_ms = 7, times = 2}',
        name="s",
    )
    model = ScriptedModel.of(script)
    for _ in range(2):
        with pytest.raises(ModelFailure) as caught:
            await play(model, request_of(told("go")))
        assert (caught.value.kind, caught.value.retry_after_ms) == ("rate_limited", 7)
    reply, _ = await play(model, request_of(told("go")))
    assert reply.parts == (TextPart(text="at last"),)


async def test_two_runs_of_one_script_each_meet_its_failures() -> None:
    model = ScriptedModel.of(
        parse_script('[[reply]]\ntext = "x"\nfail = {kind = "server"}', name="s")
    )
    for digest in ("run one", "run two"):
        with pytest.raises(ModelFailure):
            await play(model, request_of(told("go"), digest=digest))


async def test_failure_in_a_python_script_fails_every_attempt() -> None:
    model = ScriptedModel([ModelFailure("overloaded", "busy", 529)])
    for _ in range(3):
        with pytest.raises(ModelFailure) as caught:
            await play(model, request_of(told("go")))
        assert caught.value.status == 529


async def test_reply_without_delay_streams_each_part_in_one_piece() -> None:
    model = ScriptedModel.of(parse_script(SCRIPT, name="s"))
    _, deltas = await play(model, request_of(told("go")))
    assert [(delta.kind, delta.part, delta.offset) for delta in deltas] == [
        ("thinking", 0, 0),
        ("text", 1, 0),
        ("arguments", 2, 0),
        ("arguments", 3, 0),
    ]
    assert deltas[0].text == "a file will do"
    assert deltas[2].tool == "writeTextFile"


async def test_reply_with_delay_streams_pieces_that_join_to_its_text() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    _, deltas = await play(
        ScriptedModel([ScriptReply(text=text, delay_ms=1)]), request_of(told("go"))
    )
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas) == text
    assert all(text[delta.offset :].startswith(delta.text) for delta in deltas)


async def test_function_model_answers_from_the_request() -> None:
    def shout(request: ModelRequest) -> ModelReply:
        message = request.messages[-1]
        assert isinstance(message, UserMessage)
        part = message.parts[0]
        assert isinstance(part, TextPart)
        return ModelReply((TextPart(text=request.text(part.text).upper()),), "end", None)

    async def later(request: ModelRequest) -> ModelReply:
        return shout(request)

    for function in (shout, later):
        reply, deltas = await play(FunctionModel(function), request_of(told("hi")))
        assert reply.parts == (TextPart(text="HI"),)
        assert [delta.text for delta in deltas] == ["HI"]


@pytest.mark.parametrize(
    ("toml", "hint"),
    [
        ('[[reply]]\ntxet = "x"', "did you mean 'text'"),
        ('[[reply]]\ntext="x"\n[[reply.call]]\ntol = "exec"', "did you mean 'tool'"),
        ('[[reply]]\ntext="x"\nusage = {inputs = 1}', "did you mean 'input'"),
        ('[[reply]]\ntext="x"\nfail = {kind="server", time=1}', "did you mean 'times'"),
        ('[[replies]]\ntext = "x"', "did you mean 'reply'"),
        ('[[experts.critic.replay]]\ntext = "x"', "did you mean 'reply'"),
        ("[[reply]]", "a reply needs"),
        ("[[reply", "is not TOML"),
    ],
)
def test_mistake_in_a_script_is_named_with_the_nearest_key(toml: str, hint: str) -> None:
    with pytest.raises(ModelFailure) as caught:
        parse_script(toml, name="s")
    assert caught.value.kind == "rejected"
    assert hint in caught.value.message


def test_missing_script_file_is_rejected_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure) as caught:
        load_script(tmp_path / "none.toml")
    assert "none.toml" in caught.value.message


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ('{"type":"thinking","thinking":"a","signature":"s"}', "a"),
        ('{"type":"redacted_thinking","data":"zzz"}', ""),
        ('{"type":"reasoning","summary":[{"type":"summary_text","text":"b"}]}', "b"),
        ('{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"c"}]}', "c"),
        ('{"reasoning_content":"d"}', "d"),
        ("not json", ""),
        ("[1]", ""),
    ],
)
def test_thought_of_reads_every_form_of_block(block: str, text: str) -> None:
    assert thought_of(block) == text
