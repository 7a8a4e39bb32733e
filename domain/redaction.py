"""Takes the values of secrets out of what leaves a process (C15). Pure; not where they come from.

A value is known by its *forms*: itself and the encodings that programs put texts into. A form is
found also where it was broken into lines. Not found: values that were encoded twice, compressed,
encrypted, reversed or cut into pieces; what must not leave at all has to be kept out (C16).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

from pydantic import BaseModel

from domain.content import TextPart, ThinkingPart
from domain.forms import forms_of
from domain.needles import Needle, Needles, replaced

WITHHELD = "[withheld: it could not be searched for secrets]"
"""What stands where a text was whose redaction failed."""

THOUGHT_WITHHELD = "[thought withheld: it held a secret]"
"""What stands where a provider's block was: it goes back unedited or not at all (C19)."""

IDENTITIES = frozenset(
    {
        "type",
        "kind",
        "id",
        "call",
        "child",
        "ask",
        "holder",
        "expert",
        "definition",
        "digest",
        "timer",
    }
)
"""Fields of commands that are made by us to name things; to change one would break the name."""

Value = TypeVar("Value")
ModelT = TypeVar("ModelT", bound=BaseModel)


class Redactor:
    """Knows values by name, and puts `[secret:NAME]` where one is. Never changes."""

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        """`values` are (name, value); too short ones are passed over."""
        forms = [(name, form) for name, value in values for form in forms_of(value)]
        self.in_text = Needles(Needle(form.text, name, form.tails) for name, form in forms)
        self.in_data = Needles(
            Needle(_bytewise(form.text), name, tuple(map(_bytewise, form.tails)))
            for name, form in forms
        )

    @property
    def longest(self) -> int:
        """The length of the longest form in bytes; 0 when no value is known."""
        return self.in_data.longest

    def text(self, text: str) -> str:
        """The text without values: itself when there is none in it, WITHHELD when that fails."""
        return _clean(self.in_text, text)

    def data(self, data: bytes) -> bytes:
        """The same for bytes, of whatever encoding."""
        text = data.decode("latin-1")  # a character a byte
        clean = _clean(self.in_data, text)
        return data if clean is text else clean.encode("latin-1")

    def finds(self, data: bytes) -> str | None:
        """The name of a secret whose value is in some bytes; None when there is none."""
        text = data.decode("latin-1")
        if not self.in_data.hits(text):
            return None
        return next((span.name for span in self.in_data.spans(text)), None)

    def value(self, value: Value, keep: frozenset[str] = frozenset()) -> Value:
        """A record, or JSON value, without values in any of its texts; itself when there is none.

        Fields of records that `keep` names stay as they are.
        """
        return cast("Value", self._walk(value, keep))

    def _walk(self, value: object, keep: frozenset[str]) -> object:
        match value:
            case str():
                return self.text(value)
            case bytes():
                return self.data(value)
            case ThinkingPart(block=str() as block) if self.text(block) is not block:
                return TextPart(text=THOUGHT_WITHHELD)
            case BaseModel():
                return self._record(value, keep)
            case dict():
                return self._mapping(cast("dict[object, object]", value), keep)
            case list() | tuple():
                items = cast("list[object] | tuple[object, ...]", value)
                walked = [self._walk(item, keep) for item in items]
                if all(new is old for new, old in zip(walked, items, strict=True)):
                    return items
                return tuple(walked) if isinstance(items, tuple) else walked
            case _:
                return value

    def _record(self, record: ModelT, keep: frozenset[str]) -> ModelT:
        changed: dict[str, object] = {}
        for name in type(record).model_fields:
            old: object = getattr(record, name)
            if name not in keep and (new := self._walk(old, keep)) is not old:
                changed[name] = new
        return record.model_copy(update=changed) if changed else record

    def _mapping(
        self, mapping: Mapping[object, object], keep: frozenset[str]
    ) -> Mapping[object, object]:
        walked = [(self._walk(key, keep), self._walk(old, keep)) for key, old in mapping.items()]
        same = all(
            key is old_key and new is old
            for (key, new), (old_key, old) in zip(walked, mapping.items(), strict=True)
        )
        return mapping if same else dict(walked)


class TextStream:
    """Text that comes in pieces, without values even where one lies across pieces.

    Held back is only what could still become a form: at most the longest form less one character,
    and the breaks in it. It comes out with the next piece that decides it, or at the end.
    """

    def __init__(self, redactor: Callable[[], Redactor]) -> None:
        """The redactor is asked for with each piece, as more values become known."""
        self._redactor = redactor
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown, now that this came."""
        text, self._held = self._held + piece, ""
        try:
            needles = self._needles()
            cut = needles.held(text)
            spans = needles.spans(text) if needles.hits(text) else []
            cut = next((span.end for span in spans if span.start < cut < span.end), cut)
            shown = replaced(text[:cut], [span for span in spans if span.end <= cut])
        except Exception:  # noqa: BLE001 - whatever it was, the text may hold a secret
            return WITHHELD
        self._held = text[cut:]
        return shown

    def end(self) -> str:
        """What was held back: nothing more comes."""
        text, self._held = self._held, ""
        try:
            return replaced(text, self._needles().spans(text))
        except Exception:  # noqa: BLE001 - whatever it was, the text may hold a secret
            return WITHHELD

    def _needles(self) -> Needles:
        return self._redactor().in_text


class DataStream:
    """The same for bytes."""

    def __init__(self, redactor: Callable[[], Redactor]) -> None:
        """The redactor is asked for with each piece, as more values become known."""
        self._stream = _BytewiseStream(redactor)

    def feed(self, piece: bytes) -> bytes:
        """What can be shown, now that this came."""
        return self._stream.feed(piece.decode("latin-1")).encode("latin-1")

    def end(self) -> bytes:
        """What was held back: nothing more comes."""
        return self._stream.end().encode("latin-1")


class _BytewiseStream(TextStream):
    def _needles(self) -> Needles:
        return self._redactor().in_data


def redact_command(redactor: Redactor, command: ModelT) -> ModelT:
    """A command as it may be stored: no value in any text that people, models or tools wrote."""
    if not redactor.longest:
        return command
    return redactor.value(command, IDENTITIES)


def _clean(needles: Needles, text: str) -> str:
    try:
        return replaced(text, needles.spans(text)) if needles.hits(text) else text
    except Exception:  # noqa: BLE001 - whatever it was, the text may hold a secret
        return WITHHELD


def _bytewise(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
