"""What people's deeds are asked by, in the table of operations. Not the handlers: see `people`."""

from gateway.bodies import AnswerBody, DecideBody, NoBody, PolicyBody, SteerBody
from gateway.deps import GatewayDeps
from gateway.models.common import Accepted
from gateway.models.runs import Tree, Waits
from gateway.operations import Operation
from gateway.people import People

TAG = "people"


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
        Operation(
            "POST",
            "/v1/runs/{run}/answer",
            "answer_question",
            "operator",
            "Answer a question of an expert, or fill in what a tool asks",
            people.answer,
            Accepted,
            status=202,
            body=AnswerBody,
            problems=(409,),
            tag=TAG,
            examples={
                "a text": {"answer": "blue"},
                "a form": {"call": "c2-0", "answer": {"count": 3}},
                "no": {"call": "c2-0", "action": "decline"},
            },
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/approve",
            "decide_approval",
            "operator",
            "Approve a call, approve it with other arguments, or deny it",
            people.decide,
            Accepted,
            status=202,
            body=DecideBody,
            problems=(409,),
            tag=TAG,
            examples={
                "yes": {"approval": "c1-0", "digest": "the digest that was shown with it"},
                "no": {
                    "approval": "c1-0",
                    "digest": "the digest that was shown with it",
                    "verdict": "deny",
                    "reason": "not on a Friday",
                },
            },
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/steer",
            "steer_run",
            "operator",
            "Say something to a run at work",
            people.steer,
            Accepted,
            status=202,
            body=SteerBody,
            problems=(409,),
            tag=TAG,
            examples={"text": {"text": "Keep it short", "now": False}},
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/pause",
            "pause_run",
            "operator",
            "Let nothing new begin in a run and under it",
            people.pause,
            Accepted,
            status=202,
            body=NoBody,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/resume",
            "resume_run",
            "operator",
            "Let a paused run go on",
            people.resume,
            Accepted,
            status=202,
            body=NoBody,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/policy",
            "change_policy",
            "operator",
            "Give a run, and those under it, rules about calls",
            people.policy,
            Accepted,
            status=202,
            body=PolicyBody,
            problems=(409,),
            tag=TAG,
            examples={"ask first": {"rules": [{"verdict": "ask", "tool": "write*"}]}},
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
