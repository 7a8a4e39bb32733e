"""What tools ask in the middle of a call, and the answers, as commands. Not who decides them."""

from typing import Any

from domain import commands as c
from domain.asks import About, Elicitation, SampleMessage, SampleReply, SampleRequest
from domain.events import Failure
from domain.limits import Usage
from tests.support.runs import COUNT_SCHEMA

CONFIRM = Elicitation(message="Delete it?")
FORM = Elicitation(message="How many?", form=COUNT_SCHEMA)
LINK = Elicitation(message="Sign in.", url="https://example.org/sign-in")
SAY = SampleRequest(
    messages=(SampleMessage(speaker="user", text="Say it short."),),
    system="You are short.",
    output_tokens_max=20,
)


def asks(
    about: About = FORM, name: str = "q1", *, call: str = "c1-0", holder: str = "e1"
) -> c.AskInCall:
    return c.AskInCall(call=call, ask=name, holder=holder, about=about)


def answers_ask(
    content: dict[str, Any] | None = None, name: str = "q1", command: str = "w1"
) -> c.AnswerAsk:
    return c.AnswerAsk(id=command, ask=name, content=content)


def declines(name: str = "q1", command: str = "w1") -> c.AnswerAsk:
    return c.AnswerAsk(id=command, ask=name, action="decline")


def closes(name: str = "q1", command: str = "w1") -> c.AnswerAsk:
    return c.AnswerAsk(id=command, ask=name, action="cancel")


def says_for_tool(
    text: str = "Done.", name: str = "q1", usage: Usage | None = None
) -> c.EndSampling:
    reply = SampleReply(text=text, model="m-1", stop_reason="end")
    return c.EndSampling(ask=name, reply=reply, usage=usage or Usage(input=10, output=5))


def fails_for_tool(
    kind: str = "overloaded", name: str = "q1", usage: Usage | None = None
) -> c.EndSampling:
    failure = Failure(kind=kind, message="it did not work")
    return c.EndSampling(ask=name, failure=failure, usage=usage)
