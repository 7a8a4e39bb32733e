"""What an event says was spent where it was made. Not what children spent: they say it themselves.

`delegation.settled` is left out on purpose: it repeats what the child's own events have said, so a
sum over runs that took both would count everything twice, once more for each level.
"""

from typing import NamedTuple

from domain import events as e
from domain.folds.generation import HELD_BACK
from domain.limits import Usage


class Spent(NamedTuple):
    """What the end of a call of the model adds to the books, or the settling of one."""

    usage: Usage | None  # as its provider reported it
    tokens: int  # that are charged; below zero when some come back
    money: int  # micro-USD
    over: bool  # whether a call of the model ended: a settling only corrects one that has
    failed: bool  # whether it ended without a reply


SPENDING: frozenset[type[e.Event]] = frozenset(
    {
        e.GenerationCompleted,
        e.GenerationFailed,
        e.GenerationAbandoned,
        e.GenerationSuperseded,
        e.SamplingEnded,
        e.SamplingSettled,
    }
)
"""The events that spend."""

Spending = (
    e.GenerationCompleted
    | e.GenerationFailed
    | e.GenerationAbandoned
    | e.GenerationSuperseded
    | e.SamplingEnded
    | e.SamplingSettled
)


def spent(event: Spending) -> Spent:
    """What it adds. An attempt that nobody has begun, or that we held back, was no call."""
    match event:
        case e.GenerationCompleted():
            return Spent(event.usage, event.charged, event.charged_money, over=True, failed=False)
        case e.GenerationFailed():
            over = event.failure.kind not in HELD_BACK
            return Spent(event.usage, event.charged, event.charged_money, over=over, failed=over)
        case e.GenerationAbandoned():
            begun = event.charged > 0
            return Spent(None, event.charged, event.charged_money, over=begun, failed=begun)
        case e.SamplingEnded():
            held = event.failure is not None and event.failure.kind in HELD_BACK
            begun = not held and (event.how != "abandoned" or event.charged > 0)
            failed = begun and event.how != "replied"
            return Spent(event.usage, event.charged, event.charged_money, over=begun, failed=failed)
        case e.GenerationSuperseded() | e.SamplingSettled():
            tokens, money = -event.refunded, -event.refunded_money
            return Spent(event.usage, tokens, money, over=False, failed=False)


def columns_of(one: Spent) -> dict[str, int]:
    """By how much the columns grow that every table of tokens and money has."""
    grown = {"tokens_charged": one.tokens, "money_charged": one.money}
    usage = one.usage
    if usage is not None:
        grown["input_tokens"] = usage.input
        grown["output_tokens"] = usage.output
        grown["reasoning_tokens"] = usage.reasoning
        grown["cached_tokens"] = usage.cached
        grown["cache_written_tokens"] = usage.cache_written
    return grown


SPENDING_COLUMNS = (
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "cache_written_tokens",
    "tokens_charged",
    "money_charged",
)
"""The columns, all of them numbers."""
