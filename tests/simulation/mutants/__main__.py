"""Plants each bug of this folder in a copy of the code, for the simulation to find."""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
PACKAGES = ("domain", "eventlog", "commands", "projections", "services", "gateway", "peritus")
SEEDS = 200

TEAMS = "Only teams show it."
"""At the head of a patch: the other worlds of these seeds are left out, which saves their time."""


def plant(patch: Path, folder: Path) -> None:
    """A copy of the code with one bug."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)


def hunt(patch: Path) -> tuple[bool, str]:
    """Whether the simulation finds the bug, and what it says."""
    with tempfile.TemporaryDirectory(prefix="peritus-mutant-") as name:
        folder = Path(name)
        plant(patch, folder)
        worlds = ["--teams"] if TEAMS in patch.read_text() else []
        found = subprocess.run(
            [sys.executable, "-m", "peritus.simulation", "--seeds", str(SEEDS), *worlds],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = (found.stdout or found.stderr).strip().splitlines()
    # A copy that does not even start proves nothing.
    caught = found.returncode == 1 and "problems" in found.stdout
    return caught, lines[0] if lines else ""


def main() -> int:
    """Exit code 1 when a planted bug survives."""
    survivors = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for patch, (caught, words) in zip(PATCHES, pool.map(hunt, PATCHES), strict=True):
            survivors += not caught
            sys.stdout.write(f"{'caught' if caught else 'SURVIVED'}  {patch.stem}: {words}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(PATCHES)} planted bugs, {survivors} survived\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
