"""What people say to runs: answers, decisions, words, pauses, rules. Not who may say it."""

import os
import pwd

from domain.commands import (
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
from projections.waits import Wait


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
    """Answer a question.

    Raises:
        Rejected: nobody waits for the answer any more, or it is empty.
        Unavailable: not now.
    """
    if not text.strip():
        raise Rejected("empty_input", "the answer is empty; say what the expert is to go on with")
    await send(wait.ref, AnswerQuestion(id=new_id(), call=wait.id, parts=(TextPart(text=text),)))


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
