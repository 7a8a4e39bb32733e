"""What makes two requests one: the key that a client gives them. Not what is done only once."""

from starlette.requests import Request

from gateway.problems import Problem

KEY_HEADER = "idempotency-key"
KEY_CHARS_MAX = 256


def key_of(request: Request) -> str | None:
    """The key of a request; None: it has none.

    Raises:
        Problem: it is empty or too long.
    """
    key = request.headers.get(KEY_HEADER)
    if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
        detail = f"The Idempotency-Key must have 1 to {KEY_CHARS_MAX} characters."
        raise Problem(422, "bad_key", detail)
    return key
