"""Writes sops files of JSON for tests, from the description of the format. Not what reads them.

It shares no code with what reads them, so that the two can only agree on the format itself. The
files in `tests/support/sops` were written by sops 3.11.0.
"""

import base64
import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FOLDER = Path(__file__).parent / "sops"
PYRAGE: Any = importlib.import_module("pyrage")  # it has no types
MODIFIED = "2026-01-02T03:04:05Z"


def identity(name: str = "identity.txt") -> str:
    """The identity that the files in the folder are for."""
    lines = (FOLDER / name).read_text().splitlines()
    return next(line for line in lines if line.startswith("AGE-SECRET-KEY-"))


def recipient(name: str = "identity.txt") -> str:
    """The recipient that belongs to it."""
    return str(PYRAGE.x25519.Identity.from_str(identity(name)).to_public())


def encrypted(key: bytes, text: str, bound_to: str, kind: str = "str") -> str:
    """One value as sops writes it."""
    nonce = os.urandom(32)
    sealed = AESGCM(key).encrypt(nonce, text.encode(), bound_to.encode())
    data, iv, tag = (base64.b64encode(one).decode() for one in (sealed[:-16], nonce, sealed[-16:]))
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:{kind}]"


def sealed_key(key: bytes, *recipients: str) -> list[dict[str, str]]:
    """The data key for recipients of age."""
    return [
        {
            "recipient": one,
            "enc": PYRAGE.encrypt(
                key, [PYRAGE.x25519.Recipient.from_str(one)], armored=True
            ).decode(),
        }
        for one in recipients
    ]


def sops_json(
    values: Mapping[str, str], own: Mapping[str, Any] | None = None, *, key: bytes = b""
) -> str:
    """A whole file; `own` replaces what the table `sops` says, None takes it away."""
    key = key or os.urandom(32)
    mac = hashlib.sha512("".join(values.values()).encode()).hexdigest().upper()
    table: dict[str, Any] = {
        "age": sealed_key(key, recipient()),
        "lastmodified": MODIFIED,
        "mac": encrypted(key, mac, MODIFIED),
        "unencrypted_suffix": "_unencrypted",
        "version": "3.11.0",
    } | dict(own or {})
    tree: dict[str, Any] = {name: encrypted(key, text, f"{name}:") for name, text in values.items()}
    tree["sops"] = {name: one for name, one in table.items() if one is not None}
    return json.dumps(tree, indent=2)
