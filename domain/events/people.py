"""What people decide and answer, which rules hold, who is in the team. Not who may decide."""

from typing import Literal

from domain.content import ContentPart, Text
from domain.events.common import NOBODY, LimitName, Principal, TeamAction
from domain.policy import PolicyLayer, PolicyRule
from domain.record import Clean, Record


class PolicyPinned(Record):
    """The rules a run began with, by layer; written when there are any."""

    type: Literal["policy.pinned.v1"] = "policy.pinned.v1"
    layers: tuple[PolicyLayer, ...]


class PolicyChanged(Record):
    """The rules that people gave this run and those above it, all of them: they replace the last.

    `inherited` are those of the runs above, as of `standing`.
    """

    type: Literal["policy.changed.v1"] = "policy.changed.v1"
    command: str
    rules: tuple[PolicyRule, ...]
    inherited: tuple[PolicyRule, ...] = ()
    by: Principal = NOBODY


class StandingAdopted(Record):
    """A child heard what its parent says of rules and pauses: a later word replaces it."""

    type: Literal["standing.adopted.v1"] = "standing.adopted.v1"
    number: int
    turned: int = 0  # the parent's number when it was paused or resumed last


class ApprovalRequested(Record):
    """A call, or going beyond a soft limit, waits for a person (C14).

    An approval has the id of its call, or `budget-N`; `digest` is that of the exact arguments.
    """

    type: Literal["approval.requested.v1"] = "approval.requested.v1"
    approval: str
    digest: str = ""
    reason: Clean = ""
    limit: LimitName | None = None
    soft: int | None = None  # the limit that would be passed: tokens, or micro-USD
    due_ms: int | None = None  # when it expires


class ApprovalDecided(Record):
    """A wait is over: what runs is the recorded call, with `arguments` where they were edited."""

    type: Literal["approval.decided.v1"] = "approval.decided.v1"
    approval: str
    verdict: Literal["approved", "edited", "denied", "expired", "withdrawn"]
    command: str = ""
    digest: str = ""  # of the arguments it is about; of the new ones, when it was edited
    arguments: Text | None = None
    reason: Clean = ""
    by_rule: bool = False  # a rule that came later decided
    by: Principal = NOBODY


class QuestionAsked(Record):
    """A call of an interactive tool waits for a person's answer."""

    type: Literal["question.asked.v1"] = "question.asked.v1"
    call: str
    due_ms: int | None = None  # when it expires


class QuestionAnswered(Record):
    """A person answered, or the time for it is over; the call's outcome rides along."""

    type: Literal["question.answered.v1"] = "question.answered.v1"
    call: str
    command: str
    parts: tuple[ContentPart, ...]
    expired: bool = False
    by: Principal = NOBODY


class TeamChanged(Record):
    """A run changed whom and what it may call: its definition from here on, by digest."""

    type: Literal["team.changed.v1"] = "team.changed.v1"
    call: str
    action: TeamAction
    names: tuple[str, ...]  # keys of experts, or names of skills
    definition: str
