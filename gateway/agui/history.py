"""The conversation of a job as AG-UI messages, folded from its events. Not how a turn is told."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ag_ui.core.types import (
    ActivityMessage,
    AssistantMessage,
    FunctionCall,
    Message,
    ReasoningMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)

from domain import events as e
from domain.content import AssistantPart, BlobRef, ContentPart, FilePart, Text, TextPart
from domain.ids import RunRef
from eventlog.port import Blobs
from gateway.agui.names import call_of, message_of, reasoning_of, result_of
from gateway.turns.speech import text_at, whole_text
from gateway.turns.turn import Told
from projections.views.showing import thought

THOUGHT_CHARS_MAX = 200_000
CONTEXT_TITLE = "Context:"


@dataclass(slots=True)
class _Said:
    """What a person said."""

    id: str
    parts: tuple[ContentPart, ...]


@dataclass(slots=True)
class _Reply:
    """What a model replied, with its calls."""

    ref: RunRef
    step: int
    parts: tuple[AssistantPart, ...]
    calls: list[e.ToolCallRequested] = field(default_factory=list[e.ToolCallRequested])


@dataclass(slots=True)
class _Result:
    """What a call came to."""

    ref: RunRef
    ended: e.ToolCallEnded


class History:
    """Hears the events of a job. `messages` has the client's own names for what came from it."""

    def __init__(self, ref: RunRef, known: Iterable[Message]) -> None:
        self._ref = ref
        self._rows: list[_Said | _Reply | _Result] = []
        self._replies: dict[tuple[str, int], _Reply] = {}
        self.unheard = False  # whether something was said that the client does not have
        known = list(known)
        self._groups = list(_groups(known))
        self._tool_names = {one.tool_call_id: one.id for one in known if one.role == "tool"}

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return not self._rows

    def hear(self, told: Told) -> None:
        """The next event."""
        run = told.ref.run
        match told.event:
            case e.InputReceived(speaker="user", input=name, parts=parts) if told.ref == self._ref:
                self._rows.append(_Said(name, parts))
            case e.GenerationCompleted(step=step, parts=parts):
                reply = self._replies[run, step] = _Reply(told.ref, step, parts)
                self._rows.append(reply)
            case e.ToolCallRequested(step=step) as call if (run, step) in self._replies:
                self._replies[run, step].calls.append(call)
            case e.ToolCallEnded() as ended:
                self._rows.append(_Result(told.ref, ended))
            case _:
                pass

    async def messages(self, blobs: Blobs) -> list[Message]:
        """All of it now.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        found: list[Message] = []
        groups = list(self._groups)
        for row in self._rows:
            match row:
                case _Said():
                    found.extend(await self._said(blobs, row, groups))
                case _Reply():
                    found.extend(await self._reply(blobs, row))
                case _Result():
                    found.append(await self._result(blobs, row))
        return found

    def subagent(self, ref: RunRef) -> str | None:
        """What attributes something to a run below the root."""
        return None if ref.run == self._ref.run else ref.run

    async def _said(
        self, blobs: Blobs, said: _Said, groups: list[list[UserMessage]]
    ) -> list[Message]:
        """The client's own messages, where it said this; they may have been several."""
        words = tuple(part for part in said.parts if isinstance(part, TextPart))
        text = await content_text(blobs, self._ref.tenant, words)
        for at, group in enumerate(groups):
            joined = text_of_group(group)
            if text == joined or text.startswith(f"{joined}\n\n{CONTEXT_TITLE}\n"):
                del groups[: at + 1]
                return [*group]
        self.unheard = self.unheard or bool(self._groups)
        whole = await content_text(blobs, self._ref.tenant, said.parts)
        return [UserMessage(id=said.id, content=whole)]

    async def _reply(self, blobs: Blobs, reply: _Reply) -> list[Message]:
        ref, found = reply.ref, list[Message]()
        subagent = self.subagent(ref)
        thoughts = thought(reply.parts, THOUGHT_CHARS_MAX)
        if thoughts:
            name = reasoning_of(ref.run, reply.step)
            found.append(ReasoningMessage(id=name, content=thoughts, subagent_run_id=subagent))
        text = await whole_text(blobs, ref.tenant, reply.parts)
        calls = [
            ToolCall(
                id=call_of(ref.run, call.call),
                function=FunctionCall(
                    name=call.tool, arguments=await text_at(blobs, ref.tenant, call.arguments)
                ),
            )
            for call in reply.calls
        ]
        if text or calls:
            name = message_of(ref.run, reply.step)
            found.append(
                AssistantMessage(
                    id=name,
                    content=text or None,
                    tool_calls=calls or None,
                    subagent_run_id=subagent,
                )
            )
        return found

    async def _result(self, blobs: Blobs, result: _Result) -> ToolMessage:
        ref, ended = result.ref, result.ended
        call = call_of(ref.run, ended.call)
        return ToolMessage(
            id=self._tool_names.get(call, result_of(ref.run, ended.call)),
            tool_call_id=call,
            content=await content_text(blobs, ref.tenant, ended.content),
            error=ended.outcome if ended.outcome != "succeeded" else None,
            subagent_run_id=self.subagent(ref),
        )


async def content_text(blobs: Blobs, tenant: str, parts: tuple[ContentPart, ...]) -> str:
    """What a person or a tool handed over, as text; files are named.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: it is not what was stored.
    """
    found = [await text_at(blobs, tenant, _text(part)) for part in parts]
    return "\n\n".join(found)


def _text(part: ContentPart) -> Text:
    match part:
        case TextPart():
            return part.text
        case FilePart():
            return f"[{part.name or 'file'}: {_kind(part.blob)}]"


def _kind(blob: BlobRef) -> str:
    return f"{blob.media_type}, {blob.size} bytes"


def is_ours(message: Message) -> bool:
    """Whether a message came from here, as far as its role and its id say so."""
    match message:
        case AssistantMessage() | ReasoningMessage() | ActivityMessage():
            return True
        case ToolMessage(id=name, tool_call_id=call):
            return name == f"{call}.result"
        case _:
            return False


def says_something(messages: list[Message]) -> bool:
    """Whether the last word is the client's."""
    return (
        bool(messages)
        and isinstance(messages[-1], UserMessage | ToolMessage)
        and not is_ours(messages[-1])
    )


def said_now(messages: list[Message]) -> list[UserMessage | ToolMessage]:
    """What the client said last: texts, and answers given as results of tools.

    What came from here since is left out: of a turn that is asked for again, some may have come.
    """
    found: list[UserMessage | ToolMessage] = []
    for one in reversed(messages):
        if is_ours(one):
            if found:
                break
        elif isinstance(one, UserMessage | ToolMessage):
            found.insert(0, one)
    return found


def text_of_group(group: list[UserMessage]) -> str:
    """What somebody said in several messages, as one text."""
    return "\n\n".join(text for one in group if (text := text_of_message(one)))


def text_of_message(message: UserMessage) -> str:
    """The text of a message; its files are told elsewhere."""
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(part.text for part in message.content if part.type == "text")


def _groups(messages: list[Message]) -> Iterable[list[UserMessage]]:
    """What was said at a time: messages of the user with none of others between them."""
    group: list[UserMessage] = []
    for one in messages:
        if isinstance(one, UserMessage):
            group.append(one)
        elif group:
            yield group
            group = []
    if group:
        yield group
