"""A server made with the SDK, that does what a server may do. Started as a program of its own."""

import asyncio
import base64
import logging
import sys
from typing import Any

import mcp_types as types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resources import FunctionResource
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from pydantic import BaseModel

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

signed_in: list[str] = []
server = MCPServer("friendly", version="2.1", log_level="ERROR")


class Name(BaseModel):
    name: str


class Sum(BaseModel):
    total: int


@server.tool(annotations=types.ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> Sum:
    """Adds two numbers."""
    return Sum(total=a + b)


@server.tool()
async def greet(ctx: Context[Any, Any]) -> str:
    """Asks for a name and greets."""
    answer = await ctx.elicit("Who are you?", Name)
    return f"Hello {answer.data.name}" if answer.action == "accept" else f"you {answer.action}"


@server.tool()
async def greet_in_parts(ctx: Context[Any, Any]) -> str | types.InputRequiredResult:
    """Asks for a name as the newest protocol has it: as a part of its answer."""
    if ctx.input_responses is None:
        params = types.ElicitRequestFormParams(
            message="Who are you?", requested_schema=Name.model_json_schema()
        )
        return types.InputRequiredResult(
            input_requests={"who": types.ElicitRequest(params=params)}, request_state="half way"
        )
    answer = ctx.input_responses["who"]
    assert isinstance(answer, types.ElicitResult)
    return f"Hello {(answer.content or {})['name']}, {ctx.request_state}"


@server.tool()
async def sign_in(ctx: Context[Any, Any]) -> str:
    """Has a person open an address."""
    answer = await ctx.elicit_url("Sign in.", "https://example.org/in", "e1")
    return f"you {answer.action}"


@server.tool()
async def needs_sign_in(ctx: Context[Any, Any]) -> str:
    """Fails until a person has opened an address."""
    signed_in.append(ctx.request_id)
    if len(signed_in) == 1:
        link = types.ElicitRequestURLParams(
            message="Sign in first.", url="https://example.org/first", elicitation_id="e2"
        )
        raise UrlElicitationRequiredError([link])
    return "signed in"


@server.tool()
async def poem(ctx: Context[Any, Any]) -> str:
    """Has a model write something."""
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text="A line, please.")
    )
    try:
        said = await ctx.session.create_message([message], max_tokens=50)  # pyright: ignore[reportDeprecated]
    except MCPError as error:
        return f"no poem: {error}"
    return f"{said.model}: {said.content}"


@server.tool()
async def where(ctx: Context[Any, Any]) -> str:
    """Says which folder it is shown."""
    found = await ctx.session.list_roots()  # pyright: ignore[reportDeprecated]
    return ", ".join(str(root.uri) for root in found.roots)


@server.tool()
async def steps(ctx: Context[Any, Any]) -> str:
    """Tells how it gets on."""
    await ctx.report_progress(1, 2, "half way")
    await ctx.info("a note")  # pyright: ignore[reportDeprecated]
    sys.stderr.write("a word on stderr\n")
    return "done"


@server.tool()
async def waits() -> str:
    """Waits until it is cancelled, and says so on stderr."""
    sys.stderr.write("waiting\n")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        sys.stderr.write("cancelled\n")
        raise
    return "never"


@server.tool()
def picture() -> list[types.ContentBlock]:
    """Returns an image, a sound, a link and an embedded text."""
    image = base64.b64encode(PNG).decode()
    return [
        types.ImageContent(type="image", data=image, mime_type="image/png"),
        types.AudioContent(
            type="audio", data=base64.b64encode(b"RIFF").decode(), mime_type="audio/wav"
        ),
        types.ResourceLink(type="resource_link", uri="note://1", name="a note"),
        types.EmbeddedResource(
            type="resource",
            resource=types.TextResourceContents(
                uri="note://2", text="inside", mime_type="text/plain"
            ),
        ),
    ]


@server.tool()
def fails() -> str:
    """Fails."""
    msg = "no such thing"
    raise ValueError(msg)


@server.prompt()
def review(code: str, tone: str = "kind") -> str:
    """Asks for a review."""
    return f"Review this in a {tone} way: {code}"


@server.resource("note://{number}")
def note(number: str) -> str:
    """A note by its number."""
    return f"note {number}"


server.add_resource(
    FunctionResource.from_function(lambda: "all of it", uri="note://all", name="all")
)

if __name__ == "__main__":
    logging.disable()
    server.run()
