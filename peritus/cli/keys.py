"""`peritus keys`: API keys of the gateway, made, listed, taken back. Not how they are checked."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
import typer

from domain.errors import Rejected
from domain.ids import TOKEN
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.wording import columns
from peritus.definitions.amounts import parse_duration
from peritus.guard import key_ring, sessions_of
from peritus.ids import now_ms
from peritus.people import this_user

if TYPE_CHECKING:
    from gateway.auth.keys import ApiKey

app = typer.Typer(no_args_is_help=True, help="Make, list and take back API keys of the gateway.")

Tenant = Annotated[
    str | None,
    typer.Option(
        help="Whose runs it is about; by default those of PERITUS_TENANT.", metavar="TENANT"
    ),
]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called in lists.")],
    role: Annotated[
        Literal["viewer", "operator", "admin"],
        typer.Option(help="Look; start, answer and stop as well; or all there is."),
    ] = "operator",
    *,
    tenant: Tenant = None,
    expires: Annotated[
        str | None,
        typer.Option(help="How long it is good, as `90d`; by default without an end."),
    ] = None,
    expert: Annotated[
        list[str] | None,
        typer.Option(
            help="An expert it may start; may be given more than once. By default any.",
            metavar="EXPERT",
        ),
    ] = None,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Make an API key and print it: this once, as only a hash of its secret is kept."""
    as_json, place = options.wants_json(as_json), here(config)
    lasts_ms = parse_duration(expires)
    run_async(
        _create(
            place,
            name,
            role,
            whose=_tenant(place, tenant),
            expires_at_ms=None if lasts_ms is None else now_ms() + lasts_ms,
            experts=tuple(sorted(set(expert))) if expert else None,
            as_json=as_json,
        )
    )
    raise typer.Exit(Exit.COMPLETED)


@app.command("list")
def list_keys(
    tenant: Tenant = None, config: options.Config = None, as_json: options.Json = None
) -> None:
    """List the keys of a tenant, oldest first: id, name, role, experts, when made and by whom."""
    as_json, place = options.wants_json(as_json), here(config)
    run_async(_list(place, _tenant(place, tenant), as_json=as_json))
    raise typer.Exit(Exit.COMPLETED)


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The id or the name of the key.")],
    tenant: Tenant = None,
    config: options.Config = None,
) -> None:
    """Take a key back: within seconds it, and sessions made from it, are good at no gateway."""
    place = here(config)
    run_async(_revoke(place, _tenant(place, tenant), key))
    raise typer.Exit(Exit.COMPLETED)


@app.command("end-sessions")
def end_sessions(config: options.Config = None) -> None:
    """End the sessions of all browsers, of every tenant; keys stay as they are."""
    run_async(_end_sessions(here(config)))
    raise typer.Exit(Exit.COMPLETED)


async def _create(
    place: Place,
    name: str,
    role: Literal["viewer", "operator", "admin"],
    *,
    whose: str,
    expires_at_ms: int | None,
    experts: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    async with observing(place) as observer:
        key, text = await key_ring(observer.backbone).create(
            whose,
            name,
            role,
            by=f"cli:{this_user('cli').name}",
            experts=experts,
            expires_at_ms=expires_at_ms,
        )
    if as_json:
        await Out().write(orjson.dumps(_facts(key) | {"key": text}) + b"\n")
        return
    notice(f"key {key.name} ({key.id}) of tenant {whose}, role {role}; it is shown this once")
    await Out().write(f"{text}\n")


async def _list(place: Place, whose: str, *, as_json: bool) -> None:
    async with observing(place) as observer:
        keys = await key_ring(observer.backbone).list(whose)
    if as_json:
        await Out().write(b"".join(orjson.dumps(_facts(key)) + b"\n" for key in keys))
    elif keys:
        await Out().write(columns([_row(key) for key in keys]))
    else:
        notice(f"no keys of tenant {whose}")


async def _revoke(place: Place, whose: str, which: str) -> None:
    async with observing(place) as observer:
        key = await key_ring(observer.backbone).revoke(whose, which)
    if key is None:
        message = f"tenant {whose} has no key {which!r}; see `peritus keys list`"
        raise Rejected("no_such_key", message)
    notice(f"key {key.name} ({key.id}) is good no more")


async def _end_sessions(place: Place) -> None:
    async with observing(place) as observer:
        await sessions_of(observer.backbone).end_all()
    notice("all sessions of browsers are over")


def _tenant(place: Place, given: str | None) -> str:
    """Whose keys are meant.

    Raises:
        Rejected: that is no name of a tenant.
    """
    whose = place.settings.tenant if given is None else given
    if TOKEN.fullmatch(whose) is None:
        raise Rejected("bad_setting", "a tenant has 1 to 64 letters, digits, _ and -")
    return whose


def _facts(key: "ApiKey") -> dict[str, object]:
    return key.model_dump(exclude={"salt", "digest"})


def _row(key: "ApiKey") -> tuple[str, ...]:
    over = key.expires_at_ms is not None and key.expires_at_ms <= now_ms()
    ends = "no end" if key.expires_at_ms is None else f"ends {_day(key.expires_at_ms)}"
    return (
        key.id,
        key.name,
        key.role,
        "any expert" if key.experts is None else ", ".join(key.experts),
        f"made {_day(key.created_at_ms)} by {key.created_by}",
        f"{ends}, over" if over else ends,
    )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d")
