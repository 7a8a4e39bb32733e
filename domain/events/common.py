"""What several events hold: who said so, whose call, what went wrong. Not an event itself."""

from typing import Literal

from domain.record import Clean, Record

Outcome = Literal["succeeded", "failed", "refused", "cancelled", "outcome_unknown"]
"""The one terminal outcome of a tool call (rule 6)."""

StopReason = Literal["end", "tool_calls", "max_tokens", "refusal"]

SpeakerKind = Literal["user", "expert", "runtime"]
"""Whose words an input holds: a person's, the delegating expert's, or a note of the runtime."""

LimitName = Literal["steps", "tokens", "money", "tool_calls", "wall_time"]
"""Which of a run's limits was reached."""


TimerPurpose = Literal["retry", "cancel_grace", "answer_expiry", "wall_time"]


TeamAction = Literal[
    "createExpert",
    "addDelegate",
    "removeDelegate",
    "addDelegateFromConfig",
    "addSkill",
    "removeSkill",
]
"""The tools with which an expert changes its team."""


class Principal(Record):
    """Who asked for something, as far as the way it came says so; never a secret."""

    name: Clean = ""
    via: Clean = ""  # cli, http, nats, api


NOBODY = Principal()
"""A command that came from no person: of the runtime, or of a release that did not say."""


class Parent(Record):
    """The call of another run that a child run answers."""

    run: str
    call: str


class Failure(Record):
    """Why something did not work: `kind` for programs, `message` for people."""

    kind: str
    message: Clean
    status: int | None = None  # of HTTP, where there was one


class TodoItem(Record):
    """One entry of an expert's todo list."""

    id: int
    title: str
    completed: bool = False
