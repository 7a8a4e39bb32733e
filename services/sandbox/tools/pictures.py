"""The tools that show a model an image or a document itself. Not what a provider does with it."""

from typing import Any

from commands.media import PDF, media_type_of
from domain.base_tools import ReadImageFile, ReadPdfFile
from domain.redaction import Redactor
from services.sandbox.capture import INLINE_BYTES_MAX
from services.sandbox.failures import Code, ToolError
from services.sandbox.helper import helper
from services.sandbox.tools.answers import Answer, read_on, result
from services.sandbox.tools.desk import Desk
from services.secrets.cuts import data_within
from services.worker.toolbox import ToolCall, ToolFile, ToolResult

MIB = 1024 * 1024
IMAGE_BYTES_MAX = 15 * MIB
PDF_BYTES_MAX = 30 * MIB
EXTRACT_S = 20
MODULE = "services.sandbox.pdf_text"


def look_at_image(desk: Desk, arguments: ReadImageFile) -> ToolFile:
    """An image, for the model to see.

    Raises:
        ToolError: no such file, not an image that models can see, or too large.
    """
    content = desk.look(arguments.path, IMAGE_BYTES_MAX).content
    media_type = media_type_of(content)
    if media_type is None or media_type == PDF:
        message = f"{arguments.path!r} is not a PNG, JPEG, GIF or WebP image"
        raise ToolError(Code.NOT_AN_IMAGE, message)
    return ToolFile(_name(arguments.path), media_type, content)


def look_at_pdf(desk: Desk, arguments: ReadPdfFile) -> ToolFile:
    """A PDF, for the model to see.

    Raises:
        ToolError: no such file, not a PDF, or too large.
    """
    content = desk.look(arguments.path, PDF_BYTES_MAX).content
    if media_type_of(content) != PDF:
        raise ToolError(Code.NOT_A_PDF, f"{arguments.path!r} is not a PDF document")
    return ToolFile(_name(arguments.path), PDF, content)


def image_result(path: str, file: ToolFile) -> ToolResult:
    """The answer that goes with an image."""
    return result(_described(path, file), files=(file,))


async def pdf_result(path: str, file: ToolFile, call: ToolCall, redactor: Redactor) -> ToolResult:
    """The answer that goes with a document: what text can be had of it in EXTRACT_S seconds.

    A document can keep its reader busy for ever, or ask for all memory there is, so another
    process reads it.
    """
    answer = _described(path, file)
    texts: list[str] = []

    def take(said: dict[str, Any]) -> None:
        if "pages" in said:
            answer["pages"] = said["pages"]
        else:
            texts.append(said["text"])

    async with helper(MODULE, file.data) as running:
        await running.hear(take, min(EXTRACT_S, call.timeout_ms / 1000))
    whole = "".join(
        f"--- page {number} ---\n{text}\n" for number, text in enumerate(texts, start=1)
    ).encode("utf-8", "replace")
    if not any(text.strip() for text in texts):
        answer["note"] = "no text could be extracted; look at the document itself"
        return result(answer, files=(file,))
    if len(texts) < answer.get("pages", 0):
        answer["note"] = f"text of the first {len(texts)} pages only; the document has them all"
    shown = data_within(redactor, whole, stop=INLINE_BYTES_MAX)
    answer["text"] = shown.decode("utf-8", "ignore")
    if len(whole) <= INLINE_BYTES_MAX:
        return result(answer, files=(file,))
    answer |= {"truncated": True, "more": read_on(call.call)}
    return result(answer, files=(file,), full_output=whole)


def _described(path: str, file: ToolFile) -> Answer:
    return {"path": path, "mimeType": file.media_type, "size": len(file.data)}


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
