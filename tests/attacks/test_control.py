"""Attacks on who decides: a weaker sandbox, more rights, or what belongs to somebody else.

What commands and tools meet is tried on every backend; what the policy, the journal and the
placement decide before a backend is asked, on one. Not the backends' own self-tests.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import pytest

from domain.commands import StartRun
from domain.content import TextPart
from domain.definition import BASE_SKILL
from domain.events import ToolCallEnded
from domain.ids import RunRef
from domain.record import canonical
from domain.sandbox import GIB, MIB, Delivery, SandboxLimits, SandboxSettings, SecretGrant
from domain.tools import Lane, Safety
from domain.work import CallToolWork
from peritus.backends import operator_policy
from peritus.settings import Settings
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.policy import OperatorPolicy
from services.sandbox.port import Backend
from services.sandbox.select import Wanted, choose_backend
from tests.attacks.arena import Arena
from tests.contract.sandbox_backends import processes_with
from tests.support.cluster import asks
from tests.support.service import (
    JOB,
    Line,
    Place,
    Yard,
    crew,
    exec_arguments,
    places,
    plays,
    said,
    sh,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

# A tool's arguments, variables and files that ask for a weaker sandbox, on every backend.

WISHES: dict[str, object] = {
    **dict.fromkeys(("backend", "sandbox", "network", "seccomp", "runtime"), "none"),
    **dict.fromkeys(("privileged", "dangerouslyDisableSandbox", "bypass"), True),
    **dict.fromkeys(("user", "uid", "expert", "run", "image", "workspace"), "root"),
    "mounts": [{"source": "/", "target": "/workspace/host"}],
    "allowedDomains": ["*"],
    "limits": {"memory_bytes": 1 << 50},
    "secrets": ["ANTHROPIC_API_KEY"],
}


@pytest.mark.parametrize("tool", ["exec", "startProcess"])
async def test_arguments_that_ask_for_a_weaker_sandbox(attacked: Arena, tool: str) -> None:
    """Adds an argument for each thing that could be weaker: nothing is run."""
    for name, wish in WISHES.items():
        answer = await attacked.call(tool, shell="touch ran", **{name: wish})
        assert (answer.failed, answer.error) == (True, "invalid_arguments"), name
        assert f"unknown argument '{name}'" in str(answer.answer["message"])
    assert not (attacked.folder / "ran").exists()
    attacked.unharmed()


POSTURE = """
print('ids', os.getresuid(), os.getresgid(), os.getgroups())
with contextlib.suppress(PermissionError):  # without a root of its own it has no /proc
    status = dict(line.split(':', 1) for line in open('/proc/self/status'))
    words = ('CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'NoNewPrivs', 'Seccomp')
    print([status[word].split() for word in words])
    for line in sorted(' '.join(one.split()[3:6]) for one in open('/proc/self/mountinfo')):
        print('mount', line)
    print('interfaces', sorted(name for _, name in socket.if_nameindex()))
for name in sorted(name for name in dir(resource) if name.startswith('RLIMIT_')):
    print(name, resource.getrlimit(getattr(resource, name)))
print('variables', sorted(name for name in os.environ if name not in ('SHLVL', '_', 'OLDPWD')))
print('where', os.getcwd(), sys.executable, os.environ['PATH'], os.environ['HOME'])
"""


async def posture(attacked: Arena) -> list[str]:
    """What a command of this sandbox is: its user, rights, mounts, network, limits, variables."""
    told = await attacked.python(POSTURE)
    assert "over" in told.output, told.output
    return re.sub(r"[0-9a-f]{64}", "<container>", told.output).splitlines()


LEADING = (
    "LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT PATH HOME BASH_ENV ENV SHELL PYTHONPATH PYTHONSTARTUP "
    "PYTHONHOME NODE_OPTIONS NODE_PATH PERL5LIB RUBYLIB DYLD_INSERT_LIBRARIES ld_preload"
)
VARIABLES = dict.fromkeys(LEADING.split(), "/workspace/evil")


async def test_variables_that_ask_for_a_weaker_sandbox(attacked: Arena) -> None:
    """Sets what programs are led by, and our own settings: the first are refused, said so."""
    ours = {
        "PERITUS_SANDBOX": "landlock",
        "PERITUS_EGRESS_DOMAINS": "*",
        "DOCKER_HOST": "unix:///x",
    }
    before = await posture(attacked)
    answer = await attacked.call("exec", shell="env", env={**VARIABLES, **ours})
    assert set(answer.answer["ignoredEnv"]) == set(VARIABLES)
    assert "/workspace/evil" not in answer.output
    assert await posture(attacked) == before
    attacked.unharmed()


SCRIPT = "#!/bin/sh\ntouch /workspace/ran-script; export EVIL=1\n"
FILES = {
    **dict.fromkeys((".bashrc", ".bash_profile", ".profile", ".bash_env", ".bash_login"), SCRIPT),
    **dict.fromkeys(("bwrap", "bash", "sh", "python3", "env", "docker", "prlimit"), SCRIPT),
    "evil": SCRIPT,
    "perstack.toml": '[experts.boss]\ninstruction = "x"\n[experts.boss.sandbox]\nimage = "x"\n',
    ".env": "PERITUS_SANDBOX=landlock\nPERITUS_EGRESS_DOMAINS=*\nLD_PRELOAD=/workspace/evil.so\n",
    ".npmrc": "script-shell=/workspace/evil\n",
    "sitecustomize.py": "raise SystemExit('evil')\n",
    ".gitconfig": "[core]\n\tfsmonitor = touch /workspace/ran-git\n",
    ".ripgreprc": "--pre=/workspace/evil\n--follow\n",
    ".docker/config.json": '{"currentContext": "evil"}',
    "ld.so.preload": "/workspace/evil.so\n",
}


@pytest.fixture
def littered(attacked: Arena) -> Generator[Arena]:
    """A workspace full of files that programs are led by."""
    made = [attacked.folder / name for name in FILES]
    for path, text in zip(made, FILES.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    yield attacked
    for path in made:
        path.unlink(missing_ok=True)


async def test_files_that_ask_for_a_weaker_sandbox(
    attacked: Arena, request: pytest.FixtureRequest
) -> None:
    """Fills the workspace with configuration: the next call, and the next sandbox, are the same."""
    before = await posture(attacked)
    littered: Arena = request.getfixturevalue("littered")
    assert await posture(littered) == before
    await littered.anew()
    assert await posture(littered) == before
    assert (await littered.shell("echo ${EVIL-none}")).output == "none\n"
    assert list(littered.folder.glob("ran-*")) == []
    littered.unharmed()


MODULE = "import pathlib\npathlib.Path({canary!r}).write_text('pwned')\n"


async def test_modules_and_settings_for_what_we_run_outside(littered: Arena) -> None:
    """Plants modules, and settings of ripgrep, for the programs that serve tools outside."""
    names = ("sitecustomize", "re", "json", "pypdf", "services", "domain", "encodings", "typing")
    planted = [littered.folder / f"{name}.py" for name in names]
    for path in planted:
        path.write_text(MODULE.format(canary=str(littered.outside.canary)))
    (littered.folder / "d.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n")
    found = await littered.call("grep", pattern="pathlib")
    assert not found.failed
    await littered.call("readPdfFile", path="d.pdf")
    littered.unharmed()
    for path in (*planted, littered.folder / "d.pdf"):
        path.unlink(missing_ok=True)


async def test_cancel_storm(attacked: Arena) -> None:
    """C10: starts thirty calls at once and takes all of them back, over and over."""
    word = f"storm-{attacked.outside.token}"
    for round_ in range(2):
        async with asyncio.TaskGroup() as tasks:
            begun = [
                tasks.create_task(
                    attacked.call("exec", shell=f"trap '' TERM; : {word}; sleep 1000 & sleep 1000")
                )
                for _ in range(30)
            ]
            if round_:  # in the first round before anything of them runs
                await until("the storm to rise", lambda: seen(word))
            for task in begun:
                task.cancel()
        assert all(task.cancelled() for task in begun)
        assert processes_with(word) == []
    assert (await attacked.shell("echo fine")).output == "fine\n"
    attacked.unharmed()


async def seen(word: str) -> bool:
    return bool(processes_with(word))


# What is decided before a backend is asked.


@pytest.fixture
def place() -> Generator[Place]:
    with places("a") as (made,):
        yield made


class Wish(NamedTuple):
    """What a definition asks for, and a word of the refusal."""

    name: str
    settings: SandboxSettings
    says: str


OPERATOR = OperatorPolicy(
    limits=SandboxLimits(open_files=128, file_bytes=MIB, processes=40, memory_bytes=256 * MIB),
    images=("allowed@sha256:" + "a" * 64,),
    egress=("good.test",),
    deliveries=("egress", "env"),
    never=("ANTHROPIC_API_KEY",),
)


def grant(name: str, deliver: Delivery = "env", *hosts: str) -> SandboxSettings:
    secret = SecretGrant(name=name, deliver=deliver, hosts=hosts)
    return SandboxSettings(allowed_domains=hosts, secrets=(secret,))


WANTED = [
    Wish("image", SandboxSettings(image="evil@sha256:" + "b" * 64), "PERITUS_SANDBOX_IMAGES"),
    Wish("image-by-tag", SandboxSettings(image="allowed:latest"), "PERITUS_SANDBOX_IMAGES"),
    Wish("host", SandboxSettings(allowed_domains=("evil.test",)), "PERITUS_EGRESS_DOMAINS"),
    Wish("suffix", SandboxSettings(allowed_domains=("good.test.evil.test",)), "may not reach"),
    Wish("model-key", grant("ANTHROPIC_API_KEY"), "never enter a sandbox"),
    Wish("model-key-out", grant("ANTHROPIC_API_KEY", "egress", "good.test"), "never enter"),
    Wish("delivery", grant("KEY", "file"), "PERITUS_SECRET_DELIVERY"),
    Wish("guessed-secret", grant("KEY2"), "is not set"),
]


@pytest.mark.parametrize("wish", WANTED, ids=lambda one: one.name)
async def test_definition_that_asks_for_more_than_it_may(place: Place, wish: Wish) -> None:
    """Every call is answered with why; nothing runs, and no sandbox is made."""
    yard = Yard(crew(wish.settings), plays(boss=[sh("touch ran; env"), "done"]))
    yard.operator, yard.secrets = OPERATOR, {"KEY": "value-of-key", "ANTHROPIC_API_KEY": "sk-model"}
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
        (ended,) = await yard.outcomes()
    assert ended.outcome == "failed"
    assert json.loads(said(ended))["error"] == "unavailable"
    assert wish.says in said(ended)
    assert not (place.workspace() / "ran").exists()
    assert [backend.opened for backend in yard.backends] == [0] * len(yard.backends)
    told = "".join(map(str, await yard.events()))
    assert "value-of-key" not in told
    assert "sk-model" not in told


async def test_limits_above_the_operators(place: Place) -> None:
    """Asks for more of everything, and gets what the operator allows."""
    most = SandboxLimits(
        open_files=1_000_000, file_bytes=900 * GIB, processes=100_000, memory_bytes=900 * GIB
    )
    yard = Yard(crew(SandboxSettings(limits=most)), plays(boss=[asks(("exec", ULIMITS)), "done"]))
    yard.operator = OPERATOR
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
        (ended,) = await yard.outcomes()
    assert json.loads(said(ended))["output"].split() == ["128", "1024"]


ULIMITS = '{"shell": "ulimit -n; ulimit -f"}'


async def test_definition_that_asks_for_our_own_token(place: Place) -> None:
    """The token of the store is a variable of this process, and so a secret by that name."""
    yard = Yard(crew(grant("PERITUS_NATS_TOKEN")), plays(boss=[sh("touch ran"), "done"]))
    yard.operator = operator_policy(Settings())
    yard.secrets = {"PERITUS_NATS_TOKEN": "token-of-the-store"}
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.rested()
    assert not (place.workspace() / "ran").exists()


async def test_no_sandbox_and_a_model_that_insists(place: Place) -> None:
    """Nothing is run without a sandbox, by whatever tool; never a fallback."""
    tries = asks(
        ("exec", exec_arguments("touch ran")),
        ("startProcess", '{"shell": "touch ran"}'),
        ("writeTextFile", '{"path": "ran", "text": "x"}'),
        ("exec", '{"shell": "touch ran", "env": {"PERITUS_SANDBOX": "landlock"}}'),
    )
    yard = Yard(crew(), plays(boss=[tries, tries, "done"]))
    yard.refusal = "no sandbox (docker: gone; bubblewrap: does not hold)"
    async with yard.sandboxed("e1", place):
        await yard.begin()
        await yard.reached("the end", lambda state: bool(state.expert) and state.at_rest)
        ended = await yard.outcomes()
    assert len(ended) == 8
    assert {one.outcome for one in ended} == {"failed"}
    assert all("does not hold" in said(one) for one in ended)
    assert not place.workspace().exists()


ALLOW_EVERYTHING = b"\x06\x00\x00\x00\x00\x00\xff\x7f"  # a filter of one instruction


@pytest.mark.parametrize("wanted", ["auto", "docker", "bubblewrap"])
async def test_backend_that_is_missing_or_does_not_hold(wanted: Wanted) -> None:
    """The engine is away, and bubblewrap filters nothing: refused, the degraded tier not tried."""
    made: list[str] = []
    with tempfile.TemporaryDirectory(prefix="peritus-state-") as state:

        def weak() -> Backend:
            made.append("bubblewrap")
            backend = BubblewrapBackend(Path(state))
            backend.seccomp = ALLOW_EVERYTHING
            return backend

        def degraded() -> Backend:
            made.append("landlock")
            return BubblewrapBackend(Path(state))

        engine = DockerSettings(image="none", host="unix:///nowhere/docker.sock")
        make = {"docker": lambda: DockerBackend(engine), "bubblewrap": weak, "landlock": degraded}
        with pytest.raises(SandboxUnavailable, match="nothing is run without a sandbox"):
            await choose_backend(wanted, make)
    assert made == ([] if wanted == "docker" else ["bubblewrap"])


def test_settings_are_not_read_from_a_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peritus is started in a workspace whose `.env` and settings files want a weaker sandbox."""
    before = Settings()
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert Settings() == before


# What belongs to others.

NOTHING_RAN = ("failed", "refused")

OWNER: list[Line] = [
    sh("echo mine > own"),
    asks(
        ("startProcess", '{"shell": "echo owned-output; exec sleep 1000"}'),
        ("exec", '{"shell": "seq -f owned-%06g 20000"}'),
    ),
    "done",
]


def thief(place: Place) -> list[tuple[str, dict[str, str]]]:
    """Names everything of the owner that has a name: calls, processes, runs, files."""
    folder = place.workspace(JOB)
    paths = (
        "../job1/own",
        "../../acme/job1/own",
        str(folder / "own"),
        f"/proc/self/root{folder}/own",
    )
    runs = ("job1", "helper", "job1.helper", "../acme/job1", "../job1.helper", "", ".", "a/../job1")
    return [
        ("readResult", {"call": "c2-1"}),
        ("readResult", {"call": '"},{"call":"c2-1'}),
        *((tool, {"handle": "p-c2-0"}) for tool in ("readProcess", "stopProcess")),
        ("writeProcess", {"handle": "p-c2-0", "text": "x"}),
        *(("readTextFile", {"path": path}) for path in paths),
        *(("writeTextFile", {"path": path, "text": "stolen"}) for path in paths),
        *(("mergeWorkspace", {"run": run, "onConflict": "theirs"}) for run in runs),
        *(("exec", {"shell": f"cat {path}"}) for path in paths),
        ("exec", {"shell": f"ls {place.state}"}),
        ("exec", {"shell": f"echo '{{}}' >> {place.state}/journal/e1.jsonl"}),
        ("exec", {"shell": f"rm -rf {place.folder}/* && ls {place.folder}/workspaces"}),
    ]


@pytest.mark.parametrize(
    "ref", [RunRef("evil", "job1", "job1"), RunRef("acme", "job2", "job2")], ids=["tenant", "job"]
)
async def test_what_another_job_or_tenant_has(place: Place, ref: RunRef) -> None:
    """Names calls, processes, runs and files of a job on the same worker: none of it is there."""
    tries = thief(place)
    asked = asks(*((tool, json.dumps(arguments)) for tool, arguments in tries))
    helper, isolated = JOB._replace(run="helper"), SandboxSettings(workspace="isolated")
    experts = crew(owner=SandboxSettings(), helper=isolated)
    yard = Yard(experts, plays(owner=OWNER, boss=[asked, "done"]))
    async with yard.sandboxed("e1", place):
        await begin(yard, JOB, "owner")
        await yard.rested(JOB)
        place.workspaces.isolated(helper).mkdir()
        note = place.state / "isolated" / "acme" / "job1.helper"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text('{"rows": []}')
        journals = journals_of(place)
        await begin(yard, ref, "boss")
        await yard.rested(ref)
        told = await yard.events(ref)
        assert len(processes_with("sleep\x001000")) >= 1
        assert journals_of(place).startswith(journals)
    ended = {one.call: one for one in told if isinstance(one, ToolCallEnded)}
    assert len(ended) == len(tries)
    for index, (tool, arguments) in enumerate(tries):
        answer = said(ended[f"c1-{index}"])
        assert ended[f"c1-{index}"].outcome in NOTHING_RAN, (tool, arguments, answer)
        assert "owned-0" not in answer
        assert "mine" not in answer
    assert (place.workspace(JOB) / "own").read_text() == "mine\n"


async def begin(yard: Yard, ref: RunRef, expert: str) -> None:
    digest = await yard.outside.blobs.put(ref.tenant, yard.definition.to_bytes())
    parts = (TextPart(text="go"),)
    start = StartRun(id="start", expert=expert, definition=digest, parts=parts)
    await yard.client.submit(ref, start, "start")


def journals_of(place: Place) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((place.state / "journal").iterdir()))


async def test_call_that_is_delivered_again(place: Place) -> None:
    """C10: the same work, and a forged copy of it with other arguments: it ran once."""
    yard = Yard(crew(), plays(boss=[asks(("exec", '{"shell": "echo once >> f"}')), "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.rested()
        before = await yard.events()
        work = CallToolWork(
            call="c1-0", attempt=1, lane=Lane.SANDBOX, tool="exec", skill=BASE_SKILL,
            safety=Safety.UNSAFE, arguments='{"shell": "echo once >> f"}', key="c1-0",
            timeout_ms=60_000, expert="boss", definition=yard.definition.digest(),
        )  # fmt: skip
        forged = work.model_copy(
            update={"arguments": '{"shell": "echo forged >> f"}', "attempt": 2}
        )
        for one in (work, forged, work, forged):
            await yard.outside.work.put(Lane.SANDBOX, JOB, canonical(one))

        async def delivered() -> bool:
            return not any(queue.messages for queue in yard.server.work.values())

        await until("the work to be acknowledged", delivered)
        assert (place.workspace() / "f").read_text() == "once\n"
        assert await yard.events() == before
    assert state.result == "done"


MALFORMED = {
    "nothing": "",
    "null": "null",
    "cut": '{"shell": "touch ran"',
    "deep": '{"env": ' * 3000 + "1" + "}" * 3000,
    "deep-list": '{"args": ' + "[" * 20_000,
    "huge-number": '{"shell": "touch ran", "timeout": 1e999}',
    "not-a-number": '{"shell": "touch ran", "timeout": NaN}',
    "wrong-types": '{"shell": ["touch ran"], "env": [], "cwd": 7}',
    "surrogate": '{"shell": "touch ran", "env": {"A": "\\ud800"}}',
    "null-byte": '{"shell": "touch ran\\u0000"}',
    "variable": '{"shell": "touch ran", "env": {"A=B": "x"}}',
    "many-variables": json.dumps({"shell": "touch ran", "env": {f"A{n}": "" for n in range(1200)}}),
    "many-arguments": json.dumps({"command": "touch", "args": ["ran"] * 5000}),
    "long-argument": json.dumps({"command": "touch", "args": ["ran", "x" * 140_000]}),
    "option": '{"command": "--bind", "args": ["/", "/", "touch", "ran"]}',
    "both": '{"shell": "touch ran", "command": "touch", "args": ["ran"]}',
}


async def test_arguments_that_are_none(place: Place) -> None:
    """Cut, deep, huge and wrong arguments: each is answered, none runs, and the worker goes on."""
    asked = asks(*(("exec", text) for text in MALFORMED.values()))
    yard = Yard(crew(), plays(boss=[asked, sh("ls"), "done"]))
    async with yard.sandboxed("e1", place):
        await yard.begin()
        state = await yard.rested()
        ended = {one.call: one for one in await yard.outcomes()}
    assert state.result == "done"
    for index, name in enumerate(MALFORMED):
        assert ended[f"c1-{index}"].outcome in NOTHING_RAN, (name, said(ended[f"c1-{index}"]))
    assert json.loads(said(ended["c2-0"]))["output"] == ""
