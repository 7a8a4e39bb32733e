"""How every operation of the gateway is asked about somebody's things. Not who asks, nor a test.

An operation that is not here fails the test of tenants: say how it is asked about a run, a job, a
key or a blob by name, and what its owner is answered then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Names:
    """What things are called: those of a tenant, or such that nobody has."""

    run: str
    job: str
    key: str
    digest: str
    hook: str

    @property
    def all(self) -> dict[str, str]:
        digest = {"digest": self.digest, "beginning of the digest": self.digest[:12]}
        return {**digest, "key": self.key, "hook": self.hook, "run": self.run, "job": self.job}


@dataclass(frozen=True)
class Ask:
    """One request. `owner`: what the owner is answered, and whether that shows what is his."""

    path: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    owner: frozenset[int] = frozenset({200})
    shows: bool = False
    own_words: bool = False  # the answer has ids made for the caller: it cannot be compared


Asks = Callable[[Names], list[Ask]]
DONE = frozenset({200, 201, 202, 204})
REFUSED = frozenset({409})


def of_run(**more: Any) -> Asks:
    return lambda names: [Ask({"run": names.run}, **more)]


def of_job(**more: Any) -> Asks:
    return lambda names: [Ask({"job": names.job}, **more)]


def nobodys(**more: Any) -> Asks:
    """What is about nothing of anybody's, or of the caller's own alone."""
    return lambda _: [Ask(**more)]


def listed(**queries: Callable[[Names], str]) -> Asks:
    """A list: all of it, and with every filter that names somebody's things."""
    return lambda names: [
        Ask(shows=True),
        *(Ask(query={name: value(names)}, shows=True) for name, value in queries.items()),
    ]


def to_run(body: Mapping[str, Any], owner: frozenset[int] = DONE) -> Asks:
    return of_run(body=body, owner=owner)


ASKS: Mapping[str, Asks] = {
    "get_health": nobodys(),
    "get_me": nobodys(),
    "list_keys": listed(),
    "create_key": nobodys(body={"name": "other", "role": "viewer"}, owner=DONE, own_words=True),
    "revoke_key": lambda names: [Ask({"key": names.key})],
    "list_webhooks": listed(),
    "create_webhook": nobodys(body={"url": "http://one.example/"}, owner=DONE, own_words=True),
    "remove_webhook": lambda names: [Ask({"webhook": names.hook}, shows=True)],
    "begin_session": nobodys(body={}, owner=DONE, own_words=True),
    "end_session": nobodys(owner=DONE),
    "list_experts": nobodys(),
    "get_expert": nobodys(path={"expert": "coder"}),
    "list_models": nobodys(),
    "get_model": nobodys(path={"model": "coder"}),
    "list_runs": listed(job=lambda names: names.job),
    "get_run": of_run(shows=True),
    "list_checkpoints": of_run(shows=True),
    "get_checkpoint": lambda names: [Ask({"run": names.run, "step": "1"}, shows=True)],
    "diff_checkpoints": of_run(query={"a": "0", "b": "1"}, owner=frozenset({200, 404, 409})),
    "list_steps": of_run(shows=True),
    "list_calls": of_run(),
    "list_run_activities": of_run(shows=True),
    "list_job_activities": of_job(shows=True),
    "list_jobs": lambda names: [Ask(shows=True), Ask(query={"forked_from": names.job})],
    "get_job": of_job(shows=True),
    "search": lambda _: [Ask(query={"q": "canary"}, shows=True)],
    "get_usage": lambda _: [Ask(query={"from": "1970-01-01", "to": "1970-01-02"}, own_words=True)],
    "list_audit": listed(job=lambda names: names.job),
    "start_run": lambda names: [
        Ask(body={"expert": "coder", "query": "go", "job": names.job}, owner=DONE | REFUSED),
        Ask(
            body={
                "expert": "coder",
                "query": "go",
                "job": "another",
                "attachments": [{"digest": names.digest, "media_type": "text/plain"}],
            },
            owner=DONE,
        ),
    ],
    "continue_run": to_run({"query": "more"}),
    "cancel_run": to_run({}, DONE | REFUSED),
    "fork_run": to_run({"fromStep": 1, "query": "else"}),
    "list_waiting": of_run(),
    "answer_question": to_run({"answer": "yes"}, REFUSED),
    "decide_approval": to_run({"approval": "a1", "digest": ""}, REFUSED),
    "steer_run": to_run({"text": "left"}, DONE | REFUSED),
    "pause_run": to_run({}, DONE | REFUSED),
    "resume_run": to_run({}, DONE | REFUSED),
    "change_policy": to_run({"rules": []}, DONE | REFUSED),
    "delete_job": of_job(),
    "export_job": of_job(),
    "get_tree": of_job(shows=True),
    "list_run_files": of_run(query={"step": "1"}, shows=True),
    "list_job_files": of_job(shows=True),
    "get_file": lambda names: [
        Ask({"job": names.job, "path": "canary.txt"}, shows=True),
        Ask({"job": names.job, "path": "canary.txt"}, {"run": names.run}, shows=True),
    ],
    "get_blob": lambda names: [Ask({"digest": names.digest}, shows=True)],
    "upload": lambda names: [
        Ask(content=b"something else", query={"digest": names.digest}, owner=frozenset({409, 422}))
    ],
    "run_events": lambda names: [
        Ask({"run": names.run}, shows=True),
        Ask({"run": names.run}, {"job": names.job, "live": "1"}, shows=True),
    ],
    "job_events": of_job(query={"live": "1"}, shows=True),
    "events": lambda names: [
        Ask(query={"follow": "1"}, shows=True),
        Ask(query={"run": names.run, "live": "1"}, shows=True),
        Ask(query={"job": names.job}, shows=True),
    ],
    "agui": lambda names: [Ask(body=thread(names.job), own_words=True)],
    "agui_expert": lambda names: [Ask({"expert": "coder"}, body=thread(names.job), own_words=True)],
    "chat_completions": lambda names: [
        Ask(
            body={
                "model": "coder",
                "stream": True,
                "messages": [{"role": "user", "content": "go on"}],
            },
            headers={"Peritus-Job": names.job},
            own_words=True,
        )
    ],
    "get_openapi": nobodys(),
    "docs_page": nobodys(),
    "docs_script": nobodys(),
    "docs_style": nobodys(),
}


def thread(name: str) -> dict[str, Any]:
    """A turn of a thread, as a client of AG-UI asks for it."""
    return {
        "threadId": name,
        "runId": "turn1",
        "state": {},
        "messages": [{"id": "m1", "role": "user", "content": "go on"}],
        "tools": [],
        "context": [],
        "forwardedProps": {"expert": "coder"},
    }
