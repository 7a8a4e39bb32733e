"""A user for each workspace of our own, so that root's sandboxes are not all the same user's.

Bubblewrap runs as the owner of the workspace, so whoever makes one gives it to this user first.
"""

import hashlib

OWN_USERS = range(200_000, 265_536)
"""The users of workspaces of our own."""


def user_for(key: str, users: range) -> int:
    """The user of a workspace, always the same for one key; also the number of its group.

    Two keys may share a user, the less likely the longer the range: this is a second wall, behind
    the namespaces, and needs no register that could be lost.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return users[int.from_bytes(digest) % len(users)]
