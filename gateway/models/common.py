"""What several answers have in common. Not the answers themselves."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A part of an answer. Fields may be added; none goes away or changes in `/v1`."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,  # what is not known is null, not left out
    )


class Page(Answer):
    """Some of a list. `next_cursor` asks for those that follow; None: these are the last."""

    next_cursor: str | None = None
    position: str | None = None
    """How far the view was in the log: a cursor."""


class Tokens(Answer):
    """Tokens as the provider counted them; cached and cache_written are parts of input."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0
    cache_written: int = 0


class Failed(Answer):
    """Why something did not work: `kind` for programs, `message` for people."""

    kind: str
    message: str


class Accepted(Answer):
    """A command was decided, or stored to be. `position` is what `min_position` of a read takes.

    None: it is stored, and not decided yet.
    """

    run: str
    job: str
    position: str | None = None
    status_url: str
    events_url: str
