"""Which events people mean by a name: of this release, without a version, or of perstack."""

import difflib
from collections.abc import Mapping

from domain.errors import Rejected
from domain.events import EVENT_TYPES

GROUPS: Mapping[str, tuple[str, ...]] = {
    "tools": ("tool_call", "tool_result", "question", "approval", "sampling"),
    "delegations": ("delegation", "team"),
}
"""What `peritus log --tools` and its like show: names, or what they begin with."""

SEED: Mapping[str, tuple[str, ...]] = {
    "startRun": ("run.started", "run.forked", "run.continued"),
    "startGeneration": ("generation.requested",),
    "retry": ("generation.failed",),
    "callTools": ("tool_call.requested",),
    "callInteractiveTool": ("question.asked",),
    "callDelegate": ("delegation.requested",),
    "resolveToolResults": ("tool_call.ended",),
    "finishToolCall": ("tool_call.ended",),
    "finishAllToolCalls": ("step.ended",),
    "continueToNextStep": ("step.ended",),
    "stopRunByInteractiveTool": ("question.asked",),
    "stopRunByDelegate": ("delegation.requested",),
    "stopRunByExceededMaxSteps": ("run.stopped",),
    "stopRunByError": ("run.failed",),
    "completeRun": ("run.completed",),
}
"""The events of perstack, and those of ours that say the same."""


def event_types(text: str) -> frozenset[str]:
    """The types that a list of names with commas means.

    A name is a type (`run.failed.v1`), one without its version (`run.failed`), what it begins with
    (`run`), or perstack's (`stopRunByError`).

    Raises:
        Rejected: one of them is no event.
    """
    found: set[str] = set()
    for word in (one.strip() for one in text.split(",")):
        if word:
            found |= _named(word)
    if not found:
        raise Rejected("bad_filter", "name at least one type of event, such as run.completed")
    return frozenset(found)


def _named(word: str) -> set[str]:
    names = SEED.get(word, GROUPS.get(word, (word,)))
    found = {kind for kind in EVENT_TYPES if any(_is(kind, name) for name in names)}
    if found:
        return found
    bare = [kind.rsplit(".", 1)[0] for kind in EVENT_TYPES]
    near = difflib.get_close_matches(word, [*bare, *SEED], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(bare))}"
    raise Rejected("bad_filter", f"no event is named {word!r}{hint}")


def _is(kind: str, name: str) -> bool:
    return kind == name or kind.startswith(f"{name}.")
