"""One arena for a module and a backend: attacks share a sandbox, as the calls of a run do."""

from collections.abc import AsyncGenerator

import pytest

from tests.attacks.arena import Arena, Attack, arena
from tests.contract.sandbox_backends import ATTACKED, BackendUnderTest


@pytest.fixture(scope="module", params=ATTACKED)
async def attacked(request: pytest.FixtureRequest) -> AsyncGenerator[Arena]:
    """The arena of a backend that can be had here."""
    tried: BackendUnderTest = request.param
    if tried.missing is not None:
        pytest.skip(tried.missing)
    async with arena(tried) as made:
        yield made


@pytest.fixture
def attack(request: pytest.FixtureRequest, attacked: Arena) -> Attack:
    """An attack, if what it is directed at is promised here."""
    tried: Attack = request.param
    for name in tried.needs:
        if not attacked.promises.get(name, False):
            pytest.skip(f"{attacked.name} does not promise {name}, and its report says so")
    return tried
