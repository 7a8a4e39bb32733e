"""The table of operations: documented whole, named once, and safe by default. Not its handlers."""

import re
from pathlib import Path

import pytest

from eventlog.memory import MemoryServer
from gateway.app import create_app
from gateway.endpoints import routes
from gateway.operations import Operation
from gateway.statuses import MEANINGS, statuses_of
from tests.support.gateway import deps_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gateway.md"
ROW = re.compile(r"^\| `((?:GET|POST|PUT|DELETE) [^`]*)` \|.*$", re.MULTILINE)

BACKBONE = MemoryServer(now_ms=lambda: 0).backbone()
DEPS = deps_of(BACKBONE, Path("nowhere"))
TABLE: tuple[Operation, ...] = create_app(DEPS).state.table
SHOWN = [one for one in TABLE if one.shown]


def row(one: Operation) -> str:
    """What docs/gateway.md says of an operation."""
    path = re.sub(r":path\}", "}", one.path)
    who = "anybody" if one.open else one.role
    return f"| `{one.method} {path}` | {who} | {one.summary} |"


def test_every_operation_is_in_the_docs_and_no_other() -> None:
    wanted = "\n".join(row(one) for one in SHOWN)
    found = "\n".join(match[0] for match in ROW.finditer(PAGE.read_text()))
    assert found == wanted, f"the table of docs/gateway.md is to be:\n{wanted}"


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.name)
def test_operation_that_changes_something_is_not_for_viewers_or_the_open(one: Operation) -> None:
    if one.method == "GET" or "session" in one.path:
        assert one.role in ("viewer", "admin")
    else:
        assert one.role in ("operator", "admin")
        assert not one.open


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: one.name)
def test_every_status_of_an_operation_has_a_meaning(one: Operation) -> None:
    assert statuses_of(one) <= MEANINGS.keys()
    assert one.status not in statuses_of(one)


@pytest.mark.parametrize(
    "one",
    [one for one in SHOWN if one.examples],
    ids=lambda one: one.name,
)
def test_every_example_of_a_body_is_a_body(one: Operation) -> None:
    assert one.body is not None
    for example in one.examples.values():
        one.body.model_validate(example)


def test_two_operations_of_one_name_or_place_are_refused() -> None:
    with pytest.raises(ValueError, match="in the table twice"):
        routes((TABLE[0], TABLE[0]), DEPS)


def test_path_that_is_not_in_the_table_does_not_exist() -> None:
    paths = {one.path for one in TABLE}
    app = create_app(DEPS)
    ours = {str(getattr(route, "path", "")) for route in app.routes}
    assert {path for path in ours if path.startswith("/v1/")} <= paths
