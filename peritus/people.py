"""What people say to runs: answers, decisions, words, pauses, rules. Not who may say it."""

import os
import pwd
from typing import Any, cast

from domain.asks import Action, Elicitation, answer_fault
from domain.commands import (
    AnswerAsk,
    AnswerQuestion,
    ChangePolicy,
    Command,
    DecideApproval,
    PauseRun,
    ResumeRun,
    SteerRun,
)
from domain.content import TextPart
from domain.errors import Rejected
from domain.events import Principal
from domain.ids import RunRef
from domain.policy import PolicyRule
from peritus.ids import new_id
from peritus.jobs import Send
from projections.waits import Wait, parsed


def this_user(via: str) -> Principal:
    """The user this process runs as."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return Principal(name=name, via=via)


def signed(send: Send, by: Principal) -> Send:
    """Commands go out in somebody's name."""

    async def send_signed(ref: RunRef, command: Command) -> None:
        names = "by" in type(command).model_fields
        await send(ref, command.model_copy(update={"by": by}) if names else command)

    return send_signed


async def answer(send: Send, wait: Wait, text: str) -> None:
    """Answer a question, or what a tool asks: with a text, or with the JSON of its form.

    Raises:
        Rejected: nobody waits for the answer any more, it is empty, or it does not fit.
        Unavailable: not now.
    """
    if wait.about is not None:
        await answer_ask(send, wait, "accept", filled_in(wait.about, text))
        return
    if not text.strip():
        raise Rejected("empty_input", "the answer is empty; say what the expert is to go on with")
    await send(wait.ref, AnswerQuestion(id=new_id(), call=wait.id, parts=(TextPart(text=text),)))


async def answer_ask(
    send: Send, wait: Wait, action: Action, content: dict[str, Any] | None = None
) -> None:
    """Answer what a tool asks: accept it, decline it, or close it without a word.

    Raises:
        Rejected: it does not wait any more, or the content does not fit the form.
        Unavailable: not now.
    """
    if wait.about is None:
        message = f"{wait.id!r} is a question of the expert: answer it with a text"
        raise Rejected("not_waiting", message)
    fault = answer_fault(wait.about, action, content)
    if fault is not None:
        raise Rejected("bad_answer", fault)
    await send(wait.ref, AnswerAsk(id=new_id(), ask=wait.id, action=action, content=content))


def filled_in(about: Elicitation, text: str) -> dict[str, Any] | None:
    """The content of a form that a text gives: a JSON object, or the one value it asks for.

    Raises:
        Rejected: it is neither.
    """
    if about.form is None:
        message = "accept or decline it: nothing is to be filled in"
        raise Rejected("bad_answer", message)
    value = parsed(text.strip() or '""')
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    fields = cast("dict[str, Any]", about.form.get("properties") or {})
    if not text.strip() and any(
        isinstance(field, dict) and "default" in field for field in fields.values()
    ):
        return {}  # all that has a default is left as it is
    if len(fields) != 1:
        names = ", ".join(fields) or "none"
        message = f"the form has these fields: {names}; answer with a JSON object"
        raise Rejected("bad_answer", message)
    name, field = next(iter(fields.items()))
    facts = cast("dict[str, Any]", field) if isinstance(field, dict) else {}
    is_text = facts.get("type", "string") == "string"
    return {name: text if is_text else value}


async def decide(
    send: Send, wait: Wait, *, approve: bool, arguments: str | None = None, reason: str = ""
) -> None:
    """Approve or deny what was shown; with `arguments`, the call runs with these instead (C14).

    Raises:
        Rejected: it does not wait any more, it waits with other arguments, or the new ones are
            wrong.
        Unavailable: not now.
    """
    command = DecideApproval(
        id=new_id(),
        approval=wait.id,
        approve=approve,
        digest=wait.digest,
        arguments=arguments,
        reason=reason,
    )
    await send(wait.ref, command)


async def steer(send: Send, ref: RunRef, text: str, *, now: bool = False) -> None:
    """Say something to a run that is at work.

    Raises:
        Rejected: it is not at work, or nothing is said.
        Unavailable: not now.
    """
    if not text.strip():
        raise Rejected("empty_input", "say something: there is nothing to steer by")
    await send(ref, SteerRun(id=new_id(), parts=(TextPart(text=text),), now=now))


async def pause(send: Send, ref: RunRef) -> None:
    """Let a run, and what is under it, begin nothing new.

    Raises:
        Rejected: it is not at work.
        Unavailable: not now.
    """
    await send(ref, PauseRun(id=new_id()))


async def resume(send: Send, ref: RunRef) -> None:
    """Let a paused run, and what is under it, go on.

    Raises:
        Unavailable: not now.
    """
    await send(ref, ResumeRun(id=new_id()))


async def change_policy(
    send: Send, ref: RunRef, rules: tuple[PolicyRule, ...], *, replace: bool = False
) -> None:
    """Add rules in front of those that people gave a run, or replace them.

    Raises:
        Rejected: there is no such run, or it is one that is over for good.
        Unavailable: not now.
    """
    await send(ref, ChangePolicy(id=new_id(), rules=rules, replace=replace))
