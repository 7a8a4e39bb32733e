"""The rules that make a decision about one call count for those to come. Not whether they hold."""

from domain.errors import Rejected
from domain.loop_tools import parse_arguments
from domain.policy import PolicyRule, literally, whole
from projections.waits import Wait

REMEMBERED_CHARS_MAX = 4_096
"""How long arguments may be that a rule is to remember: rules are written anew with each change."""


def allowing(wait: Wait, *, arguments: str | None = None, reason: str = "") -> PolicyRule:
    """The rule that lets the tool of a wait through for its expert; with these arguments alone.

    Raises:
        Rejected: it is not about a call, or the arguments cannot be remembered.
    """
    exactly = {} if arguments is None else {"": literally(_whole(arguments))}
    changes = {"verdict": "allow", "arguments": exactly}
    return denying(wait, reason=reason).model_copy(update=changes)


def denying(wait: Wait, *, reason: str = "") -> PolicyRule:
    """The rule that keeps the tool of a wait from its expert, whatever the arguments.

    Raises:
        Rejected: it is not about a call.
    """
    if wait.kind != "approval":
        message = f"{wait.id!r} is about a limit; only what is decided of a call can be remembered"
        raise Rejected("nothing_to_remember", message)
    return PolicyRule(
        verdict="deny",
        expert=literally(wait.expert),
        skill=literally(wait.skill),
        tool=literally(wait.tool),
        reason=reason,
    )


def _whole(arguments: str) -> str:
    if len(arguments) > REMEMBERED_CHARS_MAX:
        message = f"arguments of over {REMEMBERED_CHARS_MAX:,} characters cannot be remembered"
        raise Rejected("too_long", f"{message}; decide about the call without that")
    value = parse_arguments(arguments)
    if value is None:
        raise Rejected("bad_arguments", "the arguments are no JSON object; they match no rule")
    return whole(value)
