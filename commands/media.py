"""What a file is by its first bytes, whatever its name says. Not a parser of any of them."""

PDF = "application/pdf"
PDF_LOOK_BYTES = 1024  # readers take a header that is not at the very beginning

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def media_type_of(content: bytes) -> str | None:
    """The media type of an image that models can see, or of a PDF; None for anything else."""
    for beginning, media_type in _BEGINNINGS:
        if content.startswith(beginning):
            return media_type
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return PDF if b"%PDF-" in content[:PDF_LOOK_BYTES] else None
