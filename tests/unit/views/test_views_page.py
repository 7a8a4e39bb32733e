"""The page about the views names what they have. Not whether it is well said."""

import re
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import MetaData

from domain.base_tools import BASE_TOOLS
from domain.events import Outcome
from projections.view import AnyView
from projections.views import ALL
from projections.views.activities import ActivitiesView
from projections.views.audit import AuditView
from projections.views.search import SearchView
from tests.support.tables import Rows
from tests.support.worlds import golden

PAGE = (Path(__file__).parents[3] / "docs" / "views.md").read_text()
NAMED = [view for view in ALL if view.name != "runs"]
EVERYWHERE = {"tenant", "job", "run"}


def section(name: str) -> str:
    """What stands above the views, and about one of them."""
    above, *sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return above + next(one for one in sections if one.startswith(f"{name}\n"))


def named(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def found(view: AnyView, column: str) -> set[str]:
    """The values of a column over all golden logs."""
    logs = golden().values()
    return {row[column] for log in logs for row in Rows(view).tell_all(log).of(view.name)}


@pytest.mark.parametrize("view", NAMED, ids=lambda view: view.name)
def test_every_column_is_explained(view: AnyView) -> None:
    (table,) = view.tables(MetaData(), "").values()
    columns = {column.name for column in table.columns}
    assert columns - named(section(view.name)) - EVERYWHERE == set()


def test_every_type_of_activity_is_explained() -> None:
    kinds = found(ActivitiesView(), "type")
    assert len(kinds) > 12
    assert kinds - named(section("activities")) - BASE_TOOLS.keys() == set()


def test_every_kind_of_text_is_explained() -> None:
    kinds = found(SearchView(), "kind")
    assert len(kinds) == 7
    assert kinds - named(section("search")) == set()


def test_every_act_is_explained() -> None:
    said = section("audit")
    actions = found(AuditView(), "action")
    assert len(actions) > 10
    assert [action for action in sorted(actions) if action not in said] == []


def test_every_outcome_is_named() -> None:
    said = section("calls")
    assert [outcome for outcome in get_args(Outcome) if outcome not in said] == []
