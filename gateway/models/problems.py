"""What went wrong, as it is answered (RFC 9457). The codes are those of `gateway.problems`."""

from pydantic import BaseModel, ConfigDict


class FieldError(BaseModel):
    """A field or parameter that is wrong; never what it held."""

    field: str
    message: str


class ProblemAnswer(BaseModel):
    """What went wrong. More members may say more, by the code."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str
    title: str
    status: int
    code: str
    """For programs: it does not change."""
    detail: str
    """For people."""
    errors: list[FieldError] = []
