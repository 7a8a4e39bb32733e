"""Finds many known texts in one, also where they are broken into lines. Not which texts."""

from collections.abc import Iterable
from typing import NamedTuple

from domain.secrets import SECRET_CHARS_MIN, marker

BREAKS = ("\\r", "\\n", "\r", "\n")
"""What breaks a text into lines: as it is, and as JSON has it. Passed over in the search."""

BREAKS_MAX = 5
"""How much longer a form is at most with a break after every character: `\\r\\n` in JSON."""

HEAD = 4
"""How much of a form tells it from most others, in characters."""


class Span(NamedTuple):
    """Where a form is in a text."""

    start: int
    end: int
    name: str


class Needle(NamedTuple):
    """A form as it is searched for; `tails` belong to it where they follow."""

    text: str
    name: str
    tails: tuple[str, ...]


class Needles:
    """The search for all forms in one type of text."""

    def __init__(self, needles: Iterable[Needle]) -> None:
        found: dict[str, Needle] = {}
        for needle in needles:
            for text in (needle.text, self._joined(needle.text)):
                if len(text) >= SECRET_CHARS_MIN:
                    found.setdefault(text, needle._replace(text=text))
        self.needles = tuple(sorted(found.values(), key=lambda one: len(one.text), reverse=True))
        self._texts = tuple(needle.text for needle in self.needles)
        self._edged = tuple(one for one in self._texts if self._edges(one))
        self.longest = len(self._texts[0]) if self._texts else 0
        self._by_head: dict[str, list[str]] = {}
        for text in self._texts:
            self._by_head.setdefault(text[:HEAD], []).append(text)

    def hits(self, text: str) -> bool:
        """Whether there is any form in a text: what nearly every text is asked and denies."""
        joined = self._joined(text)
        known = self._texts if joined is text else self._edged
        if any(needle in text for needle in known):
            return True
        return joined is not text and any(needle in joined for needle in self._texts)

    def _edges(self, needle: str) -> bool:
        """Whether a break can be within a needle, or between it and what is beside it.

        Any other needle that is in a text is in it without its breaks as well.
        """
        escape, letters = BREAKS[0][:1], (BREAKS[0][1:], BREAKS[1][1:])
        return (
            needle.startswith(letters)
            or needle.endswith(escape)
            or any(one in needle for one in BREAKS)
        )

    def spans(self, text: str) -> list[Span]:
        """Where forms are, in order; those that overlap are one."""
        found = self._found(text)
        if len(self._joined(text)) < len(text):
            joined, places = self._mapped(text)
            found += [
                Span(places[span.start], places[span.end - 1] + 1, span.name)
                for span in self._found(joined)
            ]
        merged: list[Span] = []
        for span in sorted(found, key=lambda one: (one.start, -one.end)):
            if merged and span.start < merged[-1].end:
                last = merged[-1]
                merged[-1] = last._replace(end=max(last.end, span.end))
            else:
                merged.append(span)
        return merged

    def held(self, text: str) -> int:
        """Where the end of a text begins that could become a form with what comes next."""
        base = max(0, len(text) - BREAKS_MAX * self.longest)
        end = text[base:]
        held = self._begun(end)
        ends = [end, end[:-1]] if end.endswith(BREAKS[0][:1]) else [end]
        for one in ends:  # a break may have begun, too
            joined, places = self._mapped(one)
            if len(joined) < len(end) and (begun := self._begun(joined)) < len(joined):
                held = min(held, places[begun])
        return base + held

    def _begun(self, text: str) -> int:
        for place in range(max(0, len(text) - self.longest + 1), len(text)):
            end = text[place:]
            if len(end) >= HEAD:
                known = self._by_head.get(end[:HEAD], ())
                begun = any(len(one) > len(end) and one.startswith(end) for one in known)
            else:
                begun = any(head.startswith(end) for head in self._by_head)
            if begun:
                return place
        return len(text)

    def _found(self, text: str) -> list[Span]:
        found: list[Span] = []
        for needle in self.needles:
            start = text.find(needle.text)
            while start >= 0:
                end = start + len(needle.text)
                tail = next((one for one in needle.tails if text.startswith(one, end)), "")
                found.append(Span(start, end + len(tail), needle.name))
                start = text.find(needle.text, start + 1)
        return found

    def _joined(self, text: str) -> str:
        for one in BREAKS:
            text = text.replace(one, "")
        return text

    def _mapped(self, text: str) -> tuple[str, list[int]]:
        """The text without its breaks, and where each of its characters was."""
        places = list(range(len(text)))
        for one in BREAKS:
            parts = text.split(one)
            if len(parts) == 1:
                continue
            kept: list[int] = []
            place = 0
            for part in parts:
                kept += places[place : place + len(part)]
                place += len(part) + len(one)
            places = kept
            text = "".join(parts)
        return text, places


def replaced(text: str, spans: Iterable[Span]) -> str:
    """The text with a marker where each span is."""
    parts: list[str] = []
    done = 0
    for span in spans:
        parts += [text[done : span.start], marker(span.name)]
        done = span.end
    return "".join([*parts, text[done:]]) if parts else text
