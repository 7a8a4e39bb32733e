"""What end-to-end tests share: a project to run the command in. Not fixtures of other areas."""

import functools
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.cli_project import DEFINITION, Project
from tests.support import registries

FETCH_S = 600.0
"""How long packages may take to be fetched, in seconds: the first time, on a busy machine."""

Locked = Callable[[str], str]
"""The lock of a definition, as `peritus lock` writes it."""


@pytest.fixture
def project(tmp_path: Path) -> Generator[Project]:
    """A project with one expert and scripts that say one word, ask for a tool, and never end."""
    made = Project(tmp_path)
    made.write("perstack.toml", DEFINITION)
    made.write("hello.toml", '[[reply]]\ntext = "Hello there."\n')
    yield made
    made.close()


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Locked:
    """Locks definitions whose servers come from registries: each is asked once for all tests."""
    missing = registries.missing()
    if missing is not None:
        pytest.skip(missing)

    @functools.cache
    def lock(definition: str) -> str:
        asking = Project(tmp_path_factory.mktemp("lock"), registries.settings(), FETCH_S)
        asking.write("perstack.toml", definition)
        outcome = asking.peritus("lock")
        assert outcome.code == 0, outcome.said
        return (asking.folder / "perstack.lock").read_text()

    return lock


@pytest.fixture
def shop(project: Project, locked: Locked) -> Project:
    """A project whose packages are fetched from the registries."""
    del locked
    return replace(project, settings=registries.settings())
