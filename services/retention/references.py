"""Which blobs stored bytes name, and which those name again. Not whether they are there.

An event names a blob by its digest, as a value of its own. Of all blobs only the manifests of
workspaces name further ones: a root its shards, a shard its packs.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, cast

import orjson

from domain.errors import IntegrityViolated
from eventlog.port import Blobs
from services.sandbox.snapshots.format import decode_root

ANY_DIGEST = re.compile(rb"[0-9a-f]{64}")
DIGEST = re.compile(r"[0-9a-f]{64}")

MANIFEST_KEYS = frozenset({"manifest", "restored"})
"""Under which names events hold the manifest of a workspace."""


CONTENT = "digest and size"
"""What stands for the name of a digest beside which a size stands: that is a `BlobRef`."""

NO_BLOBS = frozenset({"text", "prev", "hash", "request"})
"""Under which names values may look like digests, and are none of blobs."""


class Named(NamedTuple):
    """Digests that may be those of blobs. `contents` are, and `manifests` of workspaces."""

    digests: frozenset[str]
    contents: frozenset[str]
    manifests: frozenset[str]


def named_in(data: bytes) -> Named:
    """What an envelope or a command names, wherever it does.

    Raises:
        IntegrityViolated: it is not JSON.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"these {len(data)} bytes are not JSON: {error}"
        raise IntegrityViolated(msg) from error
    found = list(_walk(value, ("", "")))
    return Named(
        frozenset(digest for digest, _ in found),
        frozenset(digest for digest, (_, key) in found if key == CONTENT),
        frozenset(digest for digest, (above, _) in found if above in MANIFEST_KEYS),
    )


def like_digests(data: bytes) -> set[str]:
    """Everything in some bytes that looks like a digest: more than is named, never less."""
    return {found.decode() for found in ANY_DIGEST.findall(data)}


async def shards_of(blobs: Blobs, tenant: str, manifest: str) -> list[str]:
    """The digests of the shards of a manifest.

    Raises:
        Unavailable: BLOBS is away.
        IntegrityViolated: it is gone, damaged, or of a newer release.
    """
    return [shard.digest for shard in decode_root(await blobs.get(tenant, manifest)).shards]


async def packs_of(blobs: Blobs, tenant: str, shard: str) -> list[str]:
    """The digests of the packs of a shard.

    Raises:
        Unavailable: BLOBS is away.
        IntegrityViolated: it is gone, damaged, or of a newer release.
    """
    data = await blobs.get(tenant, shard)
    try:
        packs = orjson.loads(data)["packs"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        msg = f"blob {shard!r} is no part of a manifest: {error}"
        raise IntegrityViolated(msg) from error
    return [str(pack) for pack in packs]


Keys = tuple[str, str]
"""The names of a value's object and of the value in it."""


def _walk(value: object, keys: Keys) -> Iterator[tuple[str, Keys]]:
    if isinstance(value, str):
        if keys[1] not in NO_BLOBS and DIGEST.fullmatch(value):
            yield value, keys
    elif isinstance(value, dict):
        inside = cast("dict[str, object]", value)
        for name, inner in inside.items():
            is_content = name == "digest" and "size" in inside
            yield from _walk(inner, (keys[1], CONTENT if is_content else name))
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _walk(inner, keys)
