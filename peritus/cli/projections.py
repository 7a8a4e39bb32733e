"""`peritus projections`: how far the views are behind the log, and making them anew. Not a view."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from domain.errors import Rejected
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Observer, Place, here, observing
from peritus.cli.wording import columns
from peritus.lookup import views_at
from projections.lag import ViewState, states_of
from projections.queries.reader import Reader
from projections.runner import rebuild as build_anew
from projections.views import ALL
from services.loop.models.script import nearest

app = typer.Typer(no_args_is_help=True, help="See how far the views are; make them anew.")


@app.command("list")
def list_views(config: options.Config = None, as_json: options.Json = None) -> None:
    """List the views: what is read of each, up to where it is, and what is being built."""
    raise typer.Exit(run_async(_list(here(config), as_json=options.wants_json(as_json))))


@app.command("lag")
def lag(config: options.Config = None, as_json: options.Json = None) -> None:
    """Say how many envelopes each view is behind the log."""
    raise typer.Exit(run_async(_lag(here(config), as_json=options.wants_json(as_json))))


@app.command("rebuild")
def rebuild(
    views: Annotated[
        list[str] | None, typer.Argument(metavar="[VIEW]...", help="Which; all if none is named.")
    ] = None,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Make views anew from the log, beside the ones that are read, which are there until then."""
    wanted = _known(views or [])
    as_json = options.wants_json(as_json)
    raise typer.Exit(run_async(_rebuild(here(config), wanted, as_json=as_json)))


def _known(names: Sequence[str]) -> tuple[str, ...]:
    known = [view.name for view in ALL]
    for name in names:
        if name not in known:
            raise Rejected("no_such_view", f"no view {name!r}{nearest(name, known)}")
    return tuple(dict.fromkeys(names or known))


async def _states(place: Place, observer: Observer) -> list[ViewState]:
    log = observer.backbone.log
    async with Reader(views_at(place.settings, place.project)) as reader:
        return states_of(ALL, await reader.places(), log.incarnation, (await log.bounds())[1])


async def _list(place: Place, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        states = await _states(place, observer)
    await Out().write(_lines(states) if as_json else table(states))
    return Exit.COMPLETED


async def _lag(place: Place, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        states = await _states(place, observer)
    cells = [("VIEW", "BEHIND"), *((state.view, f"{state.behind:,}") for state in states)]
    await Out().write(_lines(states) if as_json else columns(cells))
    return Exit.COMPLETED


async def _rebuild(place: Place, names: tuple[str, ...], *, as_json: bool) -> Exit:
    where = views_at(place.settings, place.project)
    async with observing(place) as observer:
        notice(f"building {', '.join(names)} from the whole log")
        position = await build_anew(observer.backbone.log, where, names=names, timeout_s=None)
        states = [one for one in await _states(place, observer) if one.view in names]
    notice(f"built up to {position}")
    if as_json:
        await Out().write(_lines(states))
    return Exit.COMPLETED


def table(states: Sequence[ViewState]) -> str:
    """The views in columns."""
    cells = [("VIEW", "VERSION", "STATE", "UP TO", "BEHIND")]
    cells.extend(
        (state.view, str(state.version), _told(state), f"{state.seq:,}", f"{state.behind:,}")
        for state in states
    )
    return columns(cells)


def _told(state: ViewState) -> str:
    if state.built_percent is None or state.condition == "absent":
        return state.condition
    built = f"{state.built_percent} % built anew"
    return built if state.condition == "building" else f"{state.condition}, {built}"


def _lines(states: Sequence[ViewState]) -> str:
    lines = [orjson.dumps(asdict(state), option=orjson.OPT_APPEND_NEWLINE) for state in states]
    return b"".join(lines).decode()
