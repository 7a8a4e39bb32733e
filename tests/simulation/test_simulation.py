"""The whole write side in seeded worlds: few here, many with `make simulate`. Not the mutants."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants.__main__ import PATCHES, ROOT


def simulate(*arguments: str, hash_seed: str = "1") -> subprocess.CompletedProcess[str]:
    """Run the simulation as its command line does."""
    return subprocess.run(
        [sys.executable, "-m", "peritus.simulation", *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_forty_worlds_with_faults_and_crashes_keep_every_invariant() -> None:
    report = simulate("--seeds", "40")
    assert report.returncode == 0, report.stdout + report.stderr


def test_twenty_teams_with_people_around_them_keep_their_books_in_balance() -> None:
    """C6, C7, C12, C14: sixteen delegates on three levels each, see `peritus.simulation.books`."""
    report = simulate("--teams", "--first", "200", "--seeds", "100")
    assert report.returncode == 0, report.stdout + report.stderr


def test_a_seed_is_the_same_world_in_two_processes() -> None:
    first = simulate("--seeds", "2", "--first", "6", hash_seed="1").stdout
    second = simulate("--seeds", "2", "--first", "6", hash_seed="2").stdout
    assert first.split(" worker lives")[0] == second.split(" worker lives")[0]
    assert "2 seeds" in first


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_every_planted_bug_fits_the_code_as_it_is(patch: Path) -> None:
    """`make mutants` hunts them; this says early which has to be renewed."""
    check = ["git", "apply", "--check", str(patch)]
    fits = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert fits.returncode == 0, fits.stderr
