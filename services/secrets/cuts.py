"""Parts of texts without values of secrets, also without the part of one that a cut went through.

Pure. Where the text around a part is at hand, `within` looks there. Where it is not, `piece` takes
the beginning and the end of a part for what they could be, from EDGE_CHARS characters on.
"""

import re
from collections.abc import Iterator, Sequence

from domain.needles import BREAKS, BREAKS_MAX, Needles, Span, replaced
from domain.redaction import WITHHELD, Redactor

BREAK = re.compile("|".join(map(re.escape, BREAKS)))

HALF_BEFORE, HALVES_AFTER = "\\", ("n", "r")
"""What is left of a break in JSON on the two sides of a cut through it."""

EDGE_CHARS = 8
"""How many characters of a value at the edge of a part are hidden; fewer are too many by chance."""


def within(redactor: Redactor, text: str, start: int = 0, stop: int | None = None) -> str:
    """A part of a text: a value that lies across one of its ends is hidden as well."""
    return _within(redactor.in_text, text, start, len(text) if stop is None else stop)


def data_within(redactor: Redactor, data: bytes, start: int = 0, stop: int | None = None) -> bytes:
    """The same for bytes of whatever encoding."""
    end = len(data) if stop is None else stop
    return _within(redactor.in_data, data.decode("latin-1"), start, end).encode("latin-1")


def _within(needles: Needles, text: str, start: int, stop: int) -> str:
    margin = needles.longest * BREAKS_MAX
    base = max(0, start - margin)
    around, part = text[base : stop + margin], text[start:stop]
    try:
        if not needles.hits(around):
            return part
        spans = [
            Span(max(start, base + one.start) - start, min(stop, base + one.end) - start, one.name)
            for one in needles.spans(around)
            if base + one.start < stop and base + one.end > start
        ]
        return replaced(part, spans)
    except Exception:  # noqa: BLE001 - whatever it was, the text may hold a secret
        return WITHHELD


def piece(needles: Needles, text: str) -> str:
    """A part of a text of which nothing else is known."""
    try:
        edges = list(_edges(needles, text))
        if not edges and not needles.hits(text):
            return text
        return replaced(text, _merged([*needles.spans(text), *edges]))
    except Exception:  # noqa: BLE001 - whatever it was, the text may hold a secret
        return WITHHELD


def _edges(needles: Needles, text: str) -> Iterator[Span]:
    """What of forms could be at the two ends of a text, with breaks in it passed over.

    The cut may have gone through a break as well.
    """
    starts = {0, *(len(rest) for rest in HALVES_AFTER if text.startswith(rest))}
    stops = {len(text), len(text.removesuffix(HALF_BEFORE))}
    for start in starts:
        for stop in stops:
            for span in _ends(needles, text[start:stop]):
                yield span._replace(start=span.start + start, end=span.end + start)


def _ends(needles: Needles, text: str) -> Iterator[Span]:
    joined, places = _joined(text)
    if len(joined) < EDGE_CHARS:
        return
    head, tail = joined[:EDGE_CHARS], joined[-EDGE_CHARS:]
    for needle in needles.needles:
        form = needle.text
        for at in _places_of(head, form):
            size = min(len(form) - at, len(joined))
            if joined[:size] == form[at : at + size]:
                yield Span(0, places[size - 1] + 1, needle.name)
        for at in _places_of(tail, form):
            size = min(at + EDGE_CHARS, len(joined))
            if joined[-size:] == form[at + EDGE_CHARS - size : at + EDGE_CHARS]:
                yield Span(places[-size], len(text), needle.name)


def _places_of(part: str, form: str) -> Iterator[int]:
    at = form.find(part)
    while at >= 0:
        yield at
        at = form.find(part, at + 1)


def _joined(text: str) -> tuple[str, list[int]]:
    """The text without what breaks it into lines, and where each of its characters was."""
    places: list[int] = []
    at = 0
    for found in BREAK.finditer(text):
        places += range(at, found.start())
        at = found.end()
    places += range(at, len(text))
    return "".join(text[place] for place in places), places


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if merged and span.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged
