"""Anthropic's own content blocks while they stream, kept as they came. Not texts or calls of ours.

Sources: `types/content_block.py` and `types/raw_content_block_delta.py` of the `anthropic` SDK; of
what may come back, `types/content_block_param.py`.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue

from domain.record import canonical

if TYPE_CHECKING:
    from anthropic.types import RawContentBlockDelta, RawContentBlockStartEvent

FORMAT = "anthropic"
"""The wire format that blocks are marked with."""

THINKING = frozenset({"thinking", "redacted_thinking"})
SERVER_USE = "server_tool_use"
RESULT_SUFFIX = "_tool_result"
UPLOAD = "container_upload"
CONTAINER = "container"
"""The type of a block of ours that keeps the id of the container a reply used."""

CITED = "text"


def is_own(kind: str) -> bool:
    """Whether a block of that type is the provider's own, and may be sent back."""
    return kind in THINKING or kind in {SERVER_USE, UPLOAD} or kind.endswith(RESULT_SUFFIX)


class OwnBlocks:
    """The blocks of one answer by index, fields we do not know included."""

    def __init__(self) -> None:
        self._blocks: dict[int, dict[str, object]] = {}
        self._inputs: dict[int, list[str]] = {}

    def start(self, event: "RawContentBlockStartEvent") -> None:
        """Keep a block as it begins."""
        self._blocks[event.index] = event.content_block.to_dict(mode="json")

    def add(self, index: int, piece: "RawContentBlockDelta") -> None:
        """Take the next piece of a block; a piece of a block that never began begins it."""
        match piece.type:
            case "text_delta":
                self._append(index, "text", piece.text)
            case "thinking_delta":
                self._append(index, "thinking", piece.thinking)
            case "signature_delta":
                self._append(index, "signature", piece.signature)
            case "input_json_delta":
                self._inputs.setdefault(index, []).append(piece.partial_json)
            case "citations_delta":
                self._cite(index, piece.citation.to_dict(mode="json"))
            case _:
                pass

    def has(self, index: int) -> bool:
        """Whether that block is kept."""
        return index in self._blocks

    def is_text(self, index: int) -> bool:
        """Whether that block is a text."""
        return self._blocks[index].get("type") == CITED

    def kept(self) -> Mapping[int, str]:
        """The JSON of every block that is whole and the provider's own, by index.

        A text is one only with citations: it then goes back in its own form.
        """
        found: dict[int, str] = {}
        for index, block in self._blocks.items():
            kind = block.get("type")
            whole = self._with_input(index, block)
            own = isinstance(kind, str) and is_own(kind)
            if whole is not None and (own or (kind == CITED and block.get("citations"))):
                found[index] = canonical(whole).decode()
        return found

    def _append(self, index: int, name: str, piece: str) -> None:
        block = self._blocks.setdefault(index, {"type": "thinking", "thinking": ""})
        before = block.get(name)
        block[name] = f"{before}{piece}" if isinstance(before, str) else piece

    def _cite(self, index: int, citation: dict[str, object]) -> None:
        block = self._blocks.setdefault(index, {"type": CITED, "text": ""})
        before = block.get("citations")
        block["citations"] = [*before, citation] if isinstance(before, list) else [citation]

    def _with_input(self, index: int, block: dict[str, object]) -> dict[str, object] | None:
        """The block with what was streamed as its input; None when that was cut."""
        text = "".join(self._inputs.get(index, []))
        if not text:
            return block
        try:
            value: JsonValue = json.loads(text)
        except ValueError:
            return None
        return {**block, "input": value} if isinstance(value, dict) else None
