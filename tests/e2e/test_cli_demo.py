"""The demo as `make demo` runs it: no key, real tools. Not its script's single steps."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli_project import BOUND_S, Project, environment

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

EXAMPLE = Path(__file__).parents[2] / "examples" / "bugfix"


def test_the_demo_sees_the_bug_repairs_it_and_is_replayed(tmp_path: Path) -> None:
    before = (EXAMPLE / "seed" / "temperature.py").read_text()

    ended = subprocess.run(
        [str(EXAMPLE / "demo.sh")],
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert "FAILED (failures=1)" in ended.stdout
    assert "9 of 9 requests verified" in ended.stdout
    assert "+    return (fahrenheit - 32) * 5 / 9" in ended.stdout
    assert (EXAMPLE / "seed" / "temperature.py").read_text() == before


def test_the_script_does_not_go_on_when_the_tests_do_not_fail(tmp_path: Path) -> None:
    for name in ("perstack.toml", "script.toml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    shutil.copytree(EXAMPLE / "seed", tmp_path / "workspace")
    program = tmp_path / "workspace" / "temperature.py"
    program.write_text(program.read_text().replace("fahrenheit - 32 * 5", "(fahrenheit - 32) * 5"))

    outcome = Project(tmp_path).peritus(
        *("run", "bugfixer", "Repair it", "--provider", "scripted", "--model", "script.toml")
    )

    assert outcome.code == 3
    assert "expects 'return fahrenheit - 32 * 5 / 9'" in outcome.said
