"""The view of texts for search: what was said, asked, called and answered. Not how it is asked for.

Texts that are kept outside the log are found by their digest only. A note of the runtime, and what
the calls of a fork's past came to, are nobody's words and are left out.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table

from domain import events as e
from domain.asks import Elicitation
from domain.content import Text, TextPart
from domain.ids import RunRef
from domain.tools import Lane
from projections.columns import number, text
from projections.view import Change, Folded, Put, Seen
from projections.views.showing import said, shown, shown_parts, thought
from projections.views.words import follow_words

TEXT_CHARS_MAX = 8 * 1024
"""How much of a text is found by its words."""

PLACES = 1 << 16
"""How many texts one envelope can have: what is beyond is not found."""


class SearchHead(NamedTuple):
    """Nothing: what a text is stands in its own event."""


HEAD = SearchHead()


class SearchView:
    """One row a text; a newer one has a greater id."""

    name = "search"
    version = 1
    hears_deletions = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        """The one table; what finds words in it is made and dropped with it."""
        name = f"search{suffix}"
        table = Table(
            name,
            metadata,
            # In SQLite, only an INTEGER names a row for good.
            Column(
                "id",
                BigInteger().with_variant(Integer, "sqlite"),
                primary_key=True,
                autoincrement=False,
            ),
            text("tenant"),
            text("job"),
            text("run"),
            number("version"),
            number("at_ms"),
            text("kind"),
            text("text"),
            Index(f"{name}_of_job", "tenant", "job"),
        )
        follow_words(table, suffix)
        return {"search": table}

    def fresh(self, ref: RunRef, seq: int) -> SearchHead:  # noqa: ARG002 - of any run
        """Nothing."""
        return HEAD

    def load(self, data: str) -> SearchHead:  # noqa: ARG002 - there is nothing in it
        """Nothing."""
        return HEAD

    def dump(self, head: SearchHead) -> str:
        """Nothing, as JSON."""
        return orjson.dumps(head._asdict()).decode()

    def fold(self, head: SearchHead, seen: Seen) -> Folded[SearchHead]:
        """The texts of one more envelope."""
        envelope = seen.envelope
        if envelope is None:
            return Folded(head)
        found: list[tuple[int, str, str]] = []
        told = _Told(set())
        for version, event in enumerate(envelope.events, start=envelope.version):
            texts = _HEARD.get(type(event))
            if texts is not None:
                found.extend((version, kind, words) for kind, words in texts(event, told) if words)
        ref, first = seen.ref, seen.seq * PLACES
        changes: tuple[Change, ...] = tuple(
            Put(
                "search",
                {"id": first + at},
                {
                    "tenant": ref.tenant,
                    "job": ref.job,
                    "run": ref.run,
                    "version": version,
                    "at_ms": envelope.at_ms,
                    "kind": kind,
                    "text": words,
                },
            )
            for at, (version, kind, words) in enumerate(found[:PLACES])
        )
        return Folded(head, changes)


class _Told(NamedTuple):
    """Questions that were answered in this envelope: their outcome says the same once more."""

    answered: set[str]


Texts = tuple[tuple[str, str], ...]
"""Some kinds, and the words of each."""


def _input(event: e.InputReceived, _: _Told) -> Texts:
    if event.speaker == "runtime":
        return ()
    return (("input", shown_parts(event.parts, TEXT_CHARS_MAX)),)


def _reply(event: e.GenerationCompleted, _: _Told) -> Texts:
    thinks = thought(event.parts, TEXT_CHARS_MAX)
    return ("thinking", thinks), ("text", said(event.parts, TEXT_CHARS_MAX))


def _call(event: e.ToolCallRequested, _: _Told) -> Texts:
    kind = "question" if event.lane is Lane.PERSON else "tool"
    return ((kind, f"{event.tool} {_cut(event.arguments)}"),)


def _outcome(event: e.ToolCallEnded, told: _Told) -> Texts:
    if event.call in told.answered:
        return ()
    return (("result", shown_parts(event.content, TEXT_CHARS_MAX)),)


def _answer(event: e.QuestionAnswered, told: _Told) -> Texts:
    if event.expired:
        return ()
    told.answered.add(event.call)
    return (("answer", shown_parts(event.parts, TEXT_CHARS_MAX)),)


def _ask(event: e.ToolCallAsked, _: _Told) -> Texts:
    about = event.about
    return (("question", _cut(about.message)),) if isinstance(about, Elicitation) else ()


def _answer_ask(event: e.ToolCallAnswered, _: _Told) -> Texts:
    if event.sampled is not None:
        return (("text", shown_parts((TextPart(text=event.sampled.text),), TEXT_CHARS_MAX)),)
    if event.content is None:
        return ()
    return (("answer", orjson.dumps(event.content).decode()[:TEXT_CHARS_MAX]),)


def _edit(event: e.ApprovalDecided, _: _Told) -> Texts:
    """What a person made of the arguments of a call."""
    return () if event.arguments is None else (("answer", _cut(event.arguments)),)


def _cut(words: Text) -> str:
    return shown(words, TEXT_CHARS_MAX)


_HEARD: Mapping[type[e.Event], Callable[[Any, _Told], Texts]] = {
    e.InputReceived: _input,
    e.GenerationCompleted: _reply,
    e.ToolCallRequested: _call,
    e.ToolCallEnded: _outcome,
    e.QuestionAnswered: _answer,
    e.ToolCallAsked: _ask,
    e.ToolCallAnswered: _answer_ask,
    e.ApprovalDecided: _edit,
}
"""What has words; all else, and what this release does not know, has none (C17)."""
