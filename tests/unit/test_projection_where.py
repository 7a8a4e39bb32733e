"""Where views are kept, by its URL. Not what is kept there."""

import sys
from pathlib import Path

import pytest

from domain.errors import Rejected
from peritus.lookup import views_at
from peritus.project import find_project
from peritus.settings import Settings
from projections.queries.reader import Reader
from projections.store import open_store
from projections.where import Postgres, parse_where

URL = "postgresql://ada:hidden@db.invalid/views"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (URL, Postgres(URL, "team")),
        ("postgres://ada@/v?host=/run", Postgres("postgresql://ada@/v?host=/run", "team")),
        ("sqlite:////var/lib/views.sqlite", Path("/var/lib/views.sqlite")),
        ("sqlite:///views.sqlite", Path("views.sqlite")),
    ],
)
def test_a_url_names_a_file_or_a_database(url: str, where: object) -> None:
    assert parse_where(url, schema="team") == where


@pytest.mark.parametrize(
    "url", ["mysql://ada:hidden@db/views", "sqlite://", "sqlite:///", "postgresql://", "views.db"]
)
def test_any_other_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Rejected, match="postgresql://user@host/database") as rejected:
        parse_where(url)
    assert rejected.value.code == "bad_setting"
    assert "hidden" not in str(rejected.value)


def test_a_password_is_not_shown() -> None:
    """C15."""
    assert "hidden" not in repr(parse_where(URL))
    assert "hidden" not in repr(Settings.model_validate({"views_url": URL}))


def test_the_url_goes_above_the_path_and_the_prefix_names_the_schema(tmp_path: Path) -> None:
    given = {"views_path": "views.sqlite", "views_url": URL, "prefix": "team"}
    settings = Settings.model_validate(given)
    project = find_project(tmp_path, settings)
    assert views_at(settings, project) == Postgres(URL, "team")
    del given["views_url"]
    assert views_at(Settings.model_validate(given), project) == Path("views.sqlite")
    assert views_at(Settings(), project) == project.state / "views.sqlite"


@pytest.mark.anyio
async def test_without_its_driver_postgresql_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for opened in (Reader(Postgres(URL)), open_store(Postgres(URL), [])):
        with pytest.raises(Rejected, match=r"pip install 'peritus\[postgres\]'") as rejected:
            async with opened:
                pass
        assert rejected.value.code == "missing_package"
