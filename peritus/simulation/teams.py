"""A job with a coordinator and sixteen delegates on three levels. Not the people around it.

The experts do what their task says: a coordinator calls its leads, a lead its workers, all in one
reply. What they may use, and whom they have to ask, is another thing in each seed.
"""

import json
import random
from dataclasses import dataclass

from domain.content import AssistantPart, CallPart, TextPart, text_of
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    Skill,
    TopologySkill,
)
from domain.limits import Limits, ModelChoice, Price, Usage
from domain.policy import PolicyRule
from domain.prompt import ModelRequest
from services.loop.models.port import ModelReply

DELEGATES = 16

SHAPES = ((1, 15), (2, 7), (4, 3), (8, 1), (16, 0))
"""Leads, and workers of each: always sixteen together, on two levels or three."""

PRICE = Price(input=3_000_000, output=15_000_000)
MODEL = ModelChoice(provider="simulated", model="simulated", output_tokens_max=100, price=PRICE)
OTHER = MODEL.model_copy(update={"output_tokens_max": 90, "price": None})
"""What to go on with: the same model for the account, and nobody knows what it costs."""

TOOLS = ("exec", "exec", "write", "read", "big", "writeTextFile")
ANY = {"type": "object"}


def skills(dice: random.Random, *, coordinator: bool) -> dict[str, Skill]:
    """What an expert can do: tools of both lanes; the coordinator may also ask, and hire."""
    found: dict[str, Skill] = {
        BASE_SKILL: BaseSkill(pick=("exec", "writeTextFile", "attemptCompletion")),
        "s": LocalSkill(tools=("big", "read", "write")),
    }
    if coordinator:
        question = InteractiveTool(description="Ask.", parameters=ANY)
        found["people"] = InteractiveSkill(tools={"ask": question})
        if dice.random() < 0.5:
            found["team"] = TopologySkill(pick=("createExpert", "addDelegate"))
    return found


def crew(dice: random.Random) -> Definition:
    """A team, its limits and its rules."""
    fallbacks = (OTHER,) if dice.random() < 0.6 else ()
    lead = Expert(
        key="@boss/lead",
        instruction="lead",
        delegates=("@boss/worker",),
        skills=skills(dice, coordinator=False),
        model=MODEL,
        fallbacks=fallbacks,
    )
    worker = lead.model_copy(update={"key": "@boss/worker", "instruction": "work", "delegates": ()})
    boss = lead.model_copy(
        update={
            "key": "boss",
            "delegates": ("@boss/lead",),
            "skills": skills(dice, coordinator=True),
        }
    )
    return Definition(
        experts={expert.key: expert for expert in (lead, worker, boss)},
        limits=limits(dice),
        policy=rules(dice),
    )


def limits(dice: random.Random) -> Limits:
    """Budgets that are wide, or soon used up; and never room for all delegates at once."""
    tight = dice.random() < 0.4
    return Limits(
        steps_max=dice.choice((40, 120)) if tight else 1_000,
        tokens_max=dice.choice((None, 150_000, 400_000)) if tight else 50_000_000,
        money_max=dice.choice((None, 300_000, 1_500_000)) if tight else 500_000_000,
        tool_calls_max=dice.choice((None, 10, 60)) if tight else dice.choice((None, 500)),
        tokens_soft=dice.choice((None, None, 1_000, 100_000)),
        money_soft=dice.choice((None, None, 1_000, 200_000)),
        fan_out_max=dice.choice((2, 3, 5)),
        generation_attempts_max=8,
        retry_base_ms=200,
        answer_ms_max=dice.choice((20_000, 604_800_000)),
    )


def rules(dice: random.Random) -> tuple[PolicyRule, ...]:
    """Which calls need a person, or never run."""
    possible = (
        PolicyRule(verdict="ask", tool="write", reason="it writes"),
        PolicyRule(verdict="ask", tool=dice.choice(("exec", "read", "big"))),
        PolicyRule(verdict="ask", tool=dice.choice(("lead", "worker")), arguments={"query": "*1"}),
        PolicyRule(verdict="deny", tool="*", arguments={"n": "3"}, reason="never three"),
        PolicyRule(verdict="ask", expert="@boss/worker", skill="s"),
    )
    return tuple(rule for rule in possible if dice.random() < 0.4)


def reply(request: ModelRequest, dice: random.Random) -> ModelReply:
    """First the delegates of the task, then some tools, then an end."""
    expert = next(block.text for block in request.context.system if block.name == "expert")
    said = sum(1 for message in request.messages if message.role == "assistant")
    parts: list[AssistantPart] = [TextPart(text="x" * dice.choice((3, 30, 300)))]
    if said == 0:
        parts.extend(_delegations(request, expert, dice))
    if said < dice.randint(1, 3):
        parts.extend(_tool(request, index, dice) for index in range(dice.choice((0, 1, 1, 3))))
    elif dice.random() < 0.5:
        parts.append(CallPart(provider_id="end", tool="attemptCompletion", arguments="{}"))
    calls = any(isinstance(part, CallPart) for part in parts)
    used = Usage(input=dice.randint(0, 500), output=dice.randint(0, 100))
    usage = used if dice.random() < 0.85 else None
    return ModelReply(tuple(parts), "tool_calls" if calls else "end", usage)


def _delegations(request: ModelRequest, expert: str, dice: random.Random) -> list[CallPart]:
    """As many as the task says: `boss LEADS WORKERS` or `lead WORKERS NUMBER`."""
    texts = (part for part in request.messages[0].parts if isinstance(part, TextPart))
    task = text_of(tuple(texts)[:1])  # what people said meanwhile comes after it
    match task.split():
        case ["boss", leads, workers] if expert == "boss":
            return [_delegation("lead", f"lead {workers} {n}", n) for n in range(int(leads))]
        case ["lead", workers, _] if expert == "@boss/lead":
            said = [f"work {dice.random()} {n}" for n in range(int(workers))]
            return [_delegation("worker", text, n) for n, text in enumerate(said)]
        case _:
            return []


def _delegation(tool: str, query: str, index: int) -> CallPart:
    return CallPart(provider_id=f"d{index}", tool=tool, arguments=json.dumps({"query": query}))


def _tool(request: ModelRequest, index: int, dice: random.Random) -> CallPart:
    names = {tool.name for tool in request.context.tools}
    more = [name for name in ("ask", "createExpert", "addDelegate", "extra") if name in names]
    tool = dice.choice((*TOOLS, *more, *more))
    arguments: dict[str, object] = {"n": str(dice.randint(0, 5))}
    if tool == "createExpert":
        arguments = {"key": "@boss/extra", "instruction": "help"}
    elif tool == "addDelegate":
        arguments = {"expertKey": "@boss/extra"}
    elif tool == "extra":
        arguments = {"query": "help"}
    return CallPart(provider_id=f"t{index}", tool=tool, arguments=json.dumps(arguments))


@dataclass(frozen=True, slots=True)
class Job:
    """What one seed's team is, and what it is told."""

    definition: Definition
    task: str


def job(seed: int) -> Job:
    """The team of a seed."""
    dice = random.Random(f"{seed}/team")
    leads, workers = dice.choice(SHAPES)
    return Job(crew(dice), f"boss {leads} {workers}")
