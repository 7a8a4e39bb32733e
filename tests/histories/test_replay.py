"""Histories of every release replay for ever (rule 12, C17). Their files are never edited."""

from pathlib import Path
from typing import cast

import orjson
import pytest

from domain.envelope import decode, encode
from domain.events import EVENT_TYPES
from tests.histories import generate
from tests.histories.replay import events_of, replay, summary

LOGS = sorted(Path(__file__).parent.glob("v*/*.jsonl"))


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_history_folds_to_what_it_led_to_when_it_was_written(path: Path) -> None:
    """C4, C17, C20, C21: chain, versions, requests and the end are those of its release."""
    expected = orjson.loads(path.with_suffix(".expected.json").read_bytes())
    source = path.with_name(f"{path.stem}-source.jsonl")
    past = lines_of(source) if source.exists() else None
    found = orjson.loads(orjson.dumps(summary(replay(lines_of(path), past))))
    assert as_known_then(found, expected) == expected


def as_known_then(found: object, expected: object) -> object:
    """What is found now, without what a later release has added to its limits and totals."""
    if not all(isinstance(one, dict) for one in (found, expected)):
        return found
    here, known = cast("dict[str, object]", found), cast("dict[str, object]", expected)
    return {name: as_known_then(here[name], known[name]) for name in here if name in known}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_envelope_of_this_release_is_written_again_byte_for_byte(path: Path) -> None:
    if path.parent.name != generate.RELEASE:
        pytest.skip("an older release's bytes are upcast when they are read")
    for line in lines_of(path):
        assert encode(decode(line)) == line


def test_histories_of_this_release_show_every_event_it_writes() -> None:
    here = [path for path in LOGS if path.parent == generate.FOLDER]
    seen = {event.type for path in here for event in events_of(lines_of(path))}
    assert seen == set(EVENT_TYPES)


def test_generator_writes_these_histories_and_never_over_released_ones() -> None:
    with pytest.raises(FileExistsError, match="never written again"):
        generate.write(overwrite=False)
