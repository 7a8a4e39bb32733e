"""What people hand to an expert beside words, as parts of what is said. Not how it is stored."""

from collections.abc import Sequence
from typing import NamedTuple

from commands.media import PDF, media_type_of
from domain.content import BlobRef, ContentPart, FilePart, TextPart
from domain.errors import NoSuchBlob, Rejected
from eventlog.port import Blobs

MIB = 1024 * 1024
IMAGE_BYTES_MAX = 15 * MIB
PDF_BYTES_MAX = 30 * MIB
TEXT_BYTES_MAX = MIB

IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
TEXTS = frozenset(
    {
        "application/json",
        "application/jsonl",
        "application/toml",
        "application/x-ndjson",
        "application/x-yaml",
        "application/yaml",
        "application/xml",
        "application/javascript",
    }
)
"""Texts that are not called so; whatever begins with `text/` is one."""


class Attachment(NamedTuple):
    """Content that is in BLOBS, and what it is said to be."""

    digest: str
    media_type: str
    name: str = ""


async def parts_of(
    blobs: Blobs, tenant: str, attachments: Sequence[Attachment]
) -> tuple[ContentPart, ...]:
    """The attachments as an expert is told them: images and PDFs as they are, texts as text.

    Raises:
        Rejected: one is not there, too large, or nothing that an expert can be told.
        Unavailable: the store is away.
        IntegrityViolated: the content is not what was stored.
    """
    return tuple([await _part(blobs, tenant, one) for one in attachments])


async def _part(blobs: Blobs, tenant: str, one: Attachment) -> ContentPart:
    media_type = one.media_type.partition(";")[0].strip().lower()
    is_text = media_type.startswith("text/") or media_type in TEXTS
    if not (is_text or media_type in IMAGES or media_type == PDF):
        known = ", ".join((*sorted(IMAGES), PDF, "text/*", *sorted(TEXTS)))
        message = f"an attachment is of a type that no expert can be told; there are: {known}"
        raise Rejected("bad_attachment", message)
    try:
        data = await blobs.get(tenant, one.digest)
    except NoSuchBlob:
        message = f"nothing was uploaded that has the digest {one.digest[:12]}…"
        raise Rejected("bad_attachment", message) from None
    if is_text:
        return _text(data, one.name)
    most = PDF_BYTES_MAX if media_type == PDF else IMAGE_BYTES_MAX
    _check_size(data, most, media_type)
    found = media_type_of(data)
    if found != media_type:
        message = f"an attachment is said to be {media_type}, and is {found or 'something else'}"
        raise Rejected("bad_attachment", message)
    blob = BlobRef(digest=one.digest, size=len(data), media_type=media_type)
    return FilePart(blob=blob, name=one.name)


def _text(data: bytes, name: str) -> TextPart:
    _check_size(data, TEXT_BYTES_MAX, "text")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        message = "an attachment is said to be text, and is not UTF-8"
        raise Rejected("bad_attachment", message) from None
    return TextPart(text=f"Attached: {name or 'a text'}\n\n{text}")


def _check_size(data: bytes, most: int, what: str) -> None:
    if len(data) > most:
        message = f"an attachment that is {what} has {len(data)} bytes; it may have {most}"
        raise Rejected("bad_attachment", message)
