"""The routes for what people do to runs: answer, decide, steer, hold, rules, and what waits.

Not decisions: the run decides. What a client was shown has to be named by its digest (C14).
"""

from typing import Any, cast

import orjson

from domain.asks import whole_answer
from domain.commands import (
    AnswerAsk,
    AnswerQuestion,
    ChangePolicy,
    DecideApproval,
    PauseRun,
    ResumeRun,
    SteerRun,
)
from domain.content import TextPart
from domain.errors import Rejected
from domain.ids import TOKEN, RunRef, derive_id
from domain.policy import PolicyRule
from domain.schemas import wrong_fields
from domain.state import RunState
from gateway.asking import Asking
from gateway.bodies import AnswerBody, DecideBody, NoBody, PolicyBody, SteerBody
from gateway.finding import find_run
from gateway.models.common import Accepted
from gateway.models.runs import Tree, Waits
from gateway.operations import Asked
from gateway.problems import Problem
from projections.family import load_family, load_look
from projections.remembering import allowing, denying
from projections.waits import (
    ANSWERABLE,
    APPROVALS,
    Look,
    Wait,
    WaitKind,
    arguments_of,
    find_wait,
    wait_json,
)

ASKS: frozenset[WaitKind] = frozenset({"ask"})


class People(Asking):
    """The handlers; each answers when the command is decided, or stored to be."""

    async def answer(self, asked: Asked[Any, AnswerBody]) -> Accepted:
        """`POST /v1/runs/{id}/answer`: a question's answer is the result of its call, once.

        What a tool asks goes on with it: its form filled in, declined, or closed.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: no such question is open.
            Unavailable: the command was neither handled nor stored.
        """
        body = asked.body
        if body.action is None and "answer" not in body.model_fields_set:
            missing = {"field": "answer", "message": "Field required, unless there is an action"}
            detail = "answer: Field required, unless there is an action"
            raise Problem(422, "invalid", detail, errors=[missing])
        ref = await find_run(self.deps, asked)
        name = derive_id("answer", *ref, self.key(asked))
        look = await load_look(self.deps.backbone.log, ref)
        call = body.call or ""
        if name not in look.state.commands_seen:
            wait = _waiting(look, body.call, ANSWERABLE if body.action is None else ASKS)
            call = wait.id
            if wait.about is not None:
                return await self.submit(asked, ref, self._of_tool(asked, name, wait, body))
        text = body.answer if isinstance(body.answer, str) else orjson.dumps(body.answer).decode()
        command = AnswerQuestion(
            id=name, call=call, parts=(TextPart(text=text),) if text else (), by=asked.by
        )
        return await self.submit(asked, ref, command)

    def _of_tool(
        self, asked: Asked[Any, AnswerBody], name: str, wait: Wait, body: AnswerBody
    ) -> AnswerAsk:
        given: object = body.answer
        content = cast("dict[str, Any]", given) if isinstance(given, dict) else None
        if given is not None and content is None:
            raise Problem(422, "bad_answer", "answer: the form of a tool takes a JSON object.")
        about = wait.about
        if about is not None and about.form is not None and body.action in (None, "accept"):
            wrong = wrong_fields(about.form, whole_answer(about, "accept", content) or {})
            if wrong:
                errors = [
                    {"field": f"answer.{at}".rstrip("."), "message": why} for at, why in wrong
                ]
                detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
                raise Problem(422, "bad_answer", detail, errors=errors)
        return AnswerAsk(
            id=name,
            ask=wait.id,
            action=body.action or "accept",
            content=content,
            by=asked.by,
        )

    async def decide(self, asked: Asked[Any, DecideBody]) -> Accepted:
        """`POST /v1/runs/{id}/approve`: approve, approve with other arguments, or deny (C14).

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: it does not wait, or it waits with other arguments.
            Unavailable: the command was neither handled nor stored.
        """
        body = asked.body
        ref, by = await find_run(self.deps, asked), asked.by
        key = self.key(asked)
        name = derive_id("decide", *ref, key)
        look = await load_look(self.deps.backbone.log, ref)
        arguments = None if body.arguments is None else orjson.dumps(body.arguments).decode()
        if name in look.state.commands_seen:  # what follows it may not have been sent yet
            wait = look.asked_of(body.approval)
        else:
            wait = _waiting(look, body.approval, APPROVALS)
            if body.digest != wait.digest:
                raise Rejected("other_arguments", "")
        rule = None if wait is None else await self._remembered(body, wait, arguments)
        command = DecideApproval(
            id=name,
            approval=body.approval,
            approve=body.verdict == "approve",
            digest=body.digest,
            arguments=arguments,
            reason=body.reason,
            by=by,
        )
        answer = await self.submit(asked, ref, command)
        if rule is not None:
            root = await self._root(ref)
            remember = ChangePolicy(id=derive_id("remember", *ref, key), rules=(rule,), by=by)
            await self.submit(asked, root, remember)
        return answer

    async def steer(self, asked: Asked[Any, SteerBody]) -> Accepted:
        """`POST /v1/runs/{id}/steer`: said to a run that is at work.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: it is not at work.
            Unavailable: the command was neither handled nor stored.
        """
        body = asked.body
        ref = await find_run(self.deps, asked)
        name = derive_id("steer", *ref, self.key(asked))
        parts, by = (TextPart(text=body.text),), asked.by
        return await self.submit(asked, ref, SteerRun(id=name, parts=parts, now=body.now, by=by))

    async def pause(self, asked: Asked[Any, NoBody]) -> Accepted:
        """`POST /v1/runs/{id}/pause`: nothing new begins in a run and under it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: it is not at work.
            Unavailable: the command was neither handled nor stored.
        """
        ref = await find_run(self.deps, asked)
        name = derive_id("pause", *ref, self.key(asked))
        return await self.submit(asked, ref, PauseRun(id=name, by=asked.by))

    async def resume(self, asked: Asked[Any, NoBody]) -> Accepted:
        """`POST /v1/runs/{id}/resume`: a paused run, and what is under it, goes on.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Unavailable: the command was neither handled nor stored.
        """
        ref = await find_run(self.deps, asked)
        name = derive_id("resume", *ref, self.key(asked))
        return await self.submit(asked, ref, ResumeRun(id=name, by=asked.by))

    async def policy(self, asked: Asked[Any, PolicyBody]) -> Accepted:
        """`POST /v1/runs/{id}/policy`: rules for a run and those under it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: it is one that is over for good.
            Unavailable: the command was neither handled nor stored.
        """
        body = asked.body
        ref = await find_run(self.deps, asked)
        command = ChangePolicy(
            id=derive_id("policy", *ref, self.key(asked)),
            rules=tuple(PolicyRule(**rule.model_dump()) for rule in body.rules),
            replace=body.replace,
            by=asked.by,
        )
        return await self.submit(asked, ref, command)

    async def waiting(self, asked: Asked[Any, Any]) -> Waits:
        """`GET /v1/runs/{id}/waiting`: what waits for a person in a run and under it.

        Raises:
            Problem: there is no such run.
            Unavailable: the log is away.
        """
        ref = await find_run(self.deps, asked)
        ports = self.deps.backbone
        family = await load_family(ports.log, ref)
        found = [await wait_json(ports.blobs, wait) for wait in family.waits(ref.run)]
        paused = [look.state.ref.run for look in family.under(ref.run) if _is_paused(look.state)]
        return Waits.model_validate({"run": ref.run, "waiting": found, "paused": paused})

    async def tree(self, asked: Asked[Any, Any]) -> Tree:
        """`GET /v1/jobs/{id}/tree`: the runs of a job, each before those it asked for.

        Raises:
            Problem: there is no such job.
            Unavailable: the log is away.
        """
        job = asked.part("job")
        if TOKEN.fullmatch(job) is None:
            raise Problem.no_such_run()
        ref = RunRef(asked.tenant, job, job)  # a job has one root, which has its name
        family = await load_family(self.deps.backbone.log, ref)
        members = [family.facts(look.state.ref.run) for look in family.under(ref.run)]
        return Tree.model_validate({"job": job, "runs": members})

    async def _remembered(
        self, body: DecideBody, wait: Wait, arguments: str | None
    ) -> PolicyRule | None:
        if body.remember == "no":
            return None
        if body.verdict == "deny":
            return denying(wait, reason=body.reason)
        exactly: str | None = None
        if body.remember == "exact":
            exactly = arguments or await arguments_of(self.deps.backbone.blobs, wait)
        return allowing(wait, arguments=exactly, reason=body.reason)

    async def _root(self, ref: RunRef) -> RunRef:
        return (await load_family(self.deps.backbone.log, ref)).root(ref.run)


def _waiting(look: Look, name: str | None, kinds: frozenset[WaitKind]) -> Wait:
    """What waits under that name, refused in words that repeat nothing of the request (C15)."""
    try:
        return find_wait(look.waits, name, kinds)
    except Rejected as refused:
        waiting: dict[str, Any] = {
            "waiting": [wait.id for wait in look.waits if wait.kind in kinds]
        }
        detail = "Nothing of that name waits in this run." if name else "Say which of them."
        if not waiting["waiting"]:
            detail = "Nothing of that kind waits in this run."
        raise Problem(409, refused.code, detail, **waiting) from None


def _is_paused(state: RunState) -> bool:
    return state.status == "running" and state.paused
