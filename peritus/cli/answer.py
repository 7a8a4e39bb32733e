"""`peritus answer`: answer a question of an expert, or of a tool. Not what follows from it."""

from typing import Annotated

import typer

from domain.asks import Action
from peritus.cli import asks, options
from peritus.cli.deciding import deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.people import answer, answer_ask
from projections.family import load_family
from projections.waits import ANSWERABLE, WaitKind, find_wait

CALL_AND_TEXT = 2
ASKS: frozenset[WaitKind] = frozenset({"ask"})


def command(
    run: options.Run,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID] [TEXT]",
            help="Which question, if several are open, and the answer: text or JSON; `-` reads it.",
        ),
    ] = None,
    *,
    accept: Annotated[
        bool, typer.Option("--accept", help="Of a tool: yes, or the link was opened.")
    ] = False,
    decline: Annotated[bool, typer.Option("--decline", help="Of a tool: no.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Of a tool: close it without an answer.")
    ] = False,
    config: options.Config = None,
) -> None:
    """Answer a question of a run, or of one under it; the answer is the result of the call.

    What a tool asks in the middle of its call is answered with the JSON of its form, with the one
    value that the form is for, or with --accept, --decline or --cancel.

    `peritus waiting` shows what is asked. Without ID, exactly one question has to be open.
    """
    given = words or []
    chosen = _chosen(accept=accept, decline=decline, cancel=cancel)
    if chosen is not None:
        if len(given) > 1:
            options.refuse(f"--{chosen} goes without an answer: peritus answer {run} {given[0]}")
        name = given[0] if given else None
        raise typer.Exit(run_async(_respond(here(config), run, name, chosen)))
    if not given:
        options.refuse(f"say what to answer: peritus answer {run} TEXT, or --accept or --decline")
    if len(given) > CALL_AND_TEXT:
        message = f"quote the answer: peritus answer {run} {given[0]} '{' '.join(given[1:])}'"
        options.refuse(message)
    name = given[0] if len(given) == CALL_AND_TEXT else None
    raise typer.Exit(run_async(_answer(here(config), run, name, options.text_of(given[-1]))))


def _chosen(*, accept: bool, decline: bool, cancel: bool) -> Action | None:
    named: list[tuple[Action, bool]] = [
        ("accept", accept),
        ("decline", decline),
        ("cancel", cancel),
    ]
    found: list[Action] = [action for action, wanted in named if wanted]
    if len(found) > 1:
        options.refuse(f"--{found[0]} and --{found[1]} exclude each other: say one of them")
    return found[0] if found else None


async def _answer(place: Place, run: str, name: str | None, text: str) -> Exit:
    async with deciding(place, run) as at:
        ports = at.link.backbone
        family = await load_family(ports.log, at.ref)
        wait = find_wait(family.waits(at.ref.run), name, ANSWERABLE)
        question = await asks.shown(ports.blobs, wait)
        await answer(at.send, wait, text)
        notice(f"answered: {asks.headline(question)}")
        await at.tell_rest()
    return Exit.COMPLETED


async def _respond(place: Place, run: str, name: str | None, action: Action) -> Exit:
    async with deciding(place, run) as at:
        ports = at.link.backbone
        family = await load_family(ports.log, at.ref)
        wait = find_wait(family.waits(at.ref.run), name, ASKS)
        question = await asks.shown(ports.blobs, wait)
        await answer_ask(at.send, wait, action)
        done = {"accept": "accepted", "decline": "declined", "cancel": "closed"}
        notice(f"{done[action]}: {asks.headline(question)}")
        await at.tell_rest()
    return Exit.COMPLETED
