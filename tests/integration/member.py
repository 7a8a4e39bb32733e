"""One process that joins a state folder, for tests that need several. Not a test.

`python -m tests.integration.member <folder> <durability>` prints the endpoint as a line of JSON
when it is in, and leaves at the end of its input.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from domain.errors import PeritusError
from eventlog.embedded import join_state_folder
from eventlog.jetstream.durability import Durability

DURABILITIES: dict[str, Durability] = {"process": "process", "os": "os"}


async def main(folder: str, durability: str) -> None:
    try:
        async with join_state_folder(Path(folder), DURABILITIES[durability]) as endpoint:
            say(asdict(endpoint) | {"log_path": str(endpoint.log_path)})
            await asyncio.to_thread(sys.stdin.read)
    except PeritusError as refused:
        say({"refused": type(refused).__name__})


def say(record: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
