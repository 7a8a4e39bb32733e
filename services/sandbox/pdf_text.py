"""The text of a PDF, in a process of its own that can be killed. Not the tool's answer.

Standard input: the document. Standard output: a JSON value a line, `{"pages": n}` first, then
`{"text": text}` for each page in order, as far as the limits let it. A document that its reader
does not understand ends the process, and so the output.
"""

import io
import json
import sys

from services.sandbox.self_limit import limit_self

SECONDS_MAX = 30
TEXT_CHARACTERS_MAX = 2_000_000


def main() -> None:
    """Read the document and say its text, page by page."""
    from pypdf import PdfReader  # noqa: PLC0415 - only this process needs it

    limit_self(SECONDS_MAX)
    pages = PdfReader(io.BytesIO(sys.stdin.buffer.read())).pages
    _say({"pages": len(pages)})
    left = TEXT_CHARACTERS_MAX
    for page in pages:
        text = page.extract_text()
        left -= len(text)
        if left < 0:
            return
        _say({"text": text})


def _say(said: object) -> None:
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
    sys.stdout.buffer.flush()
