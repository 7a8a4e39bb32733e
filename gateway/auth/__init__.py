"""Who may come in, and as whom: keys, tokens of an issuer, sessions. Not what they may then do."""

from gateway.auth.gate import Gate
from gateway.auth.means import Auth

__all__ = ["Auth", "Gate"]
