"""An expert with one tool of the program, for tests of `peritus.api`. Not its script."""

DEFINITION = """\
[experts.clerk]
instruction = "Look things up."
provider = "scripted"
model = "clerk.toml"
[experts.clerk.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
[experts.clerk.skills.office]
type = "localSkill"
tools = ["lookUp"]
"""
