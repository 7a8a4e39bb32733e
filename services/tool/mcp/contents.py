"""What a server answered, piece by piece, as a model can take it in. Not the whole result.

Images are taken for what their first bytes are, never for what a server calls them: a provider
refuses a picture that is none, and the run would end with it.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    ContentBlock,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    ListResourcesResult,
    ReadResourceResult,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from commands.media import PDF, media_type_of
from domain.record import clean
from services.worker.toolbox import ToolFile

MIB = 1024 * 1024

PARTS_MAX = 1_000
FILES_MAX = 20
IMAGE_BYTES_MAX = 5 * MIB
"""Of one image: what providers take."""

FILES_BYTES_MAX = 12 * MIB
"""Of all files of a result: it came in one message, which is not much longer."""

LABEL_CHARS_MAX = 1_000


@dataclass(slots=True)
class Pieces:
    """Texts for the model, files for it to look at, and data it can only be told of."""

    texts: list[str] = field(default_factory=list[str])
    files: list[ToolFile] = field(default_factory=list[ToolFile])
    kept: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    """Binary data that no model is shown, with its type."""

    def add(self, block: ContentBlock) -> None:
        """Take in one block of an answer."""
        match block:
            case TextContent():
                self.texts.append(clean(block.text))
            case ImageContent():
                self.binary("image", block.mime_type, block.data)
            case AudioContent():
                self.binary("audio", block.mime_type, block.data)
            case ResourceLink():
                self.texts.append(_link(block))
            case EmbeddedResource():
                self.resource(block.resource)

    def resource(self, found: TextResourceContents | BlobResourceContents) -> None:
        """Take in what a resource holds."""
        where = _label(found.uri)
        if isinstance(found, TextResourceContents):
            self.texts.append(f"[resource {where}]\n{clean(found.text)}")
        else:
            self.binary(f"resource {where}", found.mime_type or "", found.blob)

    def binary(self, what: str, said: str, encoded: str) -> None:
        """Take in data that came as base64: shown if it is an image, else told of."""
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            self.texts.append(f"[{what}: its data is no base64, so it is not shown]")
            return
        found = media_type_of(data)
        size = f"{len(data)} bytes"
        if found is not None and found != PDF and self._has_room(len(data)):
            name = f"{what.split(' ', 1)[0]}-{len(self.files) + 1}.{found.rpartition('/')[2]}"
            self.files.append(ToolFile(name, found, data))
            self.texts.append(f"[{what}: {found}, {size}, shown as {name}]")
            return
        why = "too much to be shown" if found in PICTURES else "not shown"
        kind = found or f"said to be {_label(said) or 'of no type'}"
        self.kept.append((found or "application/octet-stream", data))
        self.texts.append(f"[{what}: {kind}, {size}, {why}]")

    def _has_room(self, size: int) -> bool:
        used = sum(len(file.data) for file in self.files)
        fits = size <= IMAGE_BYTES_MAX and used + size <= FILES_BYTES_MAX
        return fits and len(self.files) < FILES_MAX


PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def of_blocks(blocks: Iterable[ContentBlock]) -> Pieces:
    """The pieces of a tool's answer."""
    pieces = Pieces()
    left_out = 0
    for number, block in enumerate(blocks):
        if number < PARTS_MAX:
            pieces.add(block)
        else:
            left_out += 1
    if left_out:
        pieces.texts.append(f"[{left_out} more parts are left out]")
    return pieces


def of_resource(result: ReadResourceResult) -> Pieces:
    """The pieces of a resource that was read."""
    pieces = Pieces()
    for content in result.contents[:PARTS_MAX]:
        pieces.resource(content)
    if not result.contents:
        pieces.texts.append("[the resource is empty]")
    return pieces


def of_listing(result: ListResourcesResult) -> Pieces:
    """The resources of a server, a line for each."""
    pieces = Pieces()
    lines = [
        " ".join(
            part
            for part in (
                _label(found.uri),
                _label(found.title or found.name),
                _label(found.mime_type or ""),
                f"{found.size} bytes" if found.size is not None else "",
                _label(found.description or ""),
            )
            if part
        )
        for found in result.resources
    ]
    pieces.texts.append("\n".join(lines) or "There are no resources.")
    if result.next_cursor is not None:
        pieces.texts.append(f"There are more: go on with cursor {_label(result.next_cursor)!r}.")
    return pieces


def of_prompt(result: GetPromptResult) -> Pieces:
    """A prompt that was filled in: its messages, by who says them."""
    pieces = Pieces()
    for message in result.messages[:PARTS_MAX]:
        pieces.texts.append(f"[{message.role}]")
        pieces.add(message.content)
    return pieces


def _link(link: ResourceLink) -> str:
    about = _label(link.description or link.title or link.name)
    kind = f", {_label(link.mime_type)}" if link.mime_type else ""
    return f"[resource {_label(link.uri)}{kind}: {about}; readResource of this skill reads it]"


def _label(text: str) -> str:
    """A text of a server within a line of ours."""
    return " ".join(clean(text).split())[:LABEL_CHARS_MAX]
