"""The OpenAPI 3.1 document, made of the table and the models alone. Not the table."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.contents import BINARY
from gateway.models.common import Accepted
from gateway.models.problems import ProblemAnswer
from gateway.once import KEY_CHARS_MAX
from gateway.operations import JSON_TYPE, Operation
from gateway.statuses import MEANINGS, PROBLEM_TYPE, statuses_of

Json = dict[str, Any]

VERSION = "1"
OPENAPI = "3.1.1"
NOT_MODIFIED = 304
DIALECT = "https://json-schema.org/draft/2020-12/schema"
REF = "#/components/schemas/{model}"
IN_PATH = re.compile(r"\{(\w+)(?::\w+)?\}")
NAME_PATTERN = "^[A-Za-z0-9_-]{1,64}$"

PATH_PARAMETERS: Mapping[str, Json] = {
    "run": {"type": "string", "pattern": NAME_PATTERN},
    "job": {"type": "string", "pattern": NAME_PATTERN},
    "step": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
"""What is known of names in paths; any other is a text."""

LINKS: Json = {
    name: {"operationId": name, "parameters": {"run": "$response.body#/run"}}
    for name in ("get_run", "list_steps", "list_waiting", "continue_run", "pause_run", "cancel_run")
}
"""What can be asked about a run that a write named."""

TAGS: Mapping[str, str] = {
    "about": "The gateway itself, and who is asking.",
    "access": "API keys and sessions.",
    "webhooks": "Programs that are told of events by HTTP.",
    "experts": "Whom there is to start.",
    "runs": "Runs: start them, say something to them, look at them.",
    "jobs": "Jobs: a run and all that it asked for.",
    "overviews": "Over all jobs: what was said, what was used, who did what.",
    "people": "What waits for people, and what they decide.",
    "files": "Files of workspaces, and content by digest.",
    "streams": "Events as they come.",
}


def document(table: Iterable[Operation]) -> Json:
    """The document of what is shown of a table."""
    shown = [one for one in table if one.shown]
    models, components = _schemas(shown)
    paths: dict[str, Json] = {}
    for one in shown:
        methods = paths.setdefault(IN_PATH.sub(r"{\1}", one.path), {})
        methods[one.method.lower()] = _operation(one, models)
    used = dict.fromkeys(one.tag for one in shown)
    return {
        "openapi": OPENAPI,
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "Peritus",
            "version": VERSION,
            "description": "Writes, queries and streams of one deployment. Fields, parameters and "
            "operations may be added; nothing of /v1 goes away or changes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"session": []}],
        "tags": [{"name": tag, "description": TAGS.get(tag, "")} for tag in used],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": _problems(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, the token of the deployment, or one of its issuer.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "peritus_session",
                    "description": "Of a browser, for pages of the gateway itself.",
                },
            },
        },
    }


Model = tuple[type[BaseModel], JsonSchemaMode]


def _schemas(table: Iterable[Operation]) -> tuple[dict[Model, Json], Json]:
    """References to the models, and their schemas."""
    wanted: dict[Model, None] = {(ProblemAnswer, "serialization"): None}
    for one in table:
        wanted[one.query, "validation"] = None
        if one.body is not None and one.body_media_type == JSON_TYPE:
            wanted[one.body, "validation"] = None
        if not isinstance(one.answer, str):
            wanted[one.answer, "serialization"] = None
        wanted |= dict.fromkeys((frame, "serialization") for frame in one.frames.values())
    queries = {one.query for one in table}
    found, definitions = models_json_schema(list(wanted), ref_template=REF)
    schemas: Json = definitions["$defs"]
    refs: dict[Model, Json] = {model: found[model] for model in wanted}
    inlined = {_name_in(refs[query, "validation"]) for query in queries}
    models = {
        model: schemas[_name_in(ref)] if model[0] in queries else ref for model, ref in refs.items()
    }
    return models, {name: one for name, one in sorted(schemas.items()) if name not in inlined}


def _name_in(ref: Json) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _operation(one: Operation, models: Mapping[Model, Json]) -> Json:
    told: Json = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.tag],
        "x-role": one.role,
    }
    if one.description:
        told["description"] = one.description
    if one.open:
        told["security"] = []
    parameters = [*_in_path(one), *_in_query(models[one.query, "validation"]), *_in_head(one)]
    if parameters:
        told["parameters"] = parameters
    if one.body is not None:
        told["requestBody"] = _body(one, models)
    told["responses"] = {
        str(status): _answer(one, models) if status == one.status else _other(status)
        for status in sorted((one.status, *statuses_of(one)))
    }
    return told


def _in_path(one: Operation) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": PATH_PARAMETERS.get(name, {"type": "string", "minLength": 1}),
        }
        for name in IN_PATH.findall(one.path)
    ]


def _in_query(schema: Json) -> list[Json]:
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            **({"description": text} if (text := shape.get("description")) else {}),
            "schema": _plain(shape),
        }
        for name, shape in schema.get("properties", {}).items()
    ]


def _plain(shape: Json) -> Json:
    """The schema of a parameter that is there: it cannot be null."""
    kept = {key: it for key, it in shape.items() if key not in ("description", "title", "default")}
    choices = [one for one in kept.pop("anyOf", ()) if one != {"type": "null"}]
    return {**kept, **(choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})}


def _in_head(one: Operation) -> list[Json]:
    told: list[Json] = []
    if one.keyed:
        shape = {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX}
        about = "The same key again changes nothing: the request is done once."
        told.append(_header("Idempotency-Key", about, shape))
    if one.streams:
        about = "The id of the last event that was seen: the stream goes on after it."
        told.append(_header("Last-Event-ID", about, {"type": "string", "maxLength": 200}))
    if one.answer == BINARY:
        told.append(
            _header("If-None-Match", "The ETag of what is there already.", {"type": "string"})
        )
    return told


def _header(name: str, about: str, shape: Json) -> Json:
    return {"name": name, "in": "header", "required": False, "description": about, "schema": shape}


def _body(one: Operation, models: Mapping[Model, Json]) -> Json:
    if one.body is None or one.body_media_type != JSON_TYPE:
        about = "Any bytes, under the content type that they are of."
        return {"description": about, "required": True, "content": {one.body_media_type: {}}}
    content: Json = {"schema": models[one.body, "validation"]}
    if one.examples:
        content["examples"] = {name: {"value": dict(it)} for name, it in one.examples.items()}
    return {"required": True, "content": {JSON_TYPE: content}}


def _answer(one: Operation, models: Mapping[Model, Json]) -> Json:
    told: Json
    if not isinstance(one.answer, str):
        schema = models[one.answer, "serialization"]
        told = {"description": one.summary, "content": {JSON_TYPE: {"schema": schema}}}
        return told | {"links": LINKS} if one.answer is Accepted else told
    if one.streams:
        frames = {name: models[frame, "serialization"] for name, frame in one.frames.items()}
        content: Json = {"schema": {"type": "string"}, "x-events": frames}
        about = "Server-sent events; `x-events` has the data of each by its name."
        return {"description": about, "content": {one.answer: content}}
    if not one.answer:
        return {"description": one.summary}
    told = {"description": one.summary, "content": {one.answer: {}}}
    if one.answer == BINARY:
        # Files say what they are by their names, if that is nothing a browser would run.
        told["content"] = {"*/*": {}}
        told["headers"] = {
            name: {"schema": {"type": "string"}}
            for name in ("ETag", "Content-Disposition", "Cache-Control")
        }
    return told


def _other(status: int) -> Json:
    if status == NOT_MODIFIED:
        return {"description": MEANINGS[status]}
    return {"$ref": f"#/components/responses/{status}"}


def _problems() -> Json:
    """What other statuses are answered with, by status."""
    schema = {"$ref": REF.format(model=ProblemAnswer.__name__)}
    return {
        str(status): {"description": about, "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status, about in MEANINGS.items()
        if status != NOT_MODIFIED
    }
