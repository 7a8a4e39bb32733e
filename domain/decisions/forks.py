"""Begin a run with another one's past: a fork. Not how that past is read, or its files restored."""

from domain import commands as c
from domain import events as e
from domain.conversation import pending_message
from domain.decisions.lifecycle import model_spoke_last, says_something, watch_the_wall
from domain.draft import Draft
from domain.errors import Rejected, Unavailable
from domain.folds.forks import last_step
from domain.folds.lifecycle import LIMITS
from domain.limits import Limits
from domain.state import RunState, changed

FORKS_MAX = 16
"""How often a fork may be forked again: who reads the last one reads all their pasts."""


def fork_run(draft: Draft, command: c.ForkRun) -> None:
    """Begin as a fork, once: the same command again changes nothing."""
    state = draft.state
    if state.status != "new":
        if command.id in state.commands_seen:
            return
        if not state.expert:
            raise Rejected("cancelled", f"run {state.ref.run!r} was cancelled before it started")
        raise Rejected("run_exists", f"run {state.ref.run!r} exists; give the fork another name")
    origin = draft.situation.origin
    if origin is None:
        raise Rejected("no_origin", "a fork needs the past it goes on from")
    _check(draft, command, origin.past)
    draft.state = changed(state, past=origin.past)
    draft.emit(_forked(command, origin), _pinned(origin))
    if origin.layers:
        draft.emit(e.PolicyPinned(layers=origin.layers))
    if says_something(command.parts):
        draft.emit(
            e.InputReceived(input=command.id, speaker="user", parts=command.parts, by=command.by)
        )
    if pending_message(draft.state) is None and not draft.state.conversation.messages:
        raise Rejected("empty_input", "nothing was said up to there; say what is to be done")
    if model_spoke_last(draft.state):
        message = "the model has answered all it was told up to there; say what comes next"
        raise Rejected("empty_input", message)
    if origin.files_differ:
        draft.note("forked", "files", _about_files(origin))
    watch_the_wall(draft)
    draft.request_attempt(draft.state.step + 1, 1)


def _check(draft: Draft, command: c.ForkRun, past: RunState) -> None:
    ref, source = draft.state.ref, command.source
    if ref.run != ref.job:
        raise Rejected("bad_id", "a fork is the root of a job of its own: name both the same")
    if past.unknown_events:
        msg = f"run {source.run!r} has events of a newer release: {past.unknown_events[0]!r}"
        raise Unavailable(msg)
    if past.model is None:
        message = f"run {source.run!r} had not begun at version {source.version}; take a later one"
        raise Rejected("too_early", message)
    if past.forks >= FORKS_MAX:
        message = f"run {source.run!r} is a fork of a fork, {past.forks} deep; that is the limit"
        raise Rejected("too_deep", message)
    for edit in command.results:
        if edit.call not in past.calls and edit.call not in past.past_calls:
            message = f"run {source.run!r} has no call {edit.call!r} up to there"
            raise Rejected("no_such_call", message)


def _forked(command: c.ForkRun, origin: c.Origin) -> e.RunForked:
    past = origin.past
    return e.RunForked(
        command=command.id,
        source=command.source.model_copy(update={"hash": origin.hash}),
        generation=past.forks + 1,
        step=last_step(past),
        expert=past.expert,
        definition=command.definition or past.definition,
        limits=_limits(command, past),
        edited=_edited(command, origin),
        results=command.results,
        files=origin.files,
        files_differ=origin.files_differ,
        by=command.by,
    )


def _edited(command: c.ForkRun, origin: c.Origin) -> tuple[e.Edited, ...]:
    found: list[e.Edited] = []
    if says_something(command.parts):
        found.append("query")
    if command.results:
        found.append("result")
    context, past = origin.context, origin.past
    if context is not None and context.model != past.model:
        found.append("model")
    if command.definition is not None and command.definition != past.definition:
        found.append("definition")
    return tuple(found)


def _limits(command: c.ForkRun, past: RunState) -> Limits:
    given = {name: getattr(command, name) for name in LIMITS}
    return past.limits.model_copy(update={n: v for n, v in given.items() if v is not None})


def _pinned(origin: c.Origin) -> e.ContextPinned:
    """The context, also when it is the source's: whoever reads a fork's own events knows it."""
    context, past = origin.context, origin.past
    if context is not None:
        return e.ContextPinned(
            renderer=context.renderer,
            context=context.digest,
            context_bytes=context.size,
            model=context.model,
            tools=context.tools,
            fallbacks=context.fallbacks,
            output_schema=context.output_schema,
        )
    if past.model is None:
        raise AssertionError
    return e.ContextPinned(
        renderer=past.renderer,
        context=past.context,
        context_bytes=past.context_bytes,
        model=past.model,
        tools=past.tools,
        fallbacks=past.fallbacks,
        output_schema=None if past.output_schema is None else dict(past.output_schema),
    )


def _about_files(origin: c.Origin) -> str:
    taken = origin.files
    if taken is None:
        return (
            "This run goes on from a copy of an earlier conversation, in a workspace of its own "
            "whose files are not those of then: what the conversation shows of them may be "
            "missing here, or different. Look at the files before you go on."
        )
    return (
        "This run goes on from a copy of an earlier conversation, in a workspace of its own. Its "
        f"files are as they were after step {taken.step}; they may differ from what the "
        "conversation shows, and no process that was begun in it runs any more. Look at the files "
        "before you go on."
    )
