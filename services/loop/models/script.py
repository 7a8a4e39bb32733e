"""A script of model replies: its records, TOML form and checks. Not the model that plays it."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pydantic_core
from pydantic import Field, ValidationError, model_validator

from domain.limits import Usage
from domain.record import Record
from services.loop.models.port import FailureKind, ModelFailure, StopReason


class ScriptCall(Record):
    """A call to make: `arguments` as a table, or `arguments_text` as raw, perhaps broken, JSON."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    arguments_text: str | None = None

    @property
    def json_text(self) -> str:
        """The arguments as the model would have written them."""
        if self.arguments_text is not None:
            return self.arguments_text
        return pydantic_core.to_json(self.arguments).decode()


class ScriptFailure(Record):
    """A failure before the reply: the first `times` attempts of this reply fail."""

    kind: FailureKind
    message: str = "the script says so"
    status: int | None = None
    retry_after_ms: int | None = None
    times: int = Field(default=1, ge=1)


class ScriptReply(Record):
    """One reply, spread over `delay_ms`; each text of `expect` must occur in the last user message.

    Where one does not, the first reply of `otherwise` is given whose own texts do.
    """

    text: str = ""
    thinking: str = ""
    call: tuple[ScriptCall, ...] = ()
    delay_ms: int = Field(default=0, ge=0)
    stop: StopReason | None = None  # None: `tool_calls` with calls, else `end`
    usage: Usage = Usage()  # a script spends nothing unless it says so
    fail: ScriptFailure | None = None
    expect: str | tuple[str, ...] = ()
    otherwise: "tuple[ScriptReply, ...]" = ()

    @property
    def expected(self) -> tuple[str, ...]:
        """The texts of `expect`."""
        return (self.expect,) if isinstance(self.expect, str) else self.expect

    @model_validator(mode="after")
    def _says_something(self) -> "ScriptReply":
        if not (self.text or self.call or self.fail is not None):
            msg = "a reply needs `text`, a `call` or `fail`"
            raise ValueError(msg)
        return self


class ExpertReplies(Record):
    """The replies of one expert."""

    reply: tuple[ScriptReply, ...]


class Script(Record):
    """All replies: `reply` in order, and `experts.KEY.reply` for experts with their own."""

    reply: tuple[ScriptReply, ...] = ()
    experts: dict[str, ExpertReplies] = Field(default_factory=dict)


def load_script(path: Path) -> Script:
    """Read a script file.

    Raises:
        ModelFailure: `rejected` when the file is missing, not TOML, or says something unknown.
    """
    try:
        return parse_script(path.read_text(encoding="utf-8"), name=str(path))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"cannot read the script {str(path)!r}: {reason}"
        raise ModelFailure(kind="rejected", message=message) from None
    except UnicodeDecodeError:
        message = f"the script {str(path)!r} is not UTF-8"
        raise ModelFailure(kind="rejected", message=message) from None


def parse_script(toml: str, *, name: str) -> Script:
    """A script from its TOML text; `name` is what messages call it.

    Raises:
        ModelFailure: `rejected`, with every problem and, for an unknown key, the nearest known one.
    """
    try:
        return Script.model_validate(tomllib.loads(toml))
    except tomllib.TOMLDecodeError as error:
        message = f"the script {name!r} is not TOML: {error}"
        raise ModelFailure(kind="rejected", message=message) from None
    except ValidationError as error:
        problems = "; ".join(
            _problem(item["loc"], item["type"], item["msg"]) for item in error.errors()
        )
        message = f"the script {name!r} is wrong: {problems}"
        raise ModelFailure(kind="rejected", message=message) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` for a word that is nearly a known one, else the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(names)})"


def _problem(place: tuple[int | str, ...], kind: str, message: str) -> str:
    spelled = ".".join(str(step) for step in place)
    if kind != "extra_forbidden":
        return f"{spelled}: {message}" if spelled else message
    return f"unknown key {spelled!r}{nearest(str(place[-1]), _keys_at(place[:-1]))}"


_KEYS: Mapping[str, type[Record]] = {
    "call": ScriptCall,
    "fail": ScriptFailure,
    "usage": Usage,
    "reply": ScriptReply,
    "otherwise": ScriptReply,
}


def _keys_at(place: tuple[int | str, ...]) -> Iterable[str]:
    names = [step for step in place if isinstance(step, str)]
    if not names:
        return Script.model_fields
    if len(names) == 2 and names[0] == "experts":  # noqa: PLR2004 - experts.KEY
        return ExpertReplies.model_fields
    return _KEYS[names[-1]].model_fields
