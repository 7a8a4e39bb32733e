"""Attempts to get a reply of a model, and what they cost. Not the calls a reply asks for."""

from typing import Literal

from domain.content import AssistantPart
from domain.events.common import Failure, StopReason
from domain.limits import Usage
from domain.record import Record


class GenerationRequested(Record):
    """A reply of the model will be asked for: durable before the call is made (rule 5)."""

    type: Literal["generation.requested.v2"] = "generation.requested.v2"
    step: int
    attempt: int  # the fence: completions of an older attempt are dropped, visibly
    request: str  # digest of the request
    reserved: int  # tokens held back in the budget until the end is known
    holder: str | None = None  # the epoch that makes the call; None: whoever claims it
    reserved_money: int = 0  # micro-USD


class GenerationClaimed(Record):
    """A worker took an attempt that nobody held."""

    type: Literal["generation.claimed.v1"] = "generation.claimed.v1"
    step: int
    attempt: int
    holder: str


class GenerationCompleted(Record):
    """The model replied. `usage` None: the provider did not say, and the reservation is charged."""

    type: Literal["generation.completed.v2"] = "generation.completed.v2"
    step: int
    attempt: int
    stop_reason: StopReason
    parts: tuple[AssistantPart, ...]
    usage: Usage | None
    charged: int  # tokens taken from the budget
    response_id: str = ""
    model: str = ""
    charged_money: int = 0  # micro-USD


class GenerationFailed(Record):
    """An attempt ended without a reply. What follows from it rides in the same envelope."""

    type: Literal["generation.failed.v2"] = "generation.failed.v2"
    step: int
    attempt: int
    failure: Failure
    retryable: bool
    usage: Usage | None
    charged: int
    charged_money: int = 0  # micro-USD


class GenerationAbandoned(Record):
    """An attempt whose holder is gone, or that a cancel or a person overtook: its end is unknown.

    It is charged in full; a late end settles the charge.
    """

    type: Literal["generation.abandoned.v2"] = "generation.abandoned.v2"
    step: int
    attempt: int
    reason: Literal["holder_lost", "cancelled", "interrupted"]
    charged: int
    charged_money: int = 0  # micro-USD


class GenerationSuperseded(Record):
    """The late end of an abandoned attempt: its charge is settled, its content dropped."""

    type: Literal["generation.superseded.v2"] = "generation.superseded.v2"
    step: int
    attempt: int
    usage: Usage | None
    refunded: int  # tokens given back to the budget; below zero when it used more than reserved
    refunded_money: int = 0  # micro-USD
