"""What end-to-end tests share: a project to run the command in. Not fixtures of other areas."""

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.cli_project import DEFINITION, Project


@pytest.fixture
def project(tmp_path: Path) -> Generator[Project]:
    """A project with one expert and scripts that say one word, ask for a tool, and never end."""
    made = Project(tmp_path)
    made.write("perstack.toml", DEFINITION)
    made.write("hello.toml", '[[reply]]\ntext = "Hello there."\n')
    yield made
    server = tmp_path / ".peritus" / "endpoint.json"
    assert not server.exists() or made.peritus("runs").code == 0  # the last one stops the server
