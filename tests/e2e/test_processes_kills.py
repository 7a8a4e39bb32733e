"""The only process of a run killed with kill -9, a few times of each kind. Not the figures."""

import random

import pytest

from benchmarks.kills import KINDS, Kind, trial

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.faults]

KILLS = 3
SEED = 7
TRIES_MAX = 20
"""A run of quick steps may be over before its kill; then it is tried again, at most so often."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_process_loses_no_event_and_no_tool_runs_twice(kind: Kind) -> None:
    dice = random.Random(SEED)
    killed = 0
    for _ in range(TRIES_MAX):
        one = await trial(kind, dice)
        if one is None:
            continue
        assert one.good, one
        assert one.unknown == 1 or kind != "tool", one
        killed += 1
        if killed == KILLS:
            break

    assert killed == KILLS
