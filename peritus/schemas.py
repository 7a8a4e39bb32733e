"""Writes what travels as JSON Schema and AsyncAPI, from the models themselves. Not the models.

    python -m peritus.schemas [FOLDER]

writes `events.json`, `envelope.json`, `commands.json`, `asyncapi.json` and `openapi.json`, into
docs/schemas unless told otherwise. A test makes them anew and compares, so they cannot go stale.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, TypeAdapter

from domain.commands import (
    AnswerAsk,
    AnswerQuestion,
    CancelRun,
    ChangePolicy,
    ContinueRun,
    DecideApproval,
    ForkRun,
    PauseRun,
    ResumeRun,
    SteerRun,
)
from domain.definition import Definition
from domain.envelope import FORMAT, Cause
from domain.events import EVENT_TYPES, KNOWN_EVENT
from eventlog.memory.server import MemoryServer
from gateway.app import create_app
from gateway.deps import GatewayDeps, one_definition, one_tenant
from gateway.openapi import document as openapi_of
from peritus.stored_files import SnapshotFiles
from projections.queries.reader import Reader

Json = dict[str, Any]

FOLDER = Path("docs/schemas")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI = "3.0.0"
VERSION = "1"
"""Of the formats, not of a release: it grows when a consumer would have to change."""

OUTSIDE: TypeAdapter[Any] = TypeAdapter(
    Annotated[
        ContinueRun
        | ForkRun
        | SteerRun
        | PauseRun
        | ResumeRun
        | DecideApproval
        | AnswerQuestion
        | AnswerAsk
        | ChangePolicy
        | CancelRun,
        Discriminator("type"),
    ]
)
"""What a program outside may ask of a run."""

RUN_PARAMETERS = {
    "tenant": "Whose runs: one token.",
    "job": "The job: the id of its first run.",
    "run": "The run.",
}
TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 1}


def documents() -> dict[str, Json]:
    """Every document, by the name of its file."""
    events = event_schema()
    commands = command_schema()
    return {
        "events.json": events,
        "envelope.json": envelope_schema(events),
        "commands.json": commands,
        "asyncapi.json": asyncapi(),
        "openapi.json": openapi(),
    }


def event_schema() -> Json:
    """Every event this release writes, told apart by `type`."""
    return _document(
        "An event of a run",
        "As it lies in an envelope. A released type never changes; there may be types that are not "
        "here, of newer releases: carry them as they are.",
        _typed(KNOWN_EVENT.json_schema(mode="serialization")),
    )


def command_schema() -> Json:
    """Every command that a program outside may send."""
    return _document(
        "A command to a run",
        "Sent to `<prefix>.ask.<tenant>.<job>.<run>` or `<prefix>.cmd.<tenant>.<job>.<run>`. The "
        "same `id` again changes nothing.",
        _typed(OUTSIDE.json_schema(mode="validation")),
    )


def envelope_schema(events: Json) -> Json:
    """One message of the event stream."""
    unknown: Json = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "not": {"enum": list(EVENT_TYPES)}}},
        "description": "An event of another release.",
    }
    known: Json = {"oneOf": events["oneOf"], "discriminator": events["discriminator"]}
    properties: Json = {
        "format": {"const": FORMAT},
        "id": TEXT | {"description": "Of this decision."},
        "tenant": TEXT,
        "job": TEXT,
        "run": TEXT,
        "version": COUNT | {"description": "Of the first event; contiguous from 1 in a run."},
        "at_ms": {"type": "integer", "description": "Milliseconds since 1970, UTC."},
        "cause": {"$ref": "#/$defs/Cause"},
        "by": TEXT | {"description": "The epoch that decided."},
        "prev": {
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "SHA-256 of the bytes of the run's previous envelope; zeros: none.",
        },
        "trace": {"anyOf": [TEXT, {"type": "null"}], "description": "A W3C traceparent."},
        "events": {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"$ref": "#/$defs/Event"}, {"$ref": "#/$defs/UnknownEvent"}]},
        },
    }
    return _document(
        "An envelope: all events of one decision",
        "One message on `<prefix>.evt.<tenant>.<job>.<run>`.",
        {
            "type": "object",
            "additionalProperties": False,
            "required": list(properties),
            "properties": properties,
            "$defs": {
                **events["$defs"],
                "Cause": Cause.model_json_schema(mode="serialization"),
                "Event": known,
                "UnknownEvent": unknown,
            },
        },
    )


def asyncapi() -> Json:
    """The subjects of a deployment, and what is said on them."""
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Peritus",
            "version": VERSION,
            "description": "What a deployment says and hears over NATS. `prefix` is `peritus` "
            "unless PERITUS_PREFIX says otherwise. See docs/consumers.md and docs/events.md.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": _channel("evt", "envelope", "Stored by JetStream: the record."),
            "liveEvents": _channel(
                "liveevt", "envelope", "The same messages once they are stored, over core NATS."
            ),
            "asks": _channel("ask", "command", "Answered at once by whoever decides."),
            "commands": _channel("cmd", "command", "Stored by JetStream until it is decided."),
            "answers": {
                "address": None,
                "messages": {"answer": _ref("components/messages/answer")},
            },
        },
        "operations": {
            "publishEvents": _operation("send", "events"),
            "republishEvents": _operation("send", "liveEvents"),
            "takeCommands": _operation("receive", "commands"),
            "answerAsks": _operation("receive", "asks")
            | {
                "reply": {
                    "address": {
                        "location": "$message.header#/reply",
                        "description": "The reply subject of the NATS message.",
                    },
                    "channel": _ref("channels/answers"),
                    "messages": [_ref("channels/answers/messages/answer")],
                }
            },
        },
        "components": {"messages": _messages()},
    }


def openapi() -> Json:
    """What the gateway answers. A table needs a gateway, so there is one that nobody asks."""
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    deps = GatewayDeps(
        backbone=backbone,
        reader=Reader(Path("none")),
        files=SnapshotFiles(backbone),
        definitions=one_definition(lambda: Definition(experts={})),
        new_id=lambda: "",
        tenant=one_tenant("default"),
    )
    return openapi_of(create_app(deps).state.table)


def _messages() -> Json:
    headers: Json = {
        "type": "object",
        "properties": {"Nats-Msg-Id": TEXT | {"description": "The command's id, when stored."}},
    }
    answer: Json = {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["accepted", "rejected", "unavailable"]},
            "code": TEXT,
            "detail": TEXT,
        },
    }
    return {
        "envelope": {"name": "envelope", "payload": _schema("./envelope.json")},
        "command": {
            "name": "command",
            "headers": headers,
            "payload": _schema("./commands.json"),
        },
        "answer": {"name": "answer", "payload": answer},
    }


def _channel(kind: str, message: str, description: str) -> Json:
    return {
        "address": f"{{prefix}}.{kind}.{{tenant}}.{{job}}.{{run}}",
        "description": description,
        "parameters": {
            "prefix": {"default": "peritus", "description": "Of the deployment."},
            **{name: {"description": text} for name, text in RUN_PARAMETERS.items()},
        },
        "messages": {message: _ref(f"components/messages/{message}")},
    }


def _operation(action: str, channel: str) -> Json:
    return {"action": action, "channel": _ref(f"channels/{channel}")}


def _ref(path: str) -> Json:
    return {"$ref": f"#/{path}"}


def _schema(file: str) -> Json:
    return {
        "schemaFormat": "application/schema+json;version=draft-2020-12",
        "schema": {"$ref": file},
    }


def _document(title: str, description: str, schema: Json) -> Json:
    return {"$schema": DIALECT, "title": title, "description": description, **schema}


def _typed(schema: Json) -> Json:
    """With `type` required wherever it is what a shape is known by: it is always written."""
    for kind in schema["$defs"].values():
        properties: Mapping[str, Json] = kind.get("properties", {})
        if "const" in properties.get("type", {}):
            kind["required"] = ["type", *(one for one in kind.get("required", ()) if one != "type")]
    return schema


def main(folder: Path) -> None:
    """Write every document."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents().items():
        (folder / name).write_text(text_of(document))


def text_of(document: Json) -> str:
    """A document as it is written."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
