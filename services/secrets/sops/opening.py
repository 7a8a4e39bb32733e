"""Decrypts the values of a sops file and proves that none was changed. Not where keys come from.

Written from the public description of the format: "Encryption protocol" in the README of sops
(https://github.com/getsops/sops), and `aes/cipher.go`, `sops.go` and `stores/` there. In short:

- A value is `ENC[AES256_GCM,data:..,iv:..,tag:..,type:..]` in base64; its additional data are the
  names that lead to it, each with a colon after it.
- The code over the file is the SHA-512 of all values in order, each as text, in upper-case hex. It
  is encrypted like a value; its additional data are the time of the last change.
- With `mac_only_encrypted` only encrypted values count, and 32 fixed bytes come before them.

A value is taken for encrypted when it looks so. The rules of sops about which ones are to be
(suffixes, patterns) need not be known for that: a value that was put in the clear, or one that was
taken away, changes the code.
"""

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

from services.secrets.sops.metadata import Metadata
from services.secrets.sops.tree import METADATA, Branch, Leaf, Node, Refused, leaves

KEY_BYTES = 32
TAG_BYTES = 16

ENCRYPTED = re.compile(r"ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:([^,\]]+)\]")
LIKE_ENCRYPTED = "ENC["

KINDS = frozenset({"str", "bytes", "int", "float", "bool", "time"})
"""The types of values that are known. A comment is no value, and counts for nothing."""

ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
"""What comes before all values in the code with `mac_only_encrypted`."""


class Opened(NamedTuple):
    """A value that was encrypted."""

    data: bytes
    kind: str

    @property
    def text(self) -> str:
        """The value as text.

        Raises:
            Refused: it is none.
        """
        try:
            text = self.data.decode()
        except UnicodeDecodeError:
            message = "a value in it is no text"
            raise Refused(message) from None
        return text.lower() if self.kind == "bool" else text

    def __repr__(self) -> str:
        return f"Opened({self.kind})"


def open_all(tree: Branch, metadata: Metadata, key: bytes) -> dict[str, Opened | Node]:
    """Everything at the top level: what was encrypted is opened, the rest as it is.

    Raises:
        Refused: a value was changed, moved, added or taken away, or is of a kind that is not known.
    """
    if len(key) != KEY_BYTES:
        message = f"its key has {len(key)} bytes, not {KEY_BYTES}"
        raise Refused(message)
    code = hashlib.sha512(ONLY_ENCRYPTED if metadata.mac_only_encrypted else b"")
    found: dict[str, Opened | Node] = {}
    for name, node in tree.items():
        if name == METADATA:
            continue
        found[name] = node
        for path, leaf in leaves(node, (name,)):
            opened = _opened(key, path, leaf)
            if opened is not None:
                code.update(opened.data)
                if isinstance(node, Leaf):
                    found[name] = opened
            elif not metadata.mac_only_encrypted:
                code.update(leaf.said)
    expected = _decrypted(key, metadata.mac, metadata.modified, "its code over all values").data
    if not hmac.compare_digest(expected, code.hexdigest().upper().encode()):
        message = (
            "its values are not those that sops wrote (MAC mismatch): one was changed, added or "
            "removed by something else; take an older version, or encrypt it anew"
        )
        raise Refused(message)
    return found


def _opened(key: bytes, path: str, leaf: Leaf) -> Opened | None:
    if leaf.text is None or not leaf.text.startswith(LIKE_ENCRYPTED):
        return None
    return _decrypted(key, leaf.text, path, f"the value of {path.removesuffix(':')!r}")


def _decrypted(key: bytes, text: str, bound_to: str, what: str) -> Opened:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - slow, and seldom needed
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    parts = ENCRYPTED.fullmatch(text)
    if parts is None:
        message = f"{what} is not encrypted in a way that is known (AES256_GCM)"
        raise Refused(message)
    kind = parts[4]
    if kind not in KINDS:
        message = f"{what} is of type {kind!r}; known are {', '.join(sorted(KINDS))}"
        raise Refused(message)
    try:
        data, nonce, tag = (base64.b64decode(part, validate=True) for part in parts.groups()[:3])
        if len(tag) == TAG_BYTES:
            aad = bound_to.encode("utf-8", "surrogatepass")
            return Opened(AESGCM(key).decrypt(nonce, data + tag, aad), kind)
    except (InvalidTag, ValueError):  # also of base64
        pass
    message = f"{what} was changed, moved or encrypted with another key"
    raise Refused(message)
