"""Attacks by what is sent instead of arguments, and by what a definition file says.

What is asked of the policy and of backends is tried in `test_control.py`.
"""

import json
from pathlib import Path

import pytest

from domain.definition import Expert
from domain.ids import RunRef
from peritus.definitions import DefinitionError, load_definition
from tests.attacks.arena import RUN, Arena

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.mark.parametrize("tool", ["runOnHost", "shell", "sandbox.disable", "../exec", "exec\0", ""])
async def test_tool_that_is_not_there(attacked: Arena, tool: str) -> None:
    """Calls a tool that would be handy to have."""
    said = await attacked.call(tool, shell="touch ran")
    assert (said.failed, said.error) == (True, "unknown_tool")
    assert not (attacked.folder / "ran").exists()


@pytest.mark.parametrize(
    "arguments",
    ["", "null", "[]", '"exec"', "{", '{"shell": 1}', '{"shell": "touch ran", "timeout": -1}',
     '{"shell": "touch ran", "timeout": 1e99}', '{"shell": "true", "shell": "touch ran", "x": 1}',
     '{"command": ["touch", "ran"]}', '{"shell": "touch ran", "cwd": 7}',
     '{"shell": "touch ran", "env": {"A": 1}}', '{"shell": "touch ran\\ud800"}', "[" * 5000],
)  # fmt: skip
async def test_arguments_that_are_none(attacked: Arena, arguments: str) -> None:
    """Sends what a model may well send by accident, and a parser may choke on."""
    result = await attacked.raw(arguments)
    assert result.is_error
    assert "invalid_arguments" in str(result.content)
    assert not (attacked.folder / "ran").exists()


@pytest.mark.parametrize(
    "env",
    [
        {"A=B": "x"},
        {"": "x"},
        {"A\0B": "x"},
        {"A": "x\0y"},
        {"A": "x" * 200_000},
        {"A" * 200_000: "x"},
    ],
    ids=["assignment", "empty", "null-in-name", "null-in-value", "large", "large-name"],
)
async def test_variable_that_is_none(attacked: Arena, env: dict[str, str]) -> None:
    """Sets a variable that no program could have: said to the model, not to the operator."""
    said = await attacked.call("exec", shell="touch ran", env=env)
    assert said.failed
    assert said.error in {"invalid_arguments", "too_large"}
    assert not (attacked.folder / "ran").exists()


@pytest.mark.parametrize(
    "program", ["sh -c 'touch ran'", "touch ran; true", "$(touch ran)", "--args", "a\0b"]
)
async def test_program_that_is_a_line_of_shell(attacked: Arena, program: str) -> None:
    """Smuggles a line of shell, or an option of ours, where a program is named."""
    said = await attacked.call("exec", command=program)
    assert said.failed
    assert said.error in {"shell_syntax", "invalid_arguments"}
    assert not (attacked.folder / "ran").exists()


async def test_arguments_too_large_to_be_passed(attacked: Arena) -> None:
    """Sends more than a program can be started with, and more than may be typed to it."""
    for more in (
        {"args": ["x" * 3_000_000]},
        {"args": ["x"] * 100_000},
        {"stdin": "x" * 3_000_000},
    ):
        said = await attacked.call("exec", command="true", **more)
        assert (said.failed, said.error) == (True, "too_large")
    assert (await attacked.shell("echo fine")).output == "fine\n"


@pytest.mark.parametrize(
    "by",
    [RUN._replace(run="other"), RUN._replace(job="other"), RunRef("evil", "job", "run")],
    ids=["run", "job", "tenant"],
)
async def test_results_of_somebody_else(attacked: Arena, by: RunRef) -> None:
    """Names the call of another run, job or tenant, to read what it printed."""
    await attacked.shell("yes secret-of-this-run | head -n 20000")
    (_, call) = next(key for key in attacked.results if key[0] == RUN)
    assert not (await attacked.call("readResult", call=call)).failed
    said = await attacked.call("readResult", by, call=call)
    assert (said.failed, said.error) == (True, "no_result")
    assert "secret-of-this-run" not in json.dumps(said.answer)


# Definitions: what a file may say at all. No sandbox is needed.


def expert(folder: Path, text: str) -> Expert:
    path = folder / "perstack.toml"
    path.write_text(f'[experts.x]\ninstruction = "Work."\n{text}')
    return load_definition(path).definition.experts["x"]


@pytest.mark.parametrize(
    "line",
    ['backend = "none"', "privileged = true", 'user = "root"', 'mounts = ["/:/host"]',
     'network = "host"', "enabled = false", 'runtime = "runc"', 'devices = ["/dev/kvm"]',
     'capabilities = ["SYS_ADMIN"]', "seccomp = false", 'env = { LD_PRELOAD = "x" }'],
)  # fmt: skip
def test_definition_that_asks_for_a_weaker_sandbox_is_none(tmp_path: Path, line: str) -> None:
    with pytest.raises(DefinitionError, match="unknown key"):
        expert(tmp_path, f"[experts.x.sandbox]\n{line}\n")


@pytest.mark.parametrize(
    "domain",
    ["*", "*.*", "127.0.0.1", "[::1]", "169.254.169.254", "a b.com", "a.com/..", "a.com:22",
     "user@a.com", "xn--80ak6aa92e.com", "http://a.com", ".com", "2130706433", "a..com"],
)  # fmt: skip
def test_definition_that_asks_for_an_odd_host_is_none(tmp_path: Path, domain: str) -> None:
    """C16."""
    with pytest.raises(DefinitionError):
        expert(tmp_path, f"[experts.x.sandbox]\nallowedDomains = ['{domain}']\n")


@pytest.mark.parametrize("name", ["../KEY", "A-B", "A B", "A/B", "*", "A" * 200])
def test_definition_that_asks_for_an_odd_secret_is_none(tmp_path: Path, name: str) -> None:
    """C15."""
    with pytest.raises(DefinitionError, match="cannot name a secret"):
        expert(tmp_path, f'[experts.x.secrets."{name}"]\ndeliver = "env"\n')
