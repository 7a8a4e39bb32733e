"""The published schemas: anew each time, well-formed, and true of what was really stored."""

import json
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from pydantic import ValidationError
from pydantic_asyncapi.v3 import AsyncAPI

from domain.events import EVENT_TYPES
from peritus.schemas import documents, main, text_of

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "schemas"
NEW = ROOT / "tests" / "histories" / "v0_2_0"
OLD = ROOT / "tests" / "histories" / "v0_1_0"


def misfits(schema: str, *values: dict[str, Any]) -> list[str]:
    """What does not fit a published schema, in words."""
    fits: Any = jsonschema.Draft202012Validator(documents()[schema])
    return [str(error.message) for value in values for error in fits.iter_errors(value)]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_published_documents_are_those_of_the_models() -> None:
    """If this fails: `python -m peritus.schemas`."""
    wanted = documents()
    assert {path.name for path in PUBLISHED.iterdir()} == set(wanted)
    stale = [
        name
        for name, document in wanted.items()
        if (PUBLISHED / name).read_text() != text_of(document)
    ]
    assert stale == [], "run `python -m peritus.schemas`"


def test_the_command_writes_them(tmp_path: Path) -> None:
    main(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(documents())


@pytest.mark.parametrize("name", ["events.json", "envelope.json", "commands.json"])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(documents()[name])


def test_every_event_has_a_shape() -> None:
    events = documents()["events.json"]
    assert set(events["discriminator"]["mapping"]) == set(EVENT_TYPES)


def test_every_stored_envelope_fits() -> None:
    stored = lines_of(NEW) + lines_of(OLD)
    assert len(stored) > 100
    assert misfits("envelope.json", *stored) == []


def test_every_stored_event_of_this_release_fits_its_own_shape() -> None:
    events = [event for one in lines_of(NEW) for event in one["events"]]
    known = [event for event in events if event["type"] in EVENT_TYPES]
    assert len({event["type"] for event in known}) > 30
    assert misfits("events.json", *known) == []


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"version": 0},
        {"events": []},
        {"events": [{"type": "step.ended.v1"}]},
        {"events": [{"type": "step.ended.v1", "step": 1, "more": 1}]},
        {"events": [{"step": 1}]},
        {"extra": 1},
    ],
)
def test_what_is_no_envelope_does_not_fit(change: dict[str, Any]) -> None:
    assert misfits("envelope.json", lines_of(NEW)[0] | change) != []


def test_an_event_of_a_newer_release_fits() -> None:
    newer = {"events": [{"type": "run.dreamt.v1", "why": "x"}]}
    assert misfits("envelope.json", lines_of(NEW)[0] | newer) == []


def test_commands_of_the_docs_fit() -> None:
    by = {"name": "the night shift", "via": "nats"}
    cancel = {"type": "cancel_run.v1", "id": "1", "reason": "late", "by": by}
    assert misfits("commands.json", cancel) == []
    assert misfits("commands.json", {"type": "cancel_run.v1", "reason": "late"}) != []
    assert misfits("commands.json", {"type": "claim_generation.v1", "id": "1"}) != []


def test_asyncapi_document_is_one() -> None:
    document = documents()["asyncapi.json"]
    AsyncAPI.model_validate(document)
    with pytest.raises(ValidationError):
        AsyncAPI.model_validate(document | {"operations": {"x": {"action": "shout"}}})


def test_schemas_of_the_openapi_document_are_schemas() -> None:
    document = documents()["openapi.json"]
    assert document["openapi"].startswith("3.1.")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len(operations) > 30
    for one in operations:
        assert {"200", "201", "202", "204"} & set(one["responses"]), one["operationId"]
        if "requestBody" in one:
            (content,) = one["requestBody"]["content"].values()
            for example in content.get("examples", {}).values():
                wanted = content["schema"] | {"components": document["components"]}
                assert misfit(wanted, example["value"]) is None, one["operationId"]


def misfit(schema: dict[str, Any], value: Any) -> str | None:
    """The first thing in which a value does not fit, in words."""
    fits: Any = jsonschema.Draft202012Validator(schema)
    return next((str(error.message) for error in fits.iter_errors(value)), None)


@pytest.mark.parametrize("name", ["asyncapi.json", "openapi.json"])
def test_every_reference_of_a_document_resolves(name: str) -> None:
    known = documents()
    document, found = known[name], references(known[name])
    assert len(found) > 10
    for reference in found:
        file, _, path = reference.partition("#/")
        target: Any = document if not file else known[Path(file).name]
        for part in filter(None, path.split("/")):
            target = target[part]


def references(value: object) -> list[str]:
    """Every `$ref` in a value."""
    if isinstance(value, list):
        return [ref for one in cast("list[object]", value) for ref in references(one)]
    if not isinstance(value, dict):
        return []
    found = cast("dict[str, object]", value)
    here = [str(found["$ref"])] if "$ref" in found else []
    return here + [ref for one in found.values() for ref in references(one)]
