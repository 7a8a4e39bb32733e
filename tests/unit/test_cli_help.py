"""The command's own words: its overview, its helps, its version. Not what commands do."""

import importlib.metadata
import subprocess
import sys

import pytest

from peritus.cli.main import COMMANDS, main


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"{name} " in shown
        assert entry.summary in " ".join(shown.split())


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "dead"])
def test_every_command_and_every_option_is_explained(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    options = [line for line in lines if line.startswith("  -")]
    following = {line: lines[lines.index(line) + 1] for line in options if line in lines[:-1]}
    for line in options:
        described = "  " in line.strip() or following[line].startswith("      ")
        assert described, line


def test_the_help_of_run_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "--help"])

    shown = " ".join(capsys.readouterr().out.split())
    assert "10: left before the run came to rest" in shown


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("peritus")


def test_no_command_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


def test_neither_a_model_sdk_nor_http_nor_a_database_is_imported_by_run_before_it_is_needed() -> (
    None
):
    heavy = (
        "anthropic",
        "openai",
        "mcp",
        "docker",
        "starlette",
        "uvicorn",
        "rich",
        "eventsourcing",
        "sqlalchemy",
        "aiosqlite",
        "psycopg",
    )
    code = (
        f"import sys, peritus.cli.run; print([name for name in {heavy!r} if name in sys.modules])"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert ended.stdout.strip() == "[]"
