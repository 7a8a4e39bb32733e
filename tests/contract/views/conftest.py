"""A place for views in every form of the store. Not the tests."""

from collections.abc import Generator
from pathlib import Path

import pytest

from projections.where import Postgres, Where
from tests.support import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Generator[str]:
    if (why := postgres.missing()) is not None:
        pytest.skip(why)
    with postgres.served() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.backends)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    if request.param == "sqlite":
        return tmp_path / "state" / "views.sqlite"
    return Postgres(request.getfixturevalue("postgres_url"), postgres.new_schema())
