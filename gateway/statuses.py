"""What an operation may answer beside what was asked for, and what each status means."""

from collections.abc import Mapping

from gateway.contents import BINARY
from gateway.operations import JSON_TYPE, Operation
from gateway.parameters import Reading

PROBLEM_TYPE = "application/problem+json"

MEANINGS: Mapping[int, str] = {
    304: "It is what the client has.",
    400: "The body is not JSON.",
    401: "A valid credential is needed.",
    403: "The caller may not.",
    404: "It is not there, or is another tenant's.",
    408: "It took too long to come.",
    409: "It does not go together with the state of what is asked for.",
    413: "It is too large.",
    415: "It has another content type.",
    421: "The gateway does not answer under that host name.",
    422: "A parameter or a field is wrong: each is named.",
    429: "This caller asks too often.",
    500: "Something went wrong inside, or a stored history cannot be read.",
    503: "A part of the system is away, or a view is behind: try again.",
}


def statuses_of(one: Operation) -> frozenset[int]:
    """The statuses of an operation beside its own."""
    found = {421, 422, 500, 503, *one.problems}
    if not one.open:
        found |= {401, 403, 429}
    if "{" in one.path:
        found.add(404)
    if one.method == "POST":
        found |= {413, 415}
    if one.method in ("POST", "PUT", "DELETE"):
        found.add(403)
    if one.body is not None and one.body_media_type == JSON_TYPE:
        found.add(400)
    if issubclass(one.query, Reading):
        found.add(409)  # the position is of another life of the log
    if one.answer == BINARY:
        found.add(304)
    return frozenset(found)
