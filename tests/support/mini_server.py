"""An MCP server in a line of arguments: it needs nothing but the system's Python. Not the SDK's."""

import json
from typing import Any

CODE = """\
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    said = {"jsonrpc": "2.0", "id": asked["id"]}
    method, given = asked["method"], asked.get("params") or {}
    if method == "initialize":
        said["result"] = {
            "protocolVersion": given["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "mini", "version": VERSION},
        }
    elif method == "tools/list":
        said["result"] = {"tools": TOOLS}
    elif method == "tools/call":
        text = given["name"] + " " + json.dumps(given["arguments"], sort_keys=True)
        wrong = given["arguments"].get("fail", False)
        said["result"] = {"content": [{"type": "text", "text": text}], "isError": wrong}
    elif method == "ping":
        said["result"] = {}
    else:
        said["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(said), flush=True)
"""

SEARCH: dict[str, Any] = {
    "name": "search",
    "description": "Finds things.",
    "inputSchema": {
        "type": "object",
        "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
    },
    "annotations": {"readOnlyHint": True},
}
REMOVE: dict[str, Any] = {
    "name": "remove",
    "description": "Removes.",
    "inputSchema": {"type": "object"},
}


def mini_args(*tools: dict[str, Any], version: str = "1.0") -> list[str]:
    """The arguments of `python3` that make it such a server."""
    head = f"TOOLS = {list(tools)!r}\nVERSION = {version!r}\n"
    return ["-c", head + CODE]


def mini_skill(expert: str, name: str, *tools: dict[str, Any], version: str = "1.0") -> str:
    """The table of a skill whose server offers these tools; keys may follow it."""
    args = json.dumps(mini_args(*tools, version=version))
    return (
        f"[experts.{expert}.skills.{name}]\n"
        f'type = "mcpStdioSkill"\ncommand = "python3"\nargs = {args}\n'
    )
