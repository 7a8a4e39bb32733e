"""A process that folds the golden logs into a store, in batches of its own. Not the tests."""

import asyncio
import random
import sys
from pathlib import Path

from projections.store import Moved, open_store
from projections.views import ALL
from projections.where import Postgres, Where
from tests.support.golden_log import LOG, after

BATCH_MAX = 12


async def fold_all(where: Where, dice: random.Random) -> None:
    """Until all is there; what others have done meanwhile is theirs."""
    async with open_store(where, ALL) as store:
        standing = await store.begin("a0", goal=len(LOG))
        while after(standing) < len(LOG):
            begun = after(standing)
            batch = LOG[begun : begun + dice.randint(1, BATCH_MAX)]
            try:
                await store.apply(standing, batch)
            except Moved:
                standing = await store.begin("a0", goal=len(LOG))
            sys.stdout.write(f"{after(standing)}\n")
            sys.stdout.flush()


def main() -> None:
    place, schema, seed = sys.argv[1:]
    where: Where = Postgres(place, schema) if schema else Path(place)
    asyncio.run(fold_all(where, random.Random(seed)))


if __name__ == "__main__":
    main()
