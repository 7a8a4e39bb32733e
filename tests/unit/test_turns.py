"""Texts out of pieces, patches of states, queries out of conversations: pure parts of turns."""

from typing import Any

import pytest
from ag_ui.core.types import AssistantMessage, Message, ToolMessage, UserMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.agui.board import patch
from gateway.agui.history import said_now, says_something
from gateway.agui.names import InterruptName, job_of
from gateway.chat.asked import ChatMessage, ChatRequest
from gateway.chat.rendering import rendered
from gateway.problems import Problem
from gateway.turns.speech import Speech

PIECES = st.lists(st.text("ab cü", min_size=1, max_size=5), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=3), st.data())
def test_what_is_told_is_exact_whatever_pieces_are_lost_or_come_twice(
    parts: list[list[str]], data: st.DataObject
) -> None:
    speech, told = Speech(), ""
    for part, pieces in enumerate(parts):
        said = "".join(pieces)
        offset = 0
        for piece in pieces:
            for _ in range(data.draw(st.integers(0, 2))):
                told += speech.add(part, offset, piece)
            offset += len(piece)
            if data.draw(st.booleans()):  # what was said so far, as after a reconnect
                told += speech.add(part, 0, said[: data.draw(st.integers(0, offset))])
    whole = "".join(piece for pieces in parts for piece in pieces)
    missing = speech.rest(whole)
    if missing is None:  # the end of an earlier part was lost, and a later one was told
        assert not whole.startswith(told)
    else:
        assert told + missing == whole


def test_piece_after_a_gap_is_not_told_until_the_gap_is_filled() -> None:
    speech = Speech()
    assert speech.add(0, 0, "ab") == "ab"
    assert speech.add(0, 4, "ef") == ""
    assert speech.add(1, 0, "next") == ""
    assert speech.add(0, 0, "abcdef") == "cdef"
    assert speech.add(1, 0, "next") == "next"
    assert speech.rest("abcdefnext!") == "!"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("a/~", max_size=2),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), below),
    max_leaves=8,
)
STATES = st.dictionaries(st.text("ab/~", max_size=2), JSON)


def applied(state: Any, operations: list[dict[str, Any]]) -> Any:
    """A state after a patch, as RFC 6902 says; only what `patch` uses."""
    for one in operations:
        *above, name = [
            part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]
        ]
        place = state
        for part in above:
            place = place[part]
        if one["op"] == "remove":
            del place[name]
        else:
            assert (name in place) == (one["op"] == "replace")
            place[name] = one["value"]
    return state


@settings(deadline=None)
@given(STATES, STATES)
def test_patch_of_two_states_makes_one_of_the_other(old: Any, new: Any) -> None:
    assert applied(old, patch(old, new)) == new


def test_conversation_becomes_a_query_in_the_documented_form() -> None:
    def message(role: Any, content: Any) -> ChatMessage:
        return ChatMessage(role=role, content=content)

    alone = [message("user", "One?"), message("user", "Two?")]
    assert rendered(alone) == "One?\n\nTwo?"
    whole = [message("developer", "Be brief."), message("assistant", "Hi."), *alone]
    assert rendered(whole) == (
        "Instructions:\n\nBe brief.\n\nThe conversation so far:\n\nAssistant: Hi.\n\n"
        "Now:\n\nOne?\n\nTwo?"
    )


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"temperature": 0.1, "max_tokens": 5, "n": 1, "tools": []}, None),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter"),
        ({"temprature": 1}, "unknown_parameter"),
    ],
)
def test_parameters_that_change_nothing_pass(more: dict[str, Any], code: str | None) -> None:
    body = {"model": "clerk", "messages": [{"role": "user", "content": "Hi"}], **more}
    request = ChatRequest.model_validate(body)
    if code is None:
        request.check()
        return
    with pytest.raises(Problem) as refused:
        request.check()
    assert refused.value.code == code


def test_what_a_client_says_now_is_what_comes_after_our_last_word() -> None:
    first, second = UserMessage(id="u1", content="One"), UserMessage(id="u2", content="Two")
    ours = AssistantMessage(id="a1", content="Hi")
    result = ToolMessage(id="t1.c1-0.result", tool_call_id="t1.c1-0", content="seen")
    theirs = ToolMessage(id="mine", tool_call_id="t1.c1-0", content="blue")
    whole: list[Message] = [first, ours, result, second]
    assert (said_now(whole), says_something(whole)) == ([second], True)
    half = [*whole, ours]  # the same turn again, of which some was told
    assert (said_now(half), says_something(half)) == ([second], False)
    assert said_now([first, ours, theirs]) == [theirs]
    assert (said_now([]), says_something([])) == ([], False)


def test_names_of_interrupts_and_threads() -> None:
    name = InterruptName("run1", "c1-0", "abc")
    assert InterruptName.parse(str(name)) == name
    assert InterruptName.parse("nonsense") is None
    assert job_of("acme", "thread-1").job == "thread-1"
    odd = job_of("acme", "a thread / of any form")
    assert odd.job.isalnum()
    assert odd == job_of("acme", "a thread / of any form") != job_of("other", "a thread")
