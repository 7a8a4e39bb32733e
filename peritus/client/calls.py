"""The requests of a client, by name: what each sends and reads. Not how they are sent.

Each function is a method of both clients, with the same arguments; what it says it reads is what
the method returns, or what awaiting it does.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict
from urllib.parse import quote

import orjson
from pydantic import ValidationError

from domain.errors import Rejected
from gateway import bodies
from gateway.models.common import Accepted
from gateway.models.rest import Experts, Files, Hits, Me, Uploaded, Usage
from gateway.models.runs import (
    Activities,
    Calls,
    Checkpoints,
    Job,
    Jobs,
    Run,
    Runs,
    Steps,
    Tree,
    Waiting,
    Waits,
)
from peritus.client.exchange import Call, as_bytes, as_model

By = Literal["day", "expert", "provider", "model"]


class HasRun(Protocol):
    """Whatever is about a run: what a write answered, a run, something that waits."""

    @property
    def run(self) -> str:
        """Its id."""
        ...


class Limits(TypedDict, total=False):
    """What a run may use, children included; money in micro-USD."""

    steps_max: int | None
    tokens_max: int | None
    money_max: int | None
    tool_calls_max: int | None
    wall_ms_max: int | None


class Attachment(TypedDict, total=False):
    """Content that was uploaded, and what it is called."""

    digest: str
    media_type: str
    name: str


RunName = str | HasRun
Attached = Iterable[Uploaded | Attachment]


def run_name(run: RunName) -> str:
    """The id of a run."""
    return run if isinstance(run, str) else run.run


def me() -> Call[Me]:
    """Who the caller is, and what he may do."""
    return _get("/v1/me", Me)


def experts() -> Call[Experts]:
    """The experts that can be started."""
    return _get("/v1/experts", Experts)


def start(  # noqa: PLR0913 - what a start may be given
    expert: str,
    query: str = "",
    *,
    data: dict[str, Any] | None = None,
    limits: Limits | None = None,
    attachments: Attached = (),
    provider: str | None = None,
    model: str | None = None,
    job: str | None = None,
    key: str | None = None,
) -> Call[Accepted]:
    """Start an expert: it is told `query`, or `data` if its definition asks for typed input.

    `limits`, `provider` and `model` go above the definition. `key`, here as in all that asks for
    something: the same key does it once, however often it is asked; by default a fresh one.
    """
    fields = {"expert": expert, "query": query, "data": data, "job": job}
    chosen = {"provider": provider, "model": model, "attachments": _attached(attachments)}
    return _write("/v1/runs", bodies.StartBody, key, **fields, **chosen, **(limits or {}))


def get(run: RunName, *, min_position: str | None = None) -> Call[Run]:
    """One run; with `min_position`, as of then or later: what a write answered, or a cursor."""
    return _get(f"/v1/runs/{_part(run)}", Run, min_position=min_position)


def list_runs(
    *,
    status: str | None = None,
    expert: str | None = None,
    job: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    min_position: str | None = None,
) -> Call[Runs]:
    """Runs, newest first; `cursor` is `next_cursor` of the page before."""
    about = {"status": status, "expert": expert, "job": job}
    return _get("/v1/runs", Runs, **about, limit=limit, cursor=cursor, min_position=min_position)


def jobs(
    *,
    status: str | None = None,
    expert: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    min_position: str | None = None,
) -> Call[Jobs]:
    """Jobs, newest first."""
    about = {"status": status, "expert": expert}
    return _get("/v1/jobs", Jobs, **about, limit=limit, cursor=cursor, min_position=min_position)


def job(name: str, *, min_position: str | None = None) -> Call[Job]:
    """One job with its totals."""
    return _get(f"/v1/jobs/{quote(name, safe='')}", Job, min_position=min_position)


def tree(name: str) -> Call[Tree]:
    """The runs of a job, each before those it asked for."""
    return _get(f"/v1/jobs/{quote(name, safe='')}/tree", Tree)


def activities(
    run: RunName, *, limit: int | None = None, cursor: str | None = None
) -> Call[Activities]:
    """What a run did, as people say it."""
    return _get(f"/v1/runs/{_part(run)}/activities", Activities, limit=limit, cursor=cursor)


def steps(run: RunName, *, limit: int | None = None, cursor: str | None = None) -> Call[Steps]:
    """The steps of a run, in order."""
    return _get(f"/v1/runs/{_part(run)}/steps", Steps, limit=limit, cursor=cursor)


def tool_calls(run: RunName, *, limit: int | None = None, cursor: str | None = None) -> Call[Calls]:
    """The tool calls of a run, in the order they were asked for."""
    return _get(f"/v1/runs/{_part(run)}/calls", Calls, limit=limit, cursor=cursor)


def checkpoints(run: RunName) -> Call[Checkpoints]:
    """The ends of a run's steps, those a fork has from its source first."""
    return _get(f"/v1/runs/{_part(run)}/checkpoints", Checkpoints)


def continue_(
    run: RunName,
    query: str = "",
    *,
    limits: Limits | None = None,
    attachments: Attached = (),
    key: str | None = None,
) -> Call[Accepted]:
    """Say something to a root run: at rest it goes on, at work it hears it."""
    said = {"query": query, "attachments": _attached(attachments)}
    path = f"/v1/runs/{_part(run)}/continue"
    return _write(path, bodies.ContinueBody, key, **said, **(limits or {}))


def waiting(run: RunName) -> Call[Waits]:
    """What waits for a person in a run and under it, with what he has to be shown."""
    return _get(f"/v1/runs/{_part(run)}/waiting", Waits)


def answer(
    to: RunName,
    answer: Any = None,  # noqa: ANN401 - any JSON
    *,
    call: str | None = None,
    action: Literal["accept", "decline", "cancel"] | None = None,
    key: str | None = None,
) -> Call[Accepted]:
    """Answer a question, or what a tool asks; of a run, exactly one has to be open, or `call`.

    A tool that asks with a form gets an object that fits it; or an `action` without an answer.
    """
    meant = to.id if call is None and isinstance(to, Waiting) else call
    said = {} if action is not None and answer is None else {"answer": answer}
    path = f"/v1/runs/{_part(to)}/answer"
    return _write(path, bodies.AnswerBody, key, call=meant, action=action, **said)


def approve(
    what: Waiting,
    *,
    arguments: Mapping[str, Any] | None = None,
    reason: str = "",
    remember: Literal["no", "tool", "exact"] = "no",
    key: str | None = None,
) -> Call[Accepted]:
    """Let what waits happen, as it was shown (C14); with `arguments`, the call runs with these.

    What is remembered holds for the whole job: the tool, or these exact arguments only.
    """
    given = None if arguments is None else dict(arguments)
    said = {"verdict": "approve", "reason": reason, "remember": remember, "arguments": given}
    return _decide(what, key, said)


def deny(
    what: Waiting, *, reason: str = "", remember: bool = False, key: str | None = None
) -> Call[Accepted]:
    """Keep what waits from happening, and say why; of a soft limit: the run stops."""
    kept: Literal["no", "tool"] = "tool" if remember else "no"
    return _decide(what, key, {"verdict": "deny", "reason": reason, "remember": kept})


def steer(run: RunName, text: str, *, now: bool = False, key: str | None = None) -> Call[Accepted]:
    """Say something to a run at work; `now` gives up the reply being made."""
    return _write(f"/v1/runs/{_part(run)}/steer", bodies.SteerBody, key, text=text, now=now)


def pause(run: RunName, *, key: str | None = None) -> Call[Accepted]:
    """Let a run, and what is under it, begin nothing new."""
    return _write(f"/v1/runs/{_part(run)}/pause", bodies.NoBody, key)


def resume(run: RunName, *, key: str | None = None) -> Call[Accepted]:
    """Let a paused run go on."""
    return _write(f"/v1/runs/{_part(run)}/resume", bodies.NoBody, key)


def cancel(run: RunName, reason: str = "", *, key: str | None = None) -> Call[Accepted]:
    """Ask a run, and everything under it, to stop."""
    return _write(f"/v1/runs/{_part(run)}/cancel", bodies.CancelBody, key, reason=reason)


def fork(  # noqa: PLR0913 - what a fork may be given
    run: RunName,
    step: int,
    query: str = "",
    *,
    results: Mapping[str, str] | None = None,
    provider: str | None = None,
    model: str | None = None,
    limits: Limits | None = None,
    job: str | None = None,
    key: str | None = None,
) -> Call[Accepted]:
    """Go on after a step in a run of its own; 0 is the beginning. The source stays as it is.

    `results` says what calls came to, by call.
    """
    said: dict[str, Any] = {"step": step, "query": query, "results": dict(results or {})}
    chosen = {"provider": provider, "model": model, "job": job}
    path = f"/v1/runs/{_part(run)}/fork"
    return _write(path, bodies.ForkBody, key, **said, **chosen, **(limits or {}))


def search(
    words: str,
    *,
    job: str | None = None,
    run: RunName | None = None,
    kind: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    min_position: str | None = None,
) -> Call[Hits]:
    """Where all of these words occur in the histories, newest first; the last may be a beginning.

    `kind` of the text: `input`, `text`, `tool`, `result`, `question` or `answer`.
    """
    where = {"job": job, "run": None if run is None else run_name(run), "kind": kind}
    page = {"limit": limit, "cursor": cursor, "min_position": min_position}
    return _get("/v1/search", Hits, q=words, **where, **page)


def usage(
    *, since: str | None = None, until: str | None = None, by: Sequence[By] = ()
) -> Call[Usage]:
    """What was used; days are UTC, as 2026-01-31."""
    grouped = ",".join(by) or None
    return _get("/v1/usage", Usage, **{"from": since, "to": until}, by=grouped)


def upload(data: bytes, *, media_type: str = "application/octet-stream") -> Call[Uploaded]:
    """Store content that a start or a continue can then be given."""
    path, read = "/v1/uploads", as_model(Uploaded)
    return Call("POST", path, read, content=data, media_type=media_type)


def download(digest: str) -> Call[bytes]:
    """Content by its digest: results, outputs and files of a history."""
    return Call("GET", f"/v1/blobs/{quote(digest, safe='')}", as_bytes)


def files(name: str, path: str | None = None, *, step: int | None = None) -> Call[Files]:
    """The files of a job's workspace, or of a folder in it: the newest stored, or of a step."""
    return _get(f"/v1/jobs/{quote(name, safe='')}/files", Files, path=path, step=step)


def download_file(name: str, path: str, *, step: int | None = None) -> Call[bytes]:
    """One file of a job's workspace."""
    where = f"/v1/jobs/{quote(name, safe='')}/files/{quote(path)}"
    return Call("GET", where, as_bytes, query={} if step is None else {"step": step})


def _part(run: RunName) -> str:
    return quote(run_name(run), safe="")


def _get(path: str, kind: type[Any], /, **query: str | int | None) -> Call[Any]:
    given = {name: value for name, value in query.items() if value is not None}
    return Call("GET", path, as_model(kind), query=given)


def _decide(what: Waiting, key: str | None, said: dict[str, Any]) -> Call[Accepted]:
    shown = {"approval": what.id, "digest": what.digest}
    return _write(f"/v1/runs/{_part(what)}/approve", bodies.DecideBody, key, **shown, **said)


def _attached(given: Attached) -> list[dict[str, Any]] | None:
    found = [
        {"digest": one.digest, "media_type": one.media_type} if isinstance(one, Uploaded) else one
        for one in given
    ]
    return [dict(one) for one in found] or None


def _write(
    path: str,
    kind: type[bodies.Body],
    key: str | None,
    /,
    **fields: Any,  # noqa: ANN401 - the model knows
) -> Call[Accepted]:
    """A write whose body is checked here as the gateway does it.

    Raises:
        Rejected: it is not what the gateway takes.
    """
    names = {name: info.alias or name for name, info in kind.model_fields.items()}
    given = {names.get(name, name): value for name, value in fields.items() if value is not None}
    if "answer" in fields:  # of all fields the one that may be null
        given["answer"] = fields["answer"]
    try:
        body = kind.model_validate(given)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong)
        raise Rejected("invalid", told) from None
    content = orjson.dumps(body.model_dump(mode="json", by_alias=True, exclude_unset=True))
    return Call("POST", path, as_model(Accepted), content=content, key=key)
