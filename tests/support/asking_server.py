"""An MCP server that asks in the middle of its calls, in a line of arguments. Not the SDK's."""

import json

CODE = """\
import json, sys
def say(**said):
    print(json.dumps({"jsonrpc": "2.0", **said}), flush=True)
FORM = {
    "type": "object",
    "properties": {"people": {"type": "integer", "description": "How many come"}},
    "required": ["people"],
}
ASKS = {
    "book": ("elicitation/create", {"message": "For how many?", "requestedSchema": FORM}),
    "poem": ("sampling/createMessage", {
        "messages": [{"role": "user", "content": {"type": "text", "text": "A line, please."}}],
        "systemPrompt": "You rhyme.",
        "maxTokens": 50,
    }),
}
call = None
for line in sys.stdin:
    heard = json.loads(line)
    if "method" not in heard:
        found = heard.get("result") or heard.get("error")
        text = json.dumps(found, sort_keys=True)
        say(id=call, result={"content": [{"type": "text", "text": text}], "isError": False})
    elif heard["method"] == "initialize":
        say(id=heard["id"], result={
            "protocolVersion": heard["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "asking", "version": "1.0"},
        })
    elif heard["method"] == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ASKS]
        say(id=heard["id"], result={"tools": tools})
    elif heard["method"] == "tools/call":
        call = heard["id"]
        method, params = ASKS[heard["params"]["name"]]
        say(id="q1", method=method, params=params)
    elif "id" in heard:
        say(id=heard["id"], result={})
"""


def asking_skill(expert: str, *, sampling: str = "deny") -> str:
    """The table of a skill with the tools `book`, which asks a person, and `poem`, a model."""
    return (
        f"[experts.{expert}.skills.trips]\n"
        f'type = "mcpStdioSkill"\ncommand = "python3"\nargs = {json.dumps(["-c", CODE])}\n'
        f'sampling = "{sampling}"\n'
    )
