"""Small values of the domain: ids, texts, messages, requests. Not decisions."""

import pytest

from domain.content import BlobRef, TextPart, UserMessage
from domain.envelope import Cause, Envelope
from domain.errors import NoSuchRun, PeritusError, Rejected
from domain.evolve import fold_all
from domain.ids import check_token, child_run_id, derive_id, idempotency_key, jitter
from domain.limits import ModelChoice, Usage
from domain.loop_tools import parse_arguments
from domain.prompt import ModelContext, ModelRequest
from domain.record import canonical, clean
from domain.state import Messages, RunState
from tests.support.runs import NOW_MS, REF, TOOLS, replies, start, when


def message(text: str) -> UserMessage:
    return UserMessage(parts=(TextPart(text=text),))


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "a*", ">", "x" * 65, "\u00e9"])
def test_what_cannot_be_a_subject_token_is_refused(bad: str) -> None:
    with pytest.raises(Rejected) as caught:
        check_token("job", bad)
    assert caught.value.code == "bad_id"


def test_derived_ids_are_tokens_and_differ_by_every_part() -> None:
    """Rules 8 and 14: ids and idempotency keys derive from the run's own id."""
    ids = {
        derive_id("a", "b"),
        derive_id("ab", ""),
        child_run_id("run", "c1-0"),
        child_run_id("run2", "c1-0"),
        idempotency_key("run", "c1-0"),
        idempotency_key("run2", "c1-0"),
    }
    assert len(ids) == 6
    assert all(check_token("id", one) == one for one in ids)
    assert all(0 <= jitter("run", str(n)) < 1 for n in range(50))


def test_text_without_a_stored_form_is_made_storable_where_it_comes_in() -> None:
    """A lone surrogate would make an envelope that nobody can write."""
    part = TextPart(text="a\ud800b")
    assert canonical(part) == b'{"kind":"text","text":"a?b"}'
    assert clean("\u00e9\U0001f600") == "\u00e9\U0001f600"


def test_messages_of_two_futures_are_their_own() -> None:
    """C1: they share what they have in common."""
    one = Messages().followed_by(message("a"))
    left, right = one.followed_by(message("b")), one.followed_by(message("c"))
    assert [len(one), len(left), len(right)] == [1, 2, 2]
    assert left[1] == message("b")
    assert right[-1] == message("c")
    assert list(left[0:2]) == [message("a"), message("b")]
    assert left != right
    assert left != 7
    assert left == one.followed_by(message("b"))
    assert hash(left) == hash(one.followed_by(message("b")))
    with pytest.raises(IndexError):
        one[1]


def test_request_reads_texts_inline_or_by_digest() -> None:
    model = ModelChoice(provider="scripted", model="m")
    context = ModelContext(renderer="r", model=model, system=(), tools=())
    request = ModelRequest(context, (), "d", {"b": b"kept"})
    assert request.text("here") == "here"
    assert request.text(BlobRef(digest="b", size=4)) == "kept"


def test_arguments_by_digest_are_not_read_here() -> None:
    assert parse_arguments(BlobRef(digest="b", size=40_000)) is None
    assert parse_arguments("") == {}


def test_runs_fold_from_their_first_envelope() -> None:
    then = when(RunState(ref=REF), start())
    more = when(then.after, replies("done"))
    cause = Cause(type="t", id="")
    envelopes = [
        Envelope("a", REF, 1, NOW_MS, cause, "e1", "0" * 64, then.events),
        Envelope("b", REF, 5, NOW_MS, cause, "e1", "0" * 64, more.events),
    ]
    assert fold_all(REF, envelopes) == more.after
    assert more.after.tool("exec") == next(tool for tool in TOOLS if tool.name == "exec")
    assert more.after.tool("nope") is None


def test_usage_counts_input_and_output_once() -> None:
    assert Usage(input=5, output=3, reasoning=2, cached=4).tokens == 8


def test_unknown_run_says_where_to_look() -> None:
    error = NoSuchRun("r1")
    assert isinstance(error, PeritusError)
    assert (error.code, "peritus runs" in error.message) == ("no_such_run", True)
