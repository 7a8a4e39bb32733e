"""`peritus answer`: answer a question that an expert has asked. Not what follows from it."""

from typing import Annotated

import typer

from peritus.cli import asks, options
from peritus.cli.deciding import deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.people import answer
from projections.family import load_family
from projections.waits import QUESTIONS, find_wait

CALL_AND_TEXT = 2


def command(
    run: options.Run,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[CALL] TEXT",
            help="Which question, if several are open, and the answer: text or JSON; `-` reads it.",
        ),
    ],
    config: options.Config = None,
) -> None:
    """Answer a question of a run, or of one under it; the answer is the result of the call.

    `peritus waiting` shows what is asked. Without CALL, exactly one question has to be open.
    """
    if len(words) > CALL_AND_TEXT:
        message = f"quote the answer: peritus answer {run} {words[0]} '{' '.join(words[1:])}'"
        options.refuse(message)
    call = words[0] if len(words) == CALL_AND_TEXT else None
    text = options.text_of(words[-1])
    raise typer.Exit(run_async(_answer(here(config), run, call, text)))


async def _answer(place: Place, run: str, call: str | None, text: str) -> Exit:
    async with deciding(place, run) as at:
        ports = at.link.backbone
        family = await load_family(ports.log, at.ref)
        wait = find_wait(family.waits(at.ref.run), call, QUESTIONS)
        question = await asks.shown(ports.blobs, wait)
        await answer(at.send, wait, text)
        notice(f"answered: {asks.headline(question)}")
        await at.tell_rest()
    return Exit.COMPLETED
