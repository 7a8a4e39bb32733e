"""`peritus webhooks`: who is told of events by HTTP. Not the telling: the gateway does that."""

from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from domain.errors import Rejected, Unavailable
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.wording import columns
from peritus.ids import new_id, now_ms
from peritus.people import this_user

if TYPE_CHECKING:
    from eventlog.port import Backbone
    from gateway.webhooks.hooks import Hooks, Kept

app = typer.Typer(no_args_is_help=True, help="Have events sent to other programs.")

Hook = Annotated[str, typer.Argument(metavar="HOOK", help="The id of a webhook, from the list.")]


@app.command("add")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent.")],
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="Events it is told of: a type, or what types begin with, up to a dot; may be "
            "given more than once. By default all.",
            metavar="TYPE",
        ),
    ] = None,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Have every event from now on sent to an address; prints the secret that signs, this once."""
    shown = options.wants_json(as_json)
    raise typer.Exit(run_async(_add(here(config), url, tuple(types or ()), as_json=shown)))


@app.command("list")
def list_hooks(config: options.Config = None, as_json: options.Json = None) -> None:
    """List webhooks, oldest first: id, address, types, how far each is, and what is wrong."""
    shown = options.wants_json(as_json)
    raise typer.Exit(run_async(_list(here(config), as_json=shown)))


@app.command("remove")
def remove(hook: Hook, config: options.Config = None) -> None:
    """Send nothing more to a webhook, within seconds."""
    raise typer.Exit(run_async(_remove(here(config), hook)))


@app.command("test")
def send(hook: Hook, config: options.Config = None) -> None:
    """Send a test to a webhook now. When it is received, one that was disabled goes on.

    Exit code 7 when it is not received.
    """
    raise typer.Exit(run_async(_test(here(config), hook)))


async def _add(place: Place, url: str, types: tuple[str, ...], *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        hooks, tenant = _hooks(place, observer.backbone), place.settings.tenant
        hook = await hooks.create(tenant, url, types, f"cli:{this_user('cli').name}")
    if as_json:
        await Out().write(orjson.dumps(hook.model_dump(), option=orjson.OPT_APPEND_NEWLINE))
    else:
        notice(f"webhook {hook.id}; its secret is shown this once")
        await Out().write(f"{hook.secret}\n")
    return Exit.COMPLETED


async def _list(place: Place, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        found = await _hooks(place, observer.backbone).list(place.settings.tenant)
    if as_json:
        lines = [orjson.dumps(_facts(one), option=orjson.OPT_APPEND_NEWLINE) for one in found]
        await Out().write(b"".join(lines))
    elif found:
        rows = [(one.hook.id, one.hook.url, _types(one), _state(one)) for one in found]
        await Out().write(columns([("HOOK", "URL", "TYPES", "STATE"), *rows]))
    else:
        notice("no webhooks; add one with: peritus webhooks add URL")
    return Exit.COMPLETED


async def _remove(place: Place, name: str) -> Exit:
    async with observing(place) as observer:
        gone = await _hooks(place, observer.backbone).remove(place.settings.tenant, name)
    if gone is None:
        raise _unknown(name)
    notice(f"webhook {name} is removed")
    return Exit.COMPLETED


async def _test(place: Place, name: str) -> Exit:
    from gateway.webhooks.sender import MULTIPLE, OK, send_test  # noqa: PLC0415 - HTTP
    from peritus.posting import posting  # noqa: PLC0415

    async with observing(place) as observer, posting(place.settings) as post:
        hooks = _hooks(place, observer.backbone)
        kept = await hooks.get(place.settings.tenant, name)
        if kept is None:
            raise _unknown(name)
        status = await send_test(kept.hook, post, f"test-{new_id()}", now_ms())
        if not OK <= status < MULTIPLE:
            msg = f"webhook {name} answered {status}"
            raise Unavailable(msg)
        notice(f"webhook {name} answered {status}")
        if kept.place.disabled:
            await hooks.enable(kept)
            notice("it goes on where it was")
    return Exit.COMPLETED


def _hooks(place: Place, backbone: "Backbone") -> "Hooks":
    from peritus.webhooks import hooks_of  # noqa: PLC0415 - HTTP is for those who want it

    return hooks_of(place.settings, backbone)


def _facts(one: "Kept") -> dict[str, object]:
    from gateway.webhooks.operations import shown  # noqa: PLC0415 - HTTP is for those who want it

    return shown(one).model_dump()


def _types(one: "Kept") -> str:
    return ", ".join(one.hook.types) or "all"


def _state(one: "Kept") -> str:
    place = one.place
    if place.disabled:
        return f"disabled: {place.disabled}"
    return f"failed {place.failures} times: {place.problem}" if place.failures else "on"


def _unknown(name: str) -> Rejected:
    return Rejected("no_such_hook", f"there is no webhook {name!r}; see `peritus webhooks list`")
