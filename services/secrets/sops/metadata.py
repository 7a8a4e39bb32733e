"""What sops notes about a file: for whom its key is encrypted, its code. Not the key itself."""

from typing import NamedTuple

from services.secrets.sops.tree import METADATA, Branch, Leaf, Node, Refused

RECIPIENTS_MAX = 100
"""How many copies of the key are tried, a count."""

OTHER_KEYS = ("kms", "gcp_kms", "azure_kv", "hc_vault", "hckms", "pgp")


class Sealed(NamedTuple):
    """The data key as it is encrypted for one recipient of age."""

    recipient: str
    key: str


class Metadata(NamedTuple):
    """`mac` is encrypted like a value; `modified` is bound to it."""

    sealed: tuple[Sealed, ...]
    mac: str
    modified: str
    mac_only_encrypted: bool


def metadata_of(tree: Branch) -> Metadata:
    """The notes in a tree.

    Raises:
        Refused: there are none, or the file is not for age.
    """
    own = tree.get(METADATA)
    if not isinstance(own, dict):
        message = "sops did not encrypt it: it has no `sops` table"
        raise Refused(message)
    if any(name.startswith("key_groups") for name in own):
        message = "its key is split between groups (Shamir), which is not supported: use one group"
        raise Refused(message)
    return Metadata(
        sealed=_sealed(own),
        mac=_text(own, "mac"),
        modified=_text(own, "lastmodified"),
        mac_only_encrypted=_said(own.get("mac_only_encrypted")).lower() == b"true",
    )


def _sealed(own: Branch) -> tuple[Sealed, ...]:
    listed = own.get("age")
    found = tuple(
        Sealed(_text(one, "recipient"), _text(one, "enc"))
        for one in (listed if isinstance(listed, tuple) else ())
        if isinstance(one, dict)
    )
    if not found:
        others = ", ".join(name for name in OTHER_KEYS if _any(own.get(name))) or "nobody"
        message = (
            f"it is encrypted for {others}, and only age is supported: add a recipient of age to "
            ".sops.yaml and run `sops updatekeys`"
        )
        raise Refused(message)
    if len(found) > RECIPIENTS_MAX:
        message = f"it has {len(found)} recipients; at most {RECIPIENTS_MAX} are supported"
        raise Refused(message)
    return found


def _any(node: Node | None) -> bool:
    return isinstance(node, tuple) and len(node) > 0


def _text(own: Branch, name: str) -> str:
    node = own.get(name)
    if not isinstance(node, Leaf) or not node.text:
        message = f"its `sops` table has no {name!r}"
        raise Refused(message)
    return node.text


def _said(node: Node | None) -> bytes:
    return node.said if isinstance(node, Leaf) else b""
