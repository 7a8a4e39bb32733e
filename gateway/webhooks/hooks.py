"""Who wants to be told of what, and how far that is: two values of the registry. Not the telling.

The secret signs what is sent, so it is kept as it is: whoever can read the registry can read it.
"""

import logging
import re
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from domain.errors import Rejected
from domain.ids import TOKEN
from domain.record import Record
from eventlog.newest import Entry
from eventlog.port import Backbone

logger = logging.getLogger(__name__)

HOOK, PLACE = "hook", "hookat"
ID_BYTES = 8
SECRET_BYTES = 32
URL_CHARS_MAX = 2_000
TYPES_MAX = 100
HOOKS_MAX = 100
"""Webhooks of one tenant, a count: each is a reader of the log."""

TYPE = re.compile(r"[a-z_]+(\.[a-z_]+)*(\.v[0-9]+|\.)?")
"""A type, one without its version, or what types begin with, up to a dot."""


class Hook(Record):
    """One webhook. Without `types` it is told of every event of the tenant."""

    id: str
    tenant: str
    url: str
    types: tuple[str, ...] = ()
    incarnation: str
    seq: int  # the first sequence it is told of
    created_at_ms: int
    created_by: str
    secret: str = Field(repr=False)

    def wants(self, kind: str) -> bool:
        """Whether it is told of events of that type."""
        return not self.types or any(_is(kind, one) for one in self.types)


class Place(Record):
    """How far a hook has been told: next is event `event` of the envelope at `seq`, or a later one.

    Whoever is `holder` tells it until `until_ms`. `disabled` says why nobody does any more.
    """

    incarnation: str
    seq: int
    event: int = 0
    holder: str = ""
    until_ms: int = 0
    failing_since_ms: int | None = None
    failures: int = 0
    problem: str = ""
    disabled: str = ""


class Kept(Record):
    """A hook with its place, and the revision of that in the registry; 0: none was written yet."""

    hook: Hook
    place: Place
    revision: int = 0


class Hooks:
    """The webhooks of a deployment."""

    def __init__(self, backbone: Backbone, *, now_ms: Callable[[], int], plain: bool) -> None:
        """`plain`: whether addresses without TLS may be named at all."""
        self._backbone = backbone
        self._registry = backbone.registry
        self._now_ms = now_ms
        self._plain = plain

    async def create(self, tenant: str, url: str, types: tuple[str, ...], by: str) -> Hook:
        """A new hook, told of what is stored from now on; its secret is in it.

        Raises:
            Rejected: the address or a type is none, or there are too many hooks.
            Unavailable: it may be there.
        """
        self._check(url, types)
        if len(await self._registry.list(HOOK, tenant)) >= HOOKS_MAX:
            raise Rejected("too_many_hooks", f"a tenant has at most {HOOKS_MAX} webhooks")
        _, last = await self._backbone.log.bounds()
        hook = Hook(
            id=secrets.token_hex(ID_BYTES),
            tenant=tenant,
            url=url,
            types=types,
            incarnation=self._backbone.log.incarnation,
            seq=last + 1,
            created_at_ms=self._now_ms(),
            created_by=by,
            secret=f"whsec_{secrets.token_urlsafe(SECRET_BYTES)}",
        )
        data = hook.model_dump_json().encode()
        await self._registry.put(HOOK, tenant, hook.id, data, expected=0)
        return hook

    async def list(self, tenant: str = "*") -> list[Kept]:
        """The hooks of a tenant, or of all, oldest first, each with its place.

        Raises:
            Unavailable: the registry is away.
        """
        places = {entry.name: entry for entry in await self._registry.list(PLACE, tenant)}
        found = [
            _kept(hook, places.get(hook.id))
            for entry in await self._registry.list(HOOK, tenant)
            if (hook := _hook(entry)) is not None
        ]
        return sorted(found, key=lambda one: one.hook.created_at_ms)

    async def get(self, tenant: str, name: str) -> Kept | None:
        """One of them, as it is now.

        Raises:
            Unavailable: the registry is away.
        """
        entry = await self._registry.get(HOOK, tenant, name)
        hook = _hook(entry) if entry else None
        return None if hook is None else _kept(hook, await self._registry.get(PLACE, tenant, name))

    async def remove(self, tenant: str, name: str) -> Kept | None:
        """It is told nothing more, within seconds; as it was, if there was one.

        Raises:
            Unavailable: it may still be there.
        """
        there = await self.get(tenant, name) if TOKEN.fullmatch(name) else None
        if there is None:
            return None
        await self._registry.remove(HOOK, tenant, name)
        await self._registry.remove(PLACE, tenant, name)
        return there

    async def move(self, kept: Kept, place: Place) -> Kept:
        """Write its place anew, if nobody else has.

        Raises:
            Conflict: somebody has, or the hook is gone.
            Unavailable: it may be written.
        """
        hook = kept.hook
        data = place.model_dump_json().encode()
        revision = await self._registry.put(
            PLACE, hook.tenant, hook.id, data, expected=kept.revision
        )
        return Kept(hook=hook, place=place, revision=revision)

    async def enable(self, kept: Kept) -> Kept:
        """A hook that was disabled goes on from where it was.

        Raises:
            Conflict: somebody else changed it meanwhile.
            Unavailable: it may be on.
        """
        changes = {"disabled": "", "failing_since_ms": None, "failures": 0, "problem": ""}
        return await self.move(kept, kept.place.model_copy(update=changes))

    def _check(self, url: str, types: tuple[str, ...]) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        allowed = ("https", "http") if self._plain else ("https",)
        if not host or parts.scheme not in allowed or len(url) > URL_CHARS_MAX:
            needs = "" if self._plain else "; http:// needs PERITUS_WEBHOOK_ALLOW_CIDRS"
            raise Rejected("bad_url", f"a webhook's address begins with https://{needs}")
        if parts.username is not None or parts.password is not None or not url.isascii():
            message = "a webhook's address is ASCII and has no name or password in it"
            raise Rejected("bad_url", message)
        if len(types) > TYPES_MAX:
            raise Rejected("bad_filter", f"at most {TYPES_MAX} types")
        for one in types:
            if TYPE.fullmatch(one) is None:
                message = f"{one!r} is no type of event, such as run.completed or tool_call."
                raise Rejected("bad_filter", message)


def _is(kind: str, wanted: str) -> bool:
    if wanted.endswith("."):
        return kind.startswith(wanted)
    return kind == wanted or kind.rpartition(".v")[0] == wanted


def begun(hook: Hook) -> Kept:
    """A hook that was told nothing yet."""
    return Kept(hook=hook, place=Place(incarnation=hook.incarnation, seq=hook.seq))


def _kept(hook: Hook, entry: Entry | None) -> Kept:
    start = begun(hook)
    if entry is None:
        return start
    try:
        place = Place.model_validate_json(entry.data)
    except ValidationError:
        logger.warning("the place of webhook %s is of no use; it is begun anew", hook.id)
        place = start.place
    return Kept(hook=hook, place=place, revision=entry.revision)


def _hook(entry: Entry) -> Hook | None:
    try:
        return Hook.model_validate_json(entry.data)
    except ValidationError:
        logger.warning("webhook %s was written by another release and is left alone", entry.name)
        return None
