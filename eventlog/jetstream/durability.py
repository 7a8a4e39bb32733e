"""The durability classes, and the refusal of a server that is weaker. Not the check itself.

An ordinary client may ask `$SYS.REQ.USER.INFO`, and `$SYS.REQ.ACCOUNT.PING.CONNZ` of a cluster, and
gets the servers' tags with the answer. The tag `sync:always` is how an operator says, and an
embedded server is made to say, that `sync_interval: always` is set. A cluster also obeys placement
by tag; a single server (2.15.1) ignores it and creates a stream placed on a tag it does not have.
"""

from typing import Literal

from domain.errors import PeritusError

Durability = Literal["process", "os", "node"]
"""What a stored envelope survives: the server's end, its machine's crash, its machine's loss."""

SYNC_TAG = "sync:always"


class DurabilityTooWeak(PeritusError):
    """The server keeps less than the deployment asks for; the message says what to change."""
