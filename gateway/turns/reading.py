"""Bodies whose models are other people's: read and checked, refused as ours are. Not the models."""

from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from gateway.bodies import field_errors
from gateway.problems import Problem

BYTES_MAX = 16 * 1024 * 1024
"""These clients send the whole conversation with every turn."""

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_model(request: Request, kind: type[ModelT]) -> ModelT:
    """The body of a request.

    Raises:
        Problem: it is too large, not JSON, or not what is asked for.
    """
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > BYTES_MAX:
            raise Problem(413, "too_large", f"The body may have {BYTES_MAX} bytes.")
    try:
        raw: object = orjson.loads(bytes(data))
    except orjson.JSONDecodeError:
        raise Problem(400, "bad_json", "The body is not valid JSON.") from None
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise field_errors(kind, error, what="field") from None
