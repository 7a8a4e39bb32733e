"""A toolbox whose calls ask the person one thing, and answer with what they heard."""

from dataclasses import dataclass

from domain.content import TextPart
from services.worker.skills import Asks, Question
from services.worker.toolbox import OnOutput, ToolCall, ToolResult
from tests.support.runs import COUNT_SCHEMA

HOW_MANY = Question("How many?", schema=COUNT_SCHEMA)
SIGN_IN = Question("Sign in.", url="https://example.org/sign-in")


@dataclass(frozen=True)
class AskingBox:
    """Fills `ToolBox`."""

    asks: Asks
    question: Question = HOW_MANY

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Ask, and say what was heard."""
        await on_output("asking")
        heard = await self.asks.elicit(call, self.question)
        return ToolResult((TextPart(text=f"{heard.action} {heard.content}"),), is_error=False)
