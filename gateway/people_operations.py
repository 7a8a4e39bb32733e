"""What people's deeds are asked by, in the table of operations. Not the handlers: see `people`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.bodies import AnswerBody, Body, DecideBody, NoBody, PolicyBody, SteerBody
from gateway.deps import GatewayDeps
from gateway.models.common import Accepted
from gateway.models.runs import Tree, Waits
from gateway.operations import Asked, Operation
from gateway.people import People

Examples = Mapping[str, Mapping[str, Any]]

TAG = "people"
DIGEST = "the digest that was shown with it"

ANSWERS: Examples = {
    "a text": {"answer": "blue"},
    "a form": {"call": "c2-0", "answer": {"count": 3}},
    "no": {"call": "c2-0", "action": "decline"},
}
DECISIONS: Examples = {
    "yes": {"approval": "c1-0", "digest": DIGEST},
    "no": {
        "approval": "c1-0",
        "digest": DIGEST,
        "verdict": "deny",
        "reason": "not on a Friday",
    },
}
STEERS: Examples = {"text": {"text": "Keep it short", "now": False}}
RULES: Examples = {"ask first": {"rules": [{"verdict": "ask", "tool": "write*"}]}}
NONE: Examples = {}


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Questions, approvals, steering, pauses, rules; what waits, and a job as a tree."""
    people = People(deps)
    return (
        Operation(
            "GET",
            "/v1/runs/{run}/waiting",
            "list_waiting",
            "viewer",
            "What waits for a person in a run and under it",
            people.waiting,
            Waits,
            tag=TAG,
        ),
        _deed(
            "answer",
            "answer_question",
            "Answer a question of an expert, or fill in what a tool asks",
            people.answer,
            body=AnswerBody,
            examples=ANSWERS,
        ),
        _deed(
            "approve",
            "decide_approval",
            "Approve a call, approve it with other arguments, or deny it",
            people.decide,
            body=DecideBody,
            examples=DECISIONS,
            description="It has to carry the digest that was told with what waits: it is about "
            "the arguments the person was shown, and no others.",
        ),
        _deed(
            "steer",
            "steer_run",
            "Say something to a run at work",
            people.steer,
            body=SteerBody,
            examples=STEERS,
        ),
        _deed("pause", "pause_run", "Let nothing new begin in a run and under it", people.pause),
        _deed("resume", "resume_run", "Let a paused run go on", people.resume),
        _deed(
            "policy",
            "change_policy",
            "Give a run, and those under it, rules about calls",
            people.policy,
            body=PolicyBody,
            examples=RULES,
        ),
        Operation(
            "GET",
            "/v1/jobs/{job}/tree",
            "get_tree",
            "viewer",
            "The runs of a job, each before those it asked for",
            people.tree,
            Tree,
            tag="jobs",
        ),
    )


def _deed(
    verb: str,
    name: str,
    summary: str,
    handler: Callable[[Asked[Any, Any]], Awaitable[Accepted]],
    *,
    body: type[Body] = NoBody,
    examples: Examples = NONE,
    description: str = "",
) -> Operation:
    """Something that a person does to a run."""
    return Operation(
        "POST",
        f"/v1/runs/{{run}}/{verb}",
        name,
        "operator",
        summary,
        handler,
        Accepted,
        status=202,
        body=body,
        problems=(409,),
        tag=TAG,
        examples=examples,
        description=description,
    )
