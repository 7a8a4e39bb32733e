"""What a tool may ask in the middle of a call, and the answers. Not who asks it, or who answers."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator

from domain.content import BlobRef, Text
from domain.record import Clean, Record, canonical, clean
from domain.schema_rules import DEPTH_MAX, depth_of
from domain.schemas import model_schema_fault, schema_problem

ASKS_PER_CALL_MAX = 32
"""How often one call may ask for something."""

ASK_BYTES_MAX = 128 * 1024
"""What a question, or a conversation that a model is to go on with, may weigh, in bytes."""

ANSWER_BYTES_MAX = 32 * 1024
"""What a person's answer may weigh, in bytes."""

SAMPLING_OUTPUT_TOKENS_MAX = 4_096
"""How many tokens a model may say for a tool; one that asks for more gets so many."""

MESSAGES_MAX = 256
"""How many messages a conversation that a model is to go on with may have."""

URL_CHARS_MAX = 2_048


def _plain(value: object) -> Any:  # noqa: ANN401 - any JSON
    """The value as every log can hold it: no lone surrogates, no numbers that JSON has not."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        table = cast("dict[object, object]", value)
        return {clean(str(key)): _plain(one) for key, one in table.items()}
    if isinstance(value, list):
        return [_plain(one) for one in cast("list[object]", value)]
    return value


def _plain_object(value: dict[str, Any]) -> dict[str, Any]:
    if depth_of(value) > DEPTH_MAX:
        msg = f"nested more than {DEPTH_MAX} levels deep"
        raise ValueError(msg)
    return cast("dict[str, Any]", _plain(value))


JsonObject = Annotated[dict[str, Any], AfterValidator(_plain_object)]
"""A JSON object from outside."""

Action = Literal["accept", "decline", "cancel"]
"""What somebody made of a question: answered it, refused to, or closed it without a word."""


class Elicitation(Record):
    """A question to the person behind a call: with a form to be filled in, or a link to open.

    `form` is the JSON schema of the answer. With neither, a plain yes or no.
    """

    kind: Literal["elicitation"] = "elicitation"
    message: Clean
    form: JsonObject | None = None
    url: Clean | None = None


class SampleMessage(Record):
    """One message of a conversation that a tool wants a model to go on with."""

    speaker: Literal["user", "assistant"]
    text: Text


class SampleRequest(Record):
    """A tool wants the run's own model to say something: one call of it, on the run's budget."""

    kind: Literal["sampling"] = "sampling"
    messages: tuple[SampleMessage, ...]
    system: Clean = ""
    output_tokens_max: int


About = Annotated[Elicitation | SampleRequest, Discriminator("kind")]
"""What is asked for."""


class SampleReply(Record):
    """What the model said: `model` as its provider names it."""

    text: Text
    model: Clean
    stop_reason: Literal["end", "max_tokens"]


def ask_fault(about: Elicitation | SampleRequest) -> str | None:
    """Why something cannot be asked, whoever asks it; None when it can."""
    if _weight(about) > ASK_BYTES_MAX:
        return f"a question may have {ASK_BYTES_MAX} bytes"
    return _form_fault(about) if isinstance(about, Elicitation) else _sample_fault(about)


def _weight(about: Elicitation | SampleRequest) -> int:
    texts = [one.text for one in about.messages] if isinstance(about, SampleRequest) else []
    return len(canonical(about)) + sum(one.size for one in texts if isinstance(one, BlobRef))


def _form_fault(about: Elicitation) -> str | None:
    if not about.message.strip():
        return "a question needs its text"
    if about.url is not None and about.form is not None:
        return "a question has a form or a link, not both"
    if about.url is not None:
        return _url_fault(about.url)
    if about.form is None:
        return None
    if about.form.get("type") != "object":
        return "the form of a question is the schema of an object"
    fault = model_schema_fault(about.form)
    return fault and f"the form of a question cannot be used: {fault}"


def _url_fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known or len(url) > URL_CHARS_MAX or not url.isprintable() or " " in url:
        return f"a link is a whole http or https address of at most {URL_CHARS_MAX} characters"
    return None


def _sample_fault(about: SampleRequest) -> str | None:
    if not 0 < len(about.messages) <= MESSAGES_MAX:
        return f"a conversation has 1 to {MESSAGES_MAX} messages"
    if any(one.text == "" for one in about.messages):
        return "a message of a conversation says something"
    if about.messages[-1].speaker != "user":
        return "a conversation that a model is to go on with ends with the user's word"
    if about.output_tokens_max < 1:
        return "a model needs at least one token to answer"
    return None


def whole_answer(
    about: Elicitation, action: Action, content: Mapping[str, object] | None
) -> dict[str, Any] | None:
    """What a person sends, with the form's own default for each field that was left out.

    A default that does not fit the form is none, and the person is told what is missing.
    """
    given = None if content is None else dict(content)
    if action != "accept" or about.form is None or about.url is not None:
        return given
    form = {name: rule for name, rule in about.form.items() if name != "required"}
    fields = form.get("properties")
    known = cast("dict[str, object]", fields) if isinstance(fields, dict) else {}
    whole: dict[str, Any] = given or {}
    for name, field in known.items():
        facts = cast("dict[str, Any]", field) if isinstance(field, dict) else {}
        if name in whole or "default" not in facts:
            continue
        if schema_problem(form, {name: facts["default"]}) is None:
            whole = {**whole, name: facts["default"]}
    return whole or given


def answer_fault(
    about: Elicitation, action: Action, content: Mapping[str, object] | None
) -> str | None:
    """Why an answer is none to that question, in words for the person who gave it.

    Fields with defaults may be left out: see `whole_answer`.
    """
    if action != "accept":
        return None if content is None else f"who chooses {action} sends no content"
    if about.url is not None:
        return None if content is None else "a link is accepted or declined, without content"
    given = whole_answer(about, action, content) or {}
    if len(canonical(given)) > ANSWER_BYTES_MAX:
        return f"an answer may have {ANSWER_BYTES_MAX} bytes"
    if about.form is None:
        return None if not given else "this question has no form: accept or decline it"
    problem = schema_problem(about.form, given)
    return problem and f"the answer does not fit the form: {problem}"
