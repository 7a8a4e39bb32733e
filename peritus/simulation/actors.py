"""The model and the tools of a simulated world: seeded, observable, with failures. Not a worker."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from domain.content import AssistantPart, CallPart, TextPart
from domain.definition import BASE_SKILL, BaseSkill, Definition, Expert, LocalSkill, Skill
from domain.errors import Unavailable
from domain.limits import Limits, ModelChoice, Usage
from domain.prompt import ModelRequest
from domain.sandbox import EgressRow
from domain.tools import LocalTool, Safety, ToolSpec
from peritus.simulation.account import Account
from peritus.simulation.asking import ask_around, said_to_tool
from peritus.simulation.ledger import Ledger
from services.loop.models.port import Delta, FailureKind, ModelFailure, ModelReply
from services.worker.executor import failure
from services.worker.skills import Asks
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

WRITE, READ, BIG = "write", "read", "big"
ROW = EgressRow(host="a.example", port=443, verdict="allowed")
ANY_OBJECT: dict[str, object] = {"type": "object"}
BASE = ("exec", "writeTextFile", "readTextFile", "todo", "attemptCompletion")
SKILLS: dict[str, Skill] = {
    BASE_SKILL: BaseSkill(pick=BASE),
    "s": LocalSkill(tools=(BIG, READ, WRITE)),
}
MODEL = ModelChoice(provider="simulated", model="simulated", output_tokens_max=100)

LOCAL_TOOLS = {
    name: LocalTool(
        spec=ToolSpec(name=name, description=name, parameters=ANY_OBJECT), safety=safety
    )
    for name, safety in ((WRITE, Safety.UNSAFE), (READ, Safety.READ_ONLY), (BIG, Safety.IDEMPOTENT))
}


def definition() -> Definition:
    """A coordinator with two delegates, one of which delegates again."""
    helper = Expert(key="@boss/helper", instruction="help", skills=SKILLS, model=MODEL)
    writer = Expert(key="@boss/writer", instruction="write", skills=SKILLS, model=MODEL)
    boss = Expert(
        key="boss",
        instruction="lead",
        delegates=("@boss/helper", "@boss/writer"),
        skills=SKILLS,
        model=MODEL,
    )
    experts = {expert.key: expert for expert in (writer, helper, boss)}
    return Definition(
        experts=dict(sorted(experts.items())),
        limits=Limits(steps_max=12, generation_attempts_max=8, retry_base_ms=200),
    )


Replies = Callable[[ModelRequest, random.Random], ModelReply]
"""What the models of a world say."""


class SimulatedModel:
    """Replies that depend on the request alone, so that a second attempt may say the same."""

    def __init__(
        self,
        seed: int,
        ledger: Ledger,
        alive: Callable[[], None],
        account: Account,
        epoch: str,
        *,
        replies: Replies | None = None,
    ) -> None:
        """`alive` raises when the process that asks is dead; `account` is the same for all."""
        self._seed = seed
        self._ledger = ledger
        self._alive = alive
        self._account = account
        self._epoch = epoch
        self._replies = replies or reply
        self._tries: dict[str, int] = {}

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """A reply, a failure, or a slow one of either."""
        self._alive()
        self._ledger.ask(request.digest)
        again = self._tries[request.digest] = self._tries.get(request.digest, 0) + 1
        dice = random.Random(f"{self._seed}/{request.digest}/{again}")
        self._account.begin(self._epoch, f"{self._seed}/{request.digest}/{again}/account")
        try:
            return await self._reply(request, on_delta, dice)
        finally:
            self._account.end(self._epoch)

    async def _reply(
        self,
        request: ModelRequest,
        on_delta: Callable[[Delta], Awaitable[None]],
        dice: random.Random,
    ) -> ModelReply:
        await asyncio.sleep(dice.choice((0.0, 0.01, 0.3, 2.0, 45.0 if dice.random() < 0.4 else 0)))
        self._alive()
        await on_delta(Delta("text", 0, 0, "…"))
        if dice.random() < 0.08:
            kinds: tuple[FailureKind, ...] = ("overloaded", "server", "network", "rejected")
            kind = dice.choices(kinds, weights=(4, 4, 4, 1))[0]
            raise ModelFailure(kind, "simulated", retry_after_ms=dice.choice((None, 500, 5_000)))
        said = random.Random(f"{self._seed}/{request.digest}")
        return said_to_tool(request, said) or self._replies(request, said)


def reply(request: ModelRequest, dice: random.Random) -> ModelReply:
    """Calls for a while, then an end."""
    said = sum(1 for message in request.messages if message.role == "assistant")
    parts: list[AssistantPart] = [TextPart(text="x" * dice.choice((3, 300, 40_000)))]
    if said < dice.randint(1, 6):
        tools = [tool.name for tool in request.context.tools] + ["nothing"]
        tools = [name for name in tools if name != "attemptCompletion"] + ["exec"] * 3
        for index in range(dice.choice((1, 1, 1, 2, 3))):
            tool = dice.choice(tools)
            arguments = '{"query":"go"}' if tool in ("helper", "writer") else _arguments(dice)
            if tool in BASE[:3]:
                arguments = "{}"
            parts.append(CallPart(provider_id=f"p{index}", tool=tool, arguments=arguments))
    elif dice.random() < 0.5:
        parts.append(CallPart(provider_id="end", tool="attemptCompletion", arguments="{}"))
    calls = any(isinstance(part, CallPart) for part in parts)
    usage = Usage(input=10, output=10) if dice.random() < 0.8 else None
    return ModelReply(tuple(parts), "tool_calls" if calls else "end", usage)


def _arguments(dice: random.Random) -> str:
    return dice.choice(("{}", '{"newTodos":["a"]}', '{"a":', "[]"))


class SimulatedTools:
    """Tools that count their effects in the ledger, slowly at times."""

    def __init__(
        self,
        seed: int,
        ledger: Ledger,
        alive: Callable[[], None],
        files: dict[str, set[str]] | None = None,
        asks: Asks | None = None,
    ) -> None:
        """`alive` raises when the process that runs the tool is dead; `files` are those of jobs.

        `asks` is how calls ask people and the model, in worlds where some do.
        """
        self._seed = seed
        self._ledger = ledger
        self._alive = alive
        self._files = files
        self._asks = asks

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """One effect, somewhere between a start and an answer that may take long."""
        self._alive()
        self._ledger.begins(call)
        dice = random.Random(f"{self._seed}/{call.key}/{self._ledger.executions[call.key]}")
        if dice.random() < 0.03:
            msg = "simulated: the means are away"
            raise Unavailable(msg)
        if self._asks is not None:
            again = self._ledger.executions[call.key]
            asking = random.Random(f"{self._seed}/{call.key}/{again}/asks")
            await ask_around(self._asks, self._ledger, call, asking)
            self._alive()
        slow_s = 50.0 if dice.random() < 0.05 else 0
        if self._files is not None and not slow_s:
            slow_s = dice.choice((0.0, 3.0))
        await asyncio.sleep(dice.choice((0.0, 0.02, 1.0, slow_s)))
        self._alive()
        text = f"{call.key}:{self._ledger.executions[call.key]}"
        self._ledger.executed(call.key, text)
        if self._files is not None:
            self._files.setdefault(call.ref.job, set()).add(call.key)
        await on_output("out")
        await asyncio.sleep(dice.choice((0.0, 0.02, 1.0)))
        self._alive()
        if dice.random() < 0.1:
            return failure("simulated", text)
        if call.tool == BIG:
            text += "y" * 50_000
        return ToolResult(
            content=(TextPart(text=text),),
            is_error=False,
            egress=(ROW,) if self._files is not None and dice.random() < 0.2 else (),
            full_output=text.encode() if call.tool == BIG else None,
        )
