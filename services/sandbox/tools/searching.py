"""`grep`: a search that a model's expression cannot make endless. Not the search itself.

It runs in a helper process of ours, not in the sandbox: it needs no program in an image, and no
sandbox at all, so a run that only reads stays without one. It is not a thread, because nothing ends
a thread that Python's `re` is busy in.
"""

import json
import os
import stat

from domain.base_tools import Grep
from domain.needles import Needles
from domain.redaction import Redactor
from services.sandbox.capture import INLINE_BYTES_MAX
from services.sandbox.disk import READ_FLAGS, named_errors, shown, type_of
from services.sandbox.failures import Code, ToolError
from services.sandbox.globs import TooManyAlternatives, matcher
from services.sandbox.helper import helper
from services.sandbox.paths import STATE_FOLDER, relative_parts
from services.sandbox.search import CLIPPED, Request
from services.sandbox.tools.answers import Answer, read_on, result
from services.sandbox.tools.reading import CUT
from services.sandbox.workspace import Workspace
from services.secrets.cuts import piece
from services.worker.toolbox import ToolCall, ToolResult

SEARCH_S = 10
MODULE = "services.sandbox.search"


async def grep(
    workspace: Workspace, arguments: Grep, call: ToolCall, redactor: Redactor
) -> ToolResult:
    """Search, for SEARCH_S seconds at most; what was found until then is answered.

    Raises:
        ToolError: nothing to search, an expression that is none, or one that found nothing in time.
    """
    if arguments.glob is not None:
        try:
            matcher(arguments.glob)
        except TooManyAlternatives as error:
            raise ToolError(Code.INVALID_ARGUMENTS, f"argument 'glob': {error}") from None
    with (
        named_errors(arguments.path),
        workspace.opened(arguments.path, READ_FLAGS) as top,
    ):
        request, prefix = _request(workspace, arguments, top)
        found = _Found(prefix, redactor.in_text)
        timeout_s = min(SEARCH_S, call.timeout_ms / 1000)
        async with helper(MODULE, json.dumps(request).encode(), (top,)) as running:
            await running.hear(found.take, timeout_s)
    if not found.ended:
        found.cut = "time"
    return _answer(arguments, found, call)


def _request(workspace: Workspace, arguments: Grep, top: int) -> tuple[Request, str]:
    found = os.fstat(top)
    parts = relative_parts(arguments.path)
    is_file = stat.S_ISREG(found.st_mode)
    if not is_file and not stat.S_ISDIR(found.st_mode):
        message = f"{arguments.path!r} is a {type_of(found)}, nothing to search"
        raise ToolError(Code.NOT_A_FILE, message)
    request = Request(
        top=top,
        name="/".join(parts) if is_file else "",
        pattern=arguments.pattern,
        literal=arguments.literal is True,
        ignore_case=arguments.ignore_case is True,
        glob=arguments.glob or "",
        context=arguments.context or 0,
        hide=STATE_FOLDER if workspace.is_root(top) else "",
        seconds=SEARCH_S + 1,
    )
    return request, "" if is_file or not parts else "/".join(parts) + "/"


class _Found:
    """What the search has said so far, as lines of text."""

    def __init__(self, prefix: str, secrets: Needles) -> None:
        self._prefix = prefix
        self._secrets = secrets
        self.lines: list[str] = []
        self.matches = 0
        self.searched = 0
        self.skipped = 0
        self.cut = ""
        self.ended = False

    def take(self, said: object) -> None:
        match said:
            case [str(path), int(number), str(text), bool(is_match)]:
                name = shown(self._prefix + path).replace("\n", "\\n")
                mark = ":" if is_match else "-"
                self.lines.append(f"{name}{mark}{number}{mark}{self._shown(text)}\n")
                self.matches += is_match
            case {"searched": int(searched), "skipped": int(skipped), "cut": str(cut)}:
                self.searched, self.skipped, self.cut = searched, skipped, cut
                self.ended = True
            case {"refused": str(why)}:
                message = f"argument 'pattern' is no regular expression: {why}"
                raise ToolError(Code.INVALID_ARGUMENTS, message)
            case _:
                raise AssertionError(said)

    def _shown(self, text: str) -> str:
        """A line, or the part of one, without a part of a value: what is around it is not known."""
        before = CLIPPED if text.startswith(CLIPPED) else ""
        after = CLIPPED if text.endswith(CLIPPED) else ""
        part = text[len(before) : len(text) - len(after)]
        return f"{before}{piece(self._secrets, part)}{after}"


def _answer(arguments: Grep, found: _Found, call: ToolCall) -> ToolResult:
    if not found.ended and not found.lines:
        message = (
            f"nothing was found in {SEARCH_S} s and the search was ended; use a simpler pattern "
            "or literal, or narrow it with path or glob"
        )
        raise ToolError(Code.TOO_SLOW, message)
    whole = "".join(found.lines).encode("utf-8", "replace")
    answer: Answer = {"path": arguments.path, "matches": found.matches}
    full_output = None
    if len(whole) > INLINE_BYTES_MAX:
        full_output = whole
        cut = whole.rfind(b"\n", 0, INLINE_BYTES_MAX) + 1
        answer |= {"output": whole[:cut].decode(), "truncated": True, "more": read_on(call.call)}
    else:
        answer["output"] = whole.decode()
    if found.cut:
        answer |= {"truncated": True, "why": CUT[found.cut]}
    if found.ended:
        answer |= {"filesSearched": found.searched, "filesSkipped": found.skipped}
    return result(answer, full_output=full_output)
