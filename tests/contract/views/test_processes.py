"""Many processes at one store, some of which are killed: nothing twice, nothing left out."""

import subprocess
import sys
from contextlib import ExitStack

import pytest

from projections.where import Postgres, Where
from tests.support.golden_log import everything, one_pass

pytestmark = pytest.mark.anyio

BOUND_S = 120.0
WRITERS = 4


def start(where: Where, seed: int) -> subprocess.Popen[str]:
    at = (where.url, where.schema) if isinstance(where, Postgres) else (str(where), "")
    command = [sys.executable, "-m", "tests.support.view_writer", *at, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_processes_that_are_killed_and_others_that_go_on_fold_each_envelope_once(
    where: Where,
) -> None:
    """Rule 11, C9."""
    with ExitStack() as stack:
        writers = [stack.enter_context(start(where, seed)) for seed in range(WRITERS)]
        for writer in writers:
            stack.callback(writer.kill)
        for number, writer in enumerate(writers[:2]):
            assert writer.stdout is not None
            for _ in range(1 + 2 * number):  # it is at work, in the midst of the others
                writer.stdout.readline()
            writer.kill()
        for writer in writers[2:]:
            writer.communicate(timeout=BOUND_S)
            assert writer.returncode == 0
    assert await everything(where) == await one_pass()
