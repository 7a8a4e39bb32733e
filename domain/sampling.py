"""What a model is asked for a tool: a pure function of the log (rule 13). Not the call itself."""

from itertools import groupby

from domain.asks import SAMPLING_OUTPUT_TOKENS_MAX, SampleMessage, SampleRequest
from domain.content import AssistantMessage, Message, TextPart, UserMessage
from domain.conversation import say
from domain.limits import ModelChoice
from domain.prompt import ModelContext, SystemBlock, request_digest
from domain.record import canonical, digest_of
from domain.state import Conversation

SAMPLING_BLOCK = "sampling"
"""The name of the system block that a tool's own instructions are."""


def sample_model(model: ModelChoice, asked: SampleRequest) -> ModelChoice:
    """The run's model with room for what was asked for; it thinks as it does by itself."""
    tokens = min(asked.output_tokens_max, SAMPLING_OUTPUT_TOKENS_MAX, model.output_tokens_max)
    return model.model_copy(update={"output_tokens_max": tokens, "reasoning": "none"})


def sample_context(renderer: str, model: ModelChoice, asked: SampleRequest) -> ModelContext:
    """All but the conversation: the tool's own instructions, and no tools."""
    system = (SystemBlock(name=SAMPLING_BLOCK, text=asked.system),) if asked.system else ()
    return ModelContext(
        renderer=renderer, model=sample_model(model, asked), system=system, tools=()
    )


def sample_conversation(asked: SampleRequest) -> Conversation:
    """What the tool has said and wants an answer to; what one speaker says in a row is one turn."""
    conversation = Conversation()
    for speaker, messages in groupby(asked.messages, key=lambda one: one.speaker):
        conversation = say(conversation, _turn(speaker, list(messages)))
    return conversation


def _turn(speaker: str, messages: list[SampleMessage]) -> Message:
    parts = tuple(TextPart(text=one.text) for one in messages)
    if speaker == "assistant":
        return AssistantMessage(parts=parts)
    return UserMessage(parts=parts)


def sample_digest(renderer: str, model: ModelChoice, asked: SampleRequest) -> str:
    """The identity of the request, recorded before it is first used."""
    context = digest_of(canonical(sample_context(renderer, model, asked)))
    return request_digest(context, sample_conversation(asked).digest)
