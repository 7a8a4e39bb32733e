"""Files that come inside a message, stored as parts of what is said. Not uploads: see `blobs`."""

import base64
import binascii

from domain.content import BlobRef, FilePart
from eventlog.port import Blobs
from gateway.problems import Problem

FILE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"})
"""What experts can look at."""


async def store_file(blobs: Blobs, tenant: str, media_type: str, text: str) -> FilePart:
    """Store a file that is given as base64.

    Raises:
        Problem: it is no such thing, or of a type that experts cannot see.
        Unavailable: it is not stored.
    """
    if media_type not in FILE_TYPES:
        known = ", ".join(sorted(FILE_TYPES))
        raise Problem(422, "bad_file", f"messages: files may be {known}")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Problem(422, "bad_file", "messages: the data of a file is not base64") from None
    digest = await blobs.put(tenant, data)
    return FilePart(blob=BlobRef(digest=digest, size=len(data), media_type=media_type))
