"""Packages for skills: fetched once from a registry, then run without it.

By npm's and pip's own clients, from a registry of these tests.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from commands.discovery import no_job
from domain.definition import McpStdioSkill
from domain.errors import Unavailable
from domain.sandbox import SandboxLimits
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.environment import SYSTEM_PATH
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.packages.fetching import Workshop
from services.sandbox.packages.programs import Installed
from services.sandbox.packages.request import Request, requested
from services.sandbox.packages.store import Packages
from services.sandbox.port import Backend, Owner
from tests.contract.sandbox_backends import processes_with
from tests.support.line_host import SERVER, Desk, LineHost, line_skill, skilled
from tests.support.registry import Registry, registry
from tests.support.service import BOUND_S, Place, Yard, place_fixture, plays, until

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture

needs_npm = pytest.mark.skipif(
    shutil.which("npm", path=SYSTEM_PATH) is None, reason="npm is not installed"
)
needs_pip = pytest.mark.skipif(
    shutil.which("pip3", path=SYSTEM_PATH) is None, reason="pip is not installed for the system"
)

JS = """#!/usr/bin/env node
const fs = require('fs'), path = require('path')
let answer = 'no dependency'
try { answer = require('dependency') } catch (error) { answer = error.message }
require('readline').createInterface({input: process.stdin}).on('line', line => {
  let said
  try { said = eval(JSON.parse(line).python) } catch (error) { said = String(error) }
  console.log(JSON.stringify(said))
})
"""


def publish(at: Registry) -> None:
    """An npm package with a dependency, and a Python package: servers, in two versions each."""
    at.add_npm("dependency", "3.1.4", {"index.js": "module.exports = 'from the dependency'"})
    for version in ("1.0.0", "1.1.0"):
        at.add_npm(
            "@test/server",
            version,
            {"main.js": JS, "install.js": "require('fs').writeFileSync('/workspace/ran', 'x')"},
            bin={"test-server": "main.js"},
            scripts={"postinstall": "node install.js", "preinstall": "node install.js"},
            dependencies={"dependency": "^3.0.0"},
        )
        module = f"VERSION = {version!r}\n\ndef main():\n" + "".join(
            f"    {line}\n" for line in SERVER.strip().splitlines()
        )
        at.add_pypi(
            "test-server", version, {"test_server.py": module}, {"test-server": "test_server:main"}
        )


@asynccontextmanager
async def desk(
    place: Place, at: Registry, skill: McpStdioSkill, host: LineHost | None = None
) -> AsyncGenerator[Desk]:
    """A worker over a place, for a boss with one skill."""
    yard = Yard(skilled(line=skill), plays(boss=["done"]), host=host or LineHost())
    yard.packages, yard.egress = at.settings, at.egress
    async with yard.sandboxed("e1", place) as lane:
        yield Desk(yard, lane)


@needs_npm
async def test_an_npm_package_is_fetched_once_and_runs_without_its_registry(place: Place) -> None:
    skill = line_skill(command="npx", args=("-y", "@test/server", "given"))
    async with registry() as at:
        publish(at)
        async with desk(place, at, skill) as caller:
            said = await caller.says("[answer, process.argv.slice(2), __dirname, process.cwd()]")
            assert said[:2] == ["from the dependency", ["given"]]
            assert said[2].startswith("/opt/peritus/package/node_modules/@test/server")
            assert said[3] == "/workspace"
            assert "registry.test" in "".join(caller.heard), "whoever watches is told"
            names = await caller.says("Object.keys(process.env).filter(n => /proxy/i.test(n))")
            assert names == []
            wrote = "fs.writeFileSync(path.join(__dirname, 'main.js'), 'x')"
            assert "EROFS" in await caller.says(wrote)
            assert await caller.says("fs.existsSync('/workspace/ran')") is False
        asked = list(at.asked)
        async with desk(place, at, skill) as caller:  # another life, the same place
            assert await caller.says("answer") == "from the dependency"
        assert at.asked == asked, "nothing was asked for again"


@needs_pip
async def test_a_python_package_is_fetched_once_and_runs_without_its_registry(place: Place) -> None:
    skill = line_skill(command="uvx", args=("test-server@1.0.0",))
    async with registry() as at:
        publish(at)
        async with desk(place, at, skill) as caller:
            assert await caller.says("VERSION") == "1.0.0"
            assert await caller.says("os.getcwd()") == "/workspace"
            assert await caller.says("__file__") == "/opt/peritus/package/test_server.py"
            assert "proxy" not in str(await caller.says("sorted(os.environ)")).lower()
        asked = list(at.asked)
        async with desk(place, at, skill) as caller:
            assert await caller.says("VERSION") == "1.0.0"
        assert at.asked == asked


@needs_npm
@needs_pip
async def test_a_version_is_honoured_and_without_one_the_newest_is_found_once_and_kept(
    place: Place,
) -> None:
    async with registry() as at, workshop(place, at) as packages:
        publish(at)
        for kind, command in (("npm", "npx"), ("pypi", "uvx")):
            name = "@test/server" if kind == "npm" else "test-server"
            assert (await ready(packages, command, f"{name}@1.0.0")).version == "1.0.0"
            assert (await ready(packages, command, name)).version == "1.1.0"
        publish_newer(at)
        assert (await ready(packages, "npx", "@test/server")).version == "1.1.0"
        assert (await ready(packages, "uvx", "test-server")).version == "1.1.0"


@needs_npm
@needs_pip
@pytest.mark.parametrize(
    ("command", "name", "exact", "file"),
    [
        ("npx", "@test/server", "@test/server@1.1.0", "@test-server-1.1.0.tgz"),
        ("uvx", "test-server", "test-server@1.1.0", "test_server-1.1.0-py3-none-any.whl"),
    ],
)
async def test_the_version_that_was_found_is_there_for_whoever_pins_it(
    place: Place, command: str, name: str, exact: str, file: str
) -> None:
    async with registry() as at, workshop(place, at) as packages:
        publish(at)
        found = await ready(packages, command, name)
        assert await ready(packages, command, exact) == found
        assert at.fetched(f"/files/{file}") == 1
        first = packages.wanted(request_of(command, name), "bubblewrap", None)
        second = packages.wanted(request_of(command, exact), "bubblewrap", None)
        assert first.tree.samefile(second.tree)
        shutil.rmtree(first.tree.parent)  # an operator has cleared it away
        assert (await ready(packages, command, exact)).version == "1.1.0"
        assert at.fetched(f"/files/{file}") == 2


def publish_newer(at: Registry) -> None:
    at.add_npm("@test/server", "2.0.0", {"main.js": JS}, bin="main.js")
    at.add_pypi("test-server", "2.0.0", {"test_server.py": ""}, {"test-server": "test_server:main"})


@asynccontextmanager
async def workshop(
    place: Place, at: Registry, epoch: str = "e1", **more: object
) -> AsyncGenerator[Packages]:
    """Packages of a place without a service around them."""
    place.state.mkdir(parents=True, exist_ok=True)
    backend = BubblewrapBackend(place.state)

    async def given() -> Backend:
        return backend

    async with asyncio.TaskGroup() as tasks:
        shop = Workshop(
            at.settings.model_copy(update=more),
            at.egress,
            SandboxLimits(),
            given,
            Owner(place.name, epoch, "", "packages", ""),
            tasks,
        )
        packages = Packages(folder_of(place), shop)
        try:
            yield packages
        finally:
            await packages.close()
            await backend.close()


def folder_of(place: Place) -> Path:
    return place.state.with_name(".packages")


def request_of(command: str, *args: str) -> Request:
    found = requested(command, args)
    assert found is not None
    return found


async def ready(packages: Packages, command: str, *args: str) -> Installed:
    wanted = packages.wanted(request_of(command, *args), "bubblewrap", None)
    async with asyncio.timeout(2 * BOUND_S):
        return await packages.ready(wanted)


def kept(place: Place) -> list[str]:
    """What is in the folder of packages, but for locks."""
    return sorted(one.name for one in folder_of(place).iterdir() if one.suffix != ".lock")


@needs_npm
async def test_many_want_a_package_at_once_and_it_is_fetched_once(place: Place) -> None:
    """Within a worker, and by another one at the same place."""
    async with (
        registry() as at,
        workshop(place, at) as one,
        workshop(place, at, "e2") as other,
        asyncio.TaskGroup() as tasks,
    ):
        publish(at)
        asking = [
            tasks.create_task(ready(packages, "npx", "@test/server"))
            for packages in (one, other, one, other)
        ]
        versions = {(await asked).version for asked in asking}
    assert versions == {"1.1.0"}
    assert at.fetched("/files/@test-server-1.1.0.tgz") == 1
    assert len(kept(place)) == 2, "by what was asked for, and by the version that was found"


@needs_npm
async def test_whoever_waits_may_leave_and_the_next_one_finds_it_done(place: Place) -> None:
    async with registry() as at, workshop(place, at) as packages, asyncio.TaskGroup() as tasks:
        publish(at)
        first = tasks.create_task(ready(packages, "npx", "@test/server"))

        async def begun() -> bool:
            return bool(at.asked)

        await until("the registry to be asked", begun)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        assert (await ready(packages, "npx", "@test/server")).version == "1.1.0"
    assert at.fetched("/files/@test-server-1.1.0.tgz") == 1


@needs_npm
async def test_what_is_being_fetched_ends_with_its_worker_and_leaves_nothing(place: Place) -> None:
    """C10."""
    async with registry() as at, workshop(place, at) as packages, asyncio.TaskGroup() as tasks:
        at.silent = True
        waiting = tasks.create_task(ready(packages, "npx", "@test/server"))
        async with asyncio.timeout(BOUND_S):
            await at.stuck.wait()
        assert processes_with("npm install") != []
        await packages.close()
        await asyncio.wait([waiting])
        assert processes_with("npm install") == []
    assert kept(place) == []


@needs_npm
async def test_what_a_killed_worker_left_half_done_is_no_obstacle(place: Place) -> None:
    async with registry() as at, workshop(place, at) as packages:
        publish(at)
        wanted = packages.wanted(request_of("npx", "@test/server"), "bubblewrap", None)
        half, broken = wanted.tree.parent.with_suffix(".new"), wanted.tree.parent
        for folder in (half, broken):
            (folder / "tree/node_modules/@test/server").mkdir(parents=True)
        (broken / "installed.json").write_text("{")
        assert (await ready(packages, "npx", "@test/server")).version == "1.1.0"
    assert wanted.digest in kept(place)
    assert half.name not in kept(place)


@needs_npm
@needs_pip
@pytest.mark.parametrize(
    ("command", "name", "says"),
    [("npx", "@test/missing", "404"), ("uvx", "missing", "No matching distribution found")],
)
async def test_a_failure_says_what_the_installer_said(
    place: Place, command: str, name: str, says: str
) -> None:
    async with registry() as at, workshop(place, at) as packages:
        publish(at)
        with pytest.raises(SandboxUnavailable) as failed:
            await ready(packages, command, name)
    assert f"{name} cannot be fetched from http://registry.test:" in str(failed.value)
    assert says in str(failed.value)
    assert kept(place) == []


@needs_npm
async def test_a_host_or_an_address_that_is_not_allowed_is_named_with_the_setting(
    place: Place,
) -> None:
    """C16: a registry that sends its clients elsewhere sends them nowhere."""
    async with registry() as at:
        publish(at)
        document = json.loads(at.served["/dependency"])
        dist = document["versions"]["3.1.4"]["dist"]
        dist["tarball"] = dist["tarball"].replace("registry.test", "evil.test")
        at.served["/dependency"] = json.dumps(document).encode()
        async with workshop(place, at) as packages:
            with pytest.raises(SandboxUnavailable, match=r"evil\.test:.*PERITUS_NPM_HOSTS"):
                await ready(packages, "npx", "@test/server")
        async with workshop(place, at, allow_cidrs=()) as packages:
            with pytest.raises(
                SandboxUnavailable, match=r"\(address\).*PERITUS_PACKAGES_ALLOW_CIDRS"
            ):
                await ready(packages, "npx", "@test/server")
    assert kept(place) == []


async def test_an_operator_can_have_nothing_fetched(place: Place) -> None:
    async with registry() as at, workshop(place, at, fetch=False) as packages:
        with pytest.raises(SandboxUnavailable, match="PERITUS_PACKAGES_FETCH"):
            await ready(packages, "npx", "@test/server")
    assert at.asked == []


async def test_what_is_missing_inside_is_named_with_what_to_install(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sandbox.environment.SYSTEM_PATH", "/nowhere")
    monkeypatch.setattr("services.sandbox.bubblewrap.view.SYSTEM_PATH", "/nowhere")
    async with registry() as at, workshop(place, at) as packages:
        with pytest.raises(SandboxUnavailable, match=r"lacks node and npm \(Debian: apt install"):
            await ready(packages, "npx", "@test/server")
    assert at.asked == []


@needs_npm
async def test_a_program_that_a_package_has_not_is_named_with_those_it_has(place: Place) -> None:
    skill = line_skill(command="npx", args=("-p", "@test/server", "other"))
    async with registry() as at:
        publish(at)
        async with desk(place, at, skill) as caller:
            with pytest.raises(Unavailable, match="no program 'other'; its programs: test-server"):
                await caller.call("1")


async def test_a_call_of_a_skill_that_names_no_package_did_not_run(place: Place) -> None:
    skill = line_skill(command="npx", args=("-y", "github:owner/repo"))
    async with registry() as at, desk(place, at, skill) as caller:
        with pytest.raises(Unavailable, match="names no npm package of a registry"):
            await caller.call("1")
    assert at.asked == []


@needs_pip
async def test_discovery_says_which_version_there_is_and_how_to_pin_it(place: Place) -> None:
    definition = skilled(line=line_skill(command="uvx", args=("test-server", "x")))
    yard = Yard(definition, plays(boss=["done"]), host=LineHost())
    async with registry() as at:
        publish(at)
        yard.packages, yard.egress = at.settings, at.egress
        async with yard.sandboxed("e1", place) as lane:
            service = await lane.service()
            found = await service.discover(no_job("acme"), definition.expert("boss"), "line")
    assert (found.version, found.args) == ("1.1.0", ("test-server@1.1.0", "x"))


@needs_pip
async def test_what_lies_in_the_workspace_is_no_part_of_a_packaged_server(place: Place) -> None:
    """A model writes there: it must not get at what a server alone may have."""
    skill = line_skill(command="uvx", args=("test-server",), required_env=("TOKEN",))
    async with registry() as at:
        publish(at)
        async with desk(place, at, skill) as caller:
            caller.yard.secrets = {"TOKEN": "t0ken-of-the-skill"}
            workspace = place.workspace()
            user = workspace / ".local/lib/python3.11/site-packages"
            stolen = "open('/workspace/stolen', 'w').write(__import__('os').environ['TOKEN'])"
            await caller.says("1")
            assert not (workspace / "stolen").exists()
            for name in ("json.py", "test_server.py", "sitecustomize.py", "usercustomize.py"):
                user.mkdir(parents=True, exist_ok=True)
                (workspace / name).write_text(stolen)
                (user / name).write_text(stolen)
            await caller.call("os.kill(os.getpid(), signal.SIGKILL)")
            assert await caller.says("VERSION") == "1.1.0"
            assert not (workspace / "stolen").exists()


@needs_npm
async def test_a_package_cannot_lead_us_out_of_its_folder(place: Place) -> None:
    """What it says of itself is data: names and places that are none are left out."""
    async with registry() as at, workshop(place, at) as packages:
        at.add_npm(
            "evil",
            "1.0.0",
            {"main.js": JS},
            bin={"up": "../../../../../etc/passwd", "../x": "main.js", "evil": "main.js"},
        )
        installed = await ready(packages, "npx", "evil")
        for program in installed.programs.values():
            assert not program.path.startswith(("/", "..")), installed.programs
    assert "evil" in installed.programs
    assert "../x" not in installed.programs
    tree = packages.wanted(request_of("npx", "evil"), "bubblewrap", None).tree
    for path in (tree, *tree.rglob("*")):
        assert path.is_symlink() or path.stat().st_mode & 0o444 == 0o444, path
