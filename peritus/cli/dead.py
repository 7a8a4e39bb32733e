"""`peritus dead`: commands that were given up on, listed and sent again. Not why they failed."""

import json
from typing import Annotated

import orjson
import typer

from domain.errors import Rejected
from eventlog.port import DeadLetter
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.wording import short
from peritus.ids import new_id

LIMIT = 50
LISTED_MAX = 10_000
REASON_CHARS = 100

app = typer.Typer(no_args_is_help=True, help="List commands that were given up on.")


@app.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = LIMIT,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """List dead letters, newest first: number, run, command and why it was given up on."""
    as_json = options.wants_json(as_json)
    raise typer.Exit(run_async(_list(here(config), limit, as_json=as_json)))


@app.command("requeue")
def requeue(
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", help="From the list.")],
    config: options.Config = None,
) -> None:
    """Send dead letters again, and take them off the list."""
    raise typer.Exit(run_async(_requeue(here(config), frozenset(numbers))))


async def _list(place: Place, limit: int, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        letters = await observer.backbone.dead.list(limit)
    if not letters and not as_json:
        notice("no dead letters")
    await Out().write("".join(_line(letter, as_json=as_json) for letter in letters))
    return Exit.COMPLETED


def _line(letter: DeadLetter, *, as_json: bool) -> str:
    if as_json:
        facts = {
            "number": letter.seq,
            **letter.ref._asdict(),
            "reason": letter.reason,
            "command": letter.data.decode("utf-8", "replace"),
        }
        return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE).decode()
    return (
        f"{letter.seq}  {letter.ref.run}  {_kind(letter)}  {short(letter.reason, REASON_CHARS)}\n"
    )


def _kind(letter: DeadLetter) -> str:
    try:
        return str(json.loads(letter.data)["type"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"


async def _requeue(place: Place, numbers: frozenset[int]) -> Exit:
    async with observing(place) as observer:
        ports = observer.backbone
        letters = {letter.seq: letter for letter in await ports.dead.list(LISTED_MAX)}
        if missing := sorted(numbers - letters.keys()):
            raise Rejected("no_such_letter", f"no dead letter {', '.join(map(str, missing))}")
        for number in sorted(numbers):
            letter = letters[number]
            await ports.commands.put(letter.ref, letter.data, message_id=new_id())
            await ports.dead.remove(number)
            notice(f"sent again: {number} to run {letter.ref.run}")
    return Exit.COMPLETED
