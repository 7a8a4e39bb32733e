"""What an expert is told of a conversation that is not its own, as docs/agui.md says. Pure."""

from collections.abc import Sequence

from gateway.chat.asked import ChatMessage

INSTRUCTIONS = "Instructions:"
SO_FAR = "The conversation so far:"
NOW = "Now:"

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool", "function": "Tool"}


def said_last(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """What the user said last: the messages after those of anybody else."""
    found: list[ChatMessage] = []
    for one in reversed(messages):
        if one.role != "user":
            break
        found.insert(0, one)
    return found


def text_of(messages: Sequence[ChatMessage]) -> str:
    """What some messages say, as one text."""
    return "\n\n".join(text for one in messages if (text := one.text))


def rendered(messages: Sequence[ChatMessage]) -> str:
    """A whole conversation as one query; a single message of the user is the query as it is."""
    now = said_last(messages)
    before = messages[: len(messages) - len(now)]
    rules = [one.text for one in before if one.role in ("system", "developer")]
    told = [one for one in before if one.role in SPEAKERS]
    blocks: list[str] = []
    if rules:
        blocks.append("\n\n".join([INSTRUCTIONS, *rules]))
    if told:
        lines = [f"{SPEAKERS[one.role]}: {one.text}" for one in told]
        blocks.append("\n\n".join([SO_FAR, *lines]))
    said = text_of(now)
    if not blocks:
        return said
    return "\n\n".join([*blocks, f"{NOW}\n\n{said}"])
