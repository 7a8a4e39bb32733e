"""How a receiver knows that a delivery is ours, and not an old one again. Not the delivery."""

import hashlib
import hmac

SIGNATURE, DELIVERY, EVENT = "Peritus-Signature", "Peritus-Delivery", "Peritus-Event"


def signature(secret: str, at_s: int, body: bytes) -> str:
    """The value of the header: the time, and the HMAC-SHA256 of time, dot and body."""
    signed = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={signed}"
