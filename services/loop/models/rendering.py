"""What every wire format needs to spell a request: call ids, arguments, files. Not a format itself.

All of it is a pure function of the messages, and what is said of a message depends on that message
and the ones before it only: that keeps a request's prefix the same from step to step (C20).
"""

import base64
import json
import re
from collections import deque
from collections.abc import Mapping

from pydantic import JsonValue

from domain.content import CallPart, ContentPart, FilePart, ResultPart, TextPart
from domain.prompt import ModelRequest

IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
MALFORMED = "_malformed"
"""Where arguments that are no JSON object go in a later request: `{"_malformed": "<the text>"}`."""

NOTHING = "(empty)"
"""Said where a format does not allow nothing at all."""

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class CallIds:
    """The ids that calls have on the wire: the provider's own, unless a provider would reject it.

    Some servers number calls from zero in every reply, some use characters or lengths others
    refuse. An id that was taken before, or is not made of 1 to 64 of `a-zA-Z0-9_-`, is replaced by
    one made from its place in the conversation. A result belongs to the call of its id in the
    reply before it; of two calls with one id, the first result belongs to the first.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._open: dict[str, deque[str]] = {}
        self._count = 0

    def next_reply(self) -> None:
        """Forget the calls of the reply before; results that come belong to this one."""
        self._open.clear()

    def call(self, part: CallPart) -> str:
        """The id on the wire of the next call."""
        self._count += 1
        wire_id = part.provider_id
        suffix = self._count
        while wire_id in self._taken or not _ID.fullmatch(wire_id):
            wire_id = f"call_n{suffix}"
            suffix += self._count
        self._taken.add(wire_id)
        self._open.setdefault(part.provider_id, deque()).append(wire_id)
        return wire_id

    def result(self, part: ResultPart) -> str | None:
        """The id on the wire of the call that a result answers; None when there is no such call."""
        waiting = self._open.get(part.provider_id)
        return waiting.popleft() if waiting else None


def arguments_object(text: str) -> dict[str, JsonValue]:
    """Call arguments as an object; what is no JSON object is wrapped (see `MALFORMED`)."""
    if not text.strip():
        return {}
    try:
        value: JsonValue = json.loads(text, parse_constant=_no_constant)
        # A lone surrogate escape is JSON but has no UTF-8 form, so it could not be sent again.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {MALFORMED: text}
    return value if isinstance(value, dict) else {MALFORMED: text}


def arguments_text(text: str) -> str:
    """Call arguments as the text they came as, if that is a JSON object; else wrapped."""
    value = arguments_object(text)
    return text if value and MALFORMED not in value else json.dumps(value, ensure_ascii=False)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def named(part: FilePart) -> str:
    """A file as a text, for a format or a type that cannot carry it."""
    return f"[file {part.name or part.blob.digest}: {part.blob.media_type}, {part.blob.size} bytes]"


def is_image(part: ContentPart) -> bool:
    """Whether a part is an image that all formats know."""
    return isinstance(part, FilePart) and part.blob.media_type in IMAGE_TYPES


def base64_of(request: ModelRequest, part: FilePart) -> str:
    """The content of a file in base64."""
    return base64.b64encode(request.blobs[part.blob.digest]).decode("ascii")


def data_url(request: ModelRequest, part: FilePart) -> str:
    """The content of a file as a data URL."""
    return f"data:{part.blob.media_type};base64,{base64_of(request, part)}"


def readable(request: ModelRequest, part: ContentPart) -> str:
    """A part as text: a text in full, a file by name."""
    return request.text(part.text) if isinstance(part, TextPart) else named(part)


def result_text(request: ModelRequest, part: ResultPart) -> str:
    """A result as one text, for formats that have neither parts nor an error flag in it."""
    text = "\n".join(filter(None, (readable(request, item) for item in part.content))) or NOTHING
    return f"Error: {text}" if part.is_error else text


def block_of(text: str) -> Mapping[str, JsonValue]:
    """A thinking block as it is sent back: the object its text says, unedited.

    The texts are what `reply` made of a provider's own block, so they are JSON objects; anything
    else gives an empty block, which no format sends.
    """
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
