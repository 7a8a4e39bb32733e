"""A project whose experts ask people, and what they say. Not the tests."""

import json
from typing import Any

from tests.e2e.cli_project import Outcome, Project, Started, scripted

DEFINITION = """\
[experts.clerk]
description = "Writes."
instruction = "Write."
[experts.clerk.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
[experts.clerk.skills.ask]
type = "interactiveSkill"
[experts.clerk.skills.ask.tools.question]
description = "Ask the person."
inputJsonSchema = '{"type":"object","properties":{"text":{"type":"string"}}}'

[experts.lead]
description = "Leads."
instruction = "Lead."
delegates = ["clerk"]

[[policy]]
verdict = "ask"
tool = "exec"
reason = "commands are looked at first"
"""

QUESTION = """\
[[reply]]
text = "I ask."
[[reply.call]]
tool = "question"
arguments = { text = "Which colour?" }
[[reply]]
text = "Blue it is."
expect = "dark blue"
"""


def exec_call(word: str) -> str:
    """A call that writes a word into a file."""
    return (
        "[[reply.call]]\n"
        'tool = "exec"\n'
        f'arguments = {{ command = "bash", args = ["-c", "echo {word} >> said"] }}\n'
    )


COMMAND = f"""\
[[reply]]
text = "I write."
{exec_call("hi")}
[[reply]]
text = "Written."
"""

TWO_COMMANDS = f"""\
[[reply]]
text = "I write twice."
{exec_call("one")}
{exec_call("two")}
[[reply]]
text = "Written."
expect = ["not this one", "exitCode"]
"""

LEADING = f"""\
[[experts.lead.reply]]
text = "Write for me."
[[experts.lead.reply.call]]
tool = "clerk"
arguments = {{ query = "Write it." }}
[[experts.lead.reply]]
text = "It is written."
[[experts.clerk.reply]]
text = "I write."
{exec_call("hi").replace("[[reply", "[[experts.clerk.reply")}
[[experts.clerk.reply]]
text = "Written."
"""


def begin(project: Project, script: str, *words: str, expert: str = "clerk") -> Started:
    """Begin a run of the job `one`."""
    return project.start("run", expert, "Go", *scripted(script), "--job", "one", *words)


def waiting(project: Project) -> list[dict[str, Any]]:
    """What `peritus waiting` prints."""
    ended = project.peritus("waiting", "--json")
    assert ended.code == 0, ended.said
    return [json.loads(line) for line in ended.out.splitlines()]


def types_of(outcome: Outcome) -> list[str]:
    """The types of the events that were printed."""
    return [line["event"]["type"] for line in outcome.events]
