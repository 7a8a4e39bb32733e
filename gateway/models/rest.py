"""What is answered beside runs: experts, usage, what a search finds, who did what. Not runs."""

from typing import Literal

from gateway.models.common import Answer, Page, Tokens


class Me(Answer):
    """Who the caller is."""

    tenant: str
    name: str
    via: str
    role: Literal["viewer", "operator", "admin"]
    experts: list[str] | None = None
    """Whom the caller may start; None: any."""


class Expert(Answer):
    """An expert that can be started."""

    expert: str
    description: str
    provider: str
    model: str
    skills: list[str]
    delegates: list[str]
    input_schema: dict[str, object] | None = None
    output_schema: dict[str, object] | None = None


class Experts(Answer):
    """The experts of the definition."""

    experts: list[Expert]


class UsageRow(Answer):
    """What was used. Names that were not grouped by are None."""

    day: str | None = None
    """UTC, as 2026-01-31."""
    expert: str | None = None
    provider: str | None = None
    model: str | None = None
    runs: int
    generations: int
    failures: int
    tool_calls: int
    usage: Tokens
    tokens_charged: int
    micro_usd_charged: int


class Usage(Answer):
    """What was used, by what was asked for."""

    rows: list[UsageRow]
    position: str | None = None


class Hit(Answer):
    """A place in a history. Matches in `text` are between U+0002 and U+0003."""

    job: str
    run: str
    version: int
    at_ms: int
    kind: str
    text: str


class Hits(Page):
    """What a search found, newest first."""

    hits: list[Hit]


class AuditEntry(Answer):
    """Who did what, and when."""

    at_ms: int
    job: str
    run: str
    action: str
    what: str
    name: str
    via: str
    detail: str


class Audit(Page):
    """Who did what, newest first."""

    entries: list[AuditEntry]


class Uploaded(Answer):
    """Content that was stored, to be named by its digest."""

    digest: str
    bytes: int
    media_type: str


class File(Answer):
    """A file of a workspace, as of a step."""

    path: str
    kind: Literal["file", "folder", "link"]
    bytes: int
    digest: str | None = None
    """Of the content of a file."""
    missing: str | None = None
    """Why the content of a file is not stored, such as a secret in it."""


class Files(Answer):
    """The files of a job's workspace at a step of a run; None: none were stored."""

    job: str
    run: str
    step: int | None
    files: list[File]
    next_cursor: str | None = None
    """Asks for those that follow; None: these are the last."""


class Health(Answer):
    """How it is with the gateway."""

    status: Literal["ok"]
    incarnation: str
    """Names this life of the log; cursors begin with it."""
    first_seq: int
    last_seq: int
    position: str | None = None
    """How far the views are; None: there are none yet."""
