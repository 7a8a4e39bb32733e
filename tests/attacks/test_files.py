"""Attacks by way of files: through the tools, and by commands that prepare the ground for them.

The tools run outside the sandbox, over the workspace: they are what a link could lead astray.
"""

import asyncio
import json
import os
from typing import NamedTuple

import pytest

from tests.attacks.arena import Arena, Attack

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

STATE = ".peritus"


class Trick(NamedTuple):
    """A call that must fail with one of some words, after some shell has prepared the ground.

    `{folder}` is the folder outside, `{canary}` a file in it.
    """

    name: str
    tries: str
    tool: str
    arguments: dict[str, object]
    errors: tuple[str, ...]
    first: str = ""


OUTSIDE = ("outside_workspace",)
NOT_THERE = ("not_found",)
LINK = ("is_symlink", "outside_workspace", "symlink_loop")

TRICKS = [
    Trick("dot-dot", "step out", "readTextFile", {"path": "../outside/canary"}, OUTSIDE),
    Trick(
        "dot-dot-deep", "step out from deep below", "readTextFile",
        {"path": "a/b/../../../outside/canary"}, OUTSIDE, first="mkdir -p a/b",
    ),
    Trick("absolute", "name it by its full path", "readTextFile", {"path": "{canary}"}, OUTSIDE),
    Trick(
        "absolute-below-mount", "step out of the mount", "readTextFile",
        {"path": "/workspace/../outside/canary"}, OUTSIDE,
    ),
    Trick("host-file", "read the users", "readTextFile", {"path": "/etc/passwd"}, OUTSIDE),
    Trick("home", "read below a home", "readTextFile", {"path": "~root/.profile"}, NOT_THERE),
    Trick("home-up", "step out of home", "readTextFile", {"path": "~/../etc/passwd"}, OUTSIDE),
    Trick(
        "encoded", "spell dots in percent signs", "readTextFile",
        {"path": "%2e%2e/outside/canary"}, NOT_THERE,
    ),
    Trick(
        "backslash", "step out as on another system", "readTextFile",
        {"path": "..\\outside\\canary"}, NOT_THERE,
    ),
    Trick(
        "wide-dots", "spell dots in other characters", "readTextFile",
        {"path": "\uff0e\uff0e/outside/canary"}, NOT_THERE,
    ),
    Trick(
        "null-byte", "end the name early", "readTextFile",
        {"path": "a\0/../../outside/canary"}, ("invalid_path",),
    ),
    Trick(
        "lone-surrogate", "a name that is no text", "readTextFile",
        {"path": "\ud800/x"}, ("invalid_path", "not_found", "invalid_arguments"),
    ),
    Trick(
        "long-name", "a name longer than names are", "writeTextFile",
        {"path": "a/" * 5000 + "x", "text": "x"}, ("invalid_path",),
    ),
    Trick(
        "final-link", "read through a link", "readTextFile", {"path": "l"}, LINK,
        first="ln -sfn {canary} l",
    ),
    Trick(
        "relative-link", "read through a link that steps out", "readTextFile", {"path": "l"}, LINK,
        first="ln -sfn ../outside/canary l",
    ),
    Trick(
        "folder-link", "read below a linked folder", "readTextFile", {"path": "d/canary"}, OUTSIDE,
        first="ln -sfn {folder} d",
    ),
    Trick(
        "list-link", "list a linked folder", "listDirectory", {"path": "d"}, OUTSIDE,
        first="ln -sfn {folder} d",
    ),
    Trick(
        "link-chain", "go through many links", "readTextFile", {"path": "c9/canary"}, OUTSIDE,
        first="ln -sfn {folder} c0; for i in 1 2 3 4 5 6 7 8 9; do ln -sfn c$((i-1)) c$i; done",
    ),
    Trick(
        "link-loop", "go round for ever", "readTextFile", {"path": "loop/x"},
        ("symlink_loop", "outside_workspace"), first="ln -sfn loop loop",
    ),
    Trick(
        "dangling-link", "create a file outside through a link", "writeTextFile",
        {"path": "n", "text": "pwned"}, LINK, first="ln -sfn {folder}/new n",
    ),
    Trick(
        "write-below-link", "create a file below a linked folder", "writeTextFile",
        {"path": "d/new", "text": "pwned"}, OUTSIDE, first="ln -sfn {folder} d",
    ),
    Trick(
        "folders-below-link", "create folders below a linked folder", "createDirectory",
        {"path": "d/new/deep"}, OUTSIDE, first="ln -sfn {folder} d",
    ),
    Trick(
        "append-link", "append through a link", "appendTextFile", {"path": "l", "text": "pwned"},
        LINK, first="ln -sfn {canary} l",
    ),
    Trick(
        "edit-below-link", "edit below a linked folder", "editTextFile",
        {"path": "d/canary", "oldText": "a", "newText": "b", "replaceAll": True}, OUTSIDE,
        first="ln -sfn {folder} d",
    ),
    Trick(
        "delete-below-link", "delete below a linked folder", "deleteFile", {"path": "d/canary"},
        OUTSIDE, first="ln -sfn {folder} d",
    ),
    Trick(
        "move-out", "move a file out", "moveFile",
        {"source": "m", "destination": "../outside/new"}, OUTSIDE, first="echo x > m",
    ),
    Trick(
        "move-out-by-link", "move a file out through a link", "moveFile",
        {"source": "m", "destination": "d/new"}, OUTSIDE, first="echo x > m; ln -sfn {folder} d",
    ),
    Trick(
        "move-in", "move a file in", "moveFile",
        {"source": "d/canary", "destination": "mine"}, OUTSIDE, first="ln -sfn {folder} d",
    ),
    Trick(
        "magic-root", "go through /proc to the root of whoever reads", "readTextFile",
        {"path": "r/etc/passwd"}, OUTSIDE, first="ln -sfn /proc/self/root r",
    ),
    Trick(
        "magic-folder", "go through /proc to where whoever reads is", "readTextFile",
        {"path": "r/etc/passwd"}, OUTSIDE, first="ln -sfn /proc/self/cwd r",
    ),
    Trick(
        "magic-descriptor", "go through /proc to what whoever reads has open", "listDirectory",
        {"path": "r"}, OUTSIDE, first="ln -sfn /proc/self/fd r",
    ),
    Trick(
        "fifo", "have it wait for ever", "readTextFile", {"path": "f"}, ("not_a_file",),
        first="rm -f f; mkfifo f",
    ),
    Trick(
        "fifo-write", "have it wait for ever with text", "writeTextFile",
        {"path": "f", "text": "x"}, ("not_a_file",), first="rm -f f; mkfifo f",
    ),
    Trick(
        "fifo-image", "have it wait for ever for a picture", "readImageFile", {"path": "f.png"},
        ("not_a_file",), first="rm -f f.png; mkfifo f.png",
    ),
    Trick(
        "fifo-pdf", "have it wait for ever for a document", "readPdfFile", {"path": "f.pdf"},
        ("not_a_file",), first="rm -f f.pdf; mkfifo f.pdf",
    ),
    Trick(
        "picture-link", "look at a file outside as a picture", "readImageFile", {"path": "p.png"},
        LINK, first="ln -sfn {canary} p.png",
    ),
    Trick(
        "whiteout", "hide a file by a node of an overlay", "readTextFile", {"path": "w"},
        ("not_a_file", "not_found"), first="mknod w c 0 0 2>/dev/null || true",
    ),
    Trick(
        "sparse-giant", "have it read more than there is memory", "readTextFile", {"path": "big"},
        ("too_large", "not_found"), first="rm -f big; truncate -s 1T big 2>/dev/null || rm -f big",
    ),
    Trick(
        "state-folder", "read what is ours in the workspace", "readTextFile",
        {"path": f"{STATE}/canary"}, ("state_folder",),
    ),
    Trick(
        "state-folder-case", "spell it otherwise", "readTextFile", {"path": ".PeRiTuS/canary"},
        ("state_folder",),
    ),
    Trick(
        "state-folder-round", "reach it by a detour", "readTextFile",
        {"path": f"a/../{STATE}/canary"}, ("state_folder", "not_found"), first="mkdir -p a",
    ),
    Trick(
        "state-folder-link", "reach it by a link", "readTextFile", {"path": "s/canary"},
        ("state_folder", "is_symlink", "outside_workspace", "not_found"),
        first=f"ln -sfn {STATE} s",
    ),
    Trick(
        "state-folder-write", "put something there for us to trust", "writeTextFile",
        {"path": f"{STATE}/settings.toml", "text": "backend = 'none'"}, ("state_folder",),
    ),
    Trick(
        "run-outside", "run a command elsewhere", "exec",
        {"shell": "cat canary", "cwd": "../outside"},
        OUTSIDE,
    ),
    Trick(
        "run-below-link", "run a command in a linked folder", "exec",
        {"shell": "cat canary", "cwd": "d"}, OUTSIDE, first="ln -sfn {folder} d",
    ),
    Trick(
        "start-outside", "start a process elsewhere", "startProcess",
        {"shell": "cat canary", "cwd": "/"}, OUTSIDE,
    ),
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=lambda one: one.name)
async def test_tool_is_not_led_outside(attacked: Arena, trick: Trick) -> None:
    names = {"folder": attacked.outside.folder, "canary": attacked.outside.canary}
    (attacked.folder / STATE / "canary").write_text(attacked.outside.token)
    if trick.first:
        await attacked.shell(trick.first.format(**names))
    arguments = {
        key: value.format(**names) if isinstance(value, str) and "{" in value else value
        for key, value in trick.arguments.items()
    }
    said = await attacked.call(trick.tool, **arguments)
    assert said.failed, trick.tries
    assert said.error in trick.errors, (trick.tries, said.answer)
    assert attacked.outside.token not in json.dumps(said.answer)
    attacked.unharmed()


async def test_search_follows_no_link(attacked: Arena) -> None:
    """Looks for a text that only a file outside has, through every kind of link."""
    folder = attacked.outside.folder
    await attacked.shell(f"ln -sfn {folder} d; ln -sfn {folder}/canary l; ln -sfn / root")
    for tool, arguments in (
        ("grep", {"pattern": attacked.outside.token, "literal": True}),
        ("glob", {"pattern": "**/canary"}),
        ("glob", {"pattern": "**/passwd"}),
        ("listDirectory", {"path": "."}),
    ):
        said = await attacked.call(tool, **arguments)
        assert attacked.outside.token not in json.dumps(said.answer)
        assert "d/canary" not in json.dumps(said.answer)
        assert "etc/passwd" not in json.dumps(said.answer)
    attacked.unharmed()


async def test_deleting_a_link_deletes_the_link(attacked: Arena) -> None:
    """Asks for a linked folder to be deleted with all that is in it."""
    await attacked.shell(f"ln -sfn {attacked.outside.folder} gone")
    said = await attacked.call("deleteFile", path="gone", recursive=True)
    assert not said.failed, said.answer
    assert not (attacked.folder / "gone").is_symlink()
    attacked.unharmed()


async def test_deleting_a_folder_with_links_in_it_stays_inside(attacked: Arena) -> None:
    """Hides links to outside deep in a folder that is deleted as a whole."""
    await attacked.shell(f"mkdir -p tree/a/b; ln -sfn {attacked.outside.folder} tree/a/b/l")
    assert not (await attacked.call("deleteFile", path="tree", recursive=True)).failed
    assert not (attacked.folder / "tree").exists()
    attacked.unharmed()


async def test_race_between_a_folder_and_a_link(attacked: Arena) -> None:
    """Swaps a folder for a link to outside, all the time, while tools write and read below it."""
    folder = attacked.outside.folder
    swapping = await attacked.call(
        "startProcess",
        command="python3",
        args=[
            "-c",
            "import os, sys\n"
            "os.makedirs('real', exist_ok=True)\n"
            "print('up', flush=True)\n"
            "while True:\n"
            "    os.symlink(sys.argv[1], 'x'); os.rename('x', 'swap') if not os.path.isdir('swap')"
            " or os.path.islink('swap') else os.unlink('x')\n"
            "    os.unlink('swap') if os.path.islink('swap') else None\n"
            "    os.mkdir('swap') if not os.path.lexists('swap') else None\n"
            "    os.path.isdir('swap') and os.rename('swap', f'real/{os.urandom(6).hex()}')\n",
            str(folder),
        ],
    )
    handle = swapping.answer["handle"]
    await attacked.call("readProcess", handle=handle, wait=10_000)
    reached = 0
    for number in range(150):
        said = await attacked.call("writeTextFile", path=f"swap/new{number % 3}", text="pwned")
        reached += not said.failed
        said = await attacked.call("readTextFile", path="swap/canary")
        assert attacked.outside.token not in json.dumps(said.answer)
    await attacked.call("stopProcess", handle=handle)
    assert reached  # some writes met the folder, so the race was run
    attacked.unharmed()


async def test_names_that_are_no_text(attacked: Arena) -> None:
    """Fills a folder with names that are not UTF-8, hold line ends, or look like options."""
    await attacked.python(
        "os.makedirs(b'names', exist_ok=True)\n"
        "for name in (b'\\xff\\xfe', b'a\\nb', b'-rf', b'\\x1b[2J', b'$(touch pwned)',\n"
        "             b'..\\\\x'):\n"
        "    with contextlib.suppress(OSError): write(os.fsdecode(b'names/' + name))\n"
    )
    for tool, arguments in (
        ("listDirectory", {"path": "names"}),
        ("glob", {"pattern": "names/*"}),
        ("grep", {"pattern": "pwned", "path": "names"}),
    ):
        said = await attacked.call(tool, **arguments)
        assert not said.failed, said.answer
        json.dumps(said.answer).encode()
    assert not (attacked.folder / "pwned").exists()
    attacked.unharmed()


async def test_planted_git_configuration(attacked: Arena) -> None:
    """Plants hooks and programs in a repository's configuration, and has every tool look at it."""
    mark = attacked.outside.folder / "git-ran"
    await attacked.shell(
        "mkdir -p repo/.git/hooks repo/.git/objects repo/.git/refs; "
        "echo 'ref: x' > repo/.git/HEAD; "
        f"printf '[core]\\n\\tfsmonitor = touch {mark}\\n\\tpager = touch {mark}\\n"
        f"[diff]\\n\\texternal = touch {mark}\\n' > repo/.git/config; "
        f"for h in post-checkout pre-commit; do printf '#!/bin/sh\\ntouch {mark}\\n' "
        "> repo/.git/hooks/$h; chmod +x repo/.git/hooks/$h; done; echo x > repo/file"
    )
    for tool, arguments in (
        ("listDirectory", {"path": "repo"}),
        ("glob", {"pattern": "**/*", "path": "repo/.git"}),
        ("grep", {"pattern": "x", "path": "repo"}),
        ("editTextFile", {"path": "repo/file", "oldText": "x", "newText": "y"}),
        ("moveFile", {"source": "repo/file", "destination": "repo/other"}),
    ):
        await attacked.call(tool, **arguments)
    attacked.unharmed()  # the mark would be a new file in the folder outside


async def test_links_in_place_of_our_folder(attacked: Arena) -> None:
    """Puts a link where the state folder is, so that the next sandbox mounts over what it names."""
    await attacked.shell(
        f"rm -rf {STATE}; rmdir {STATE}; mv {STATE} old; ln -s {attacked.outside.folder} {STATE}; "
        f"ln -sfn {attacked.outside.folder} {STATE}/link; true"
    )
    again = await attacked.shell("echo fine")
    attacked.unharmed()
    if attacked.promises["own_root"]:
        assert again.output == "fine\n"
        assert (attacked.folder / STATE).is_dir()
        assert not (attacked.folder / STATE).is_symlink()
    else:
        # It cannot be hidden there, and is no folder to be trusted: put back for the others.
        await attacked.shell(f"[ -L {STATE} ] && rm {STATE}; [ -d old ] && mv old {STATE}; true")


INSIDE = [
    Attack("hard-link", "link a file of the host into the workspace", """
for path in (told['canary'], '/etc/passwd', '/usr/bin/env'):
    tries(lambda: os.link(path, 'hard'))
"""),
    Attack("write-outside", "leave a file anywhere but in the workspace", """
for place in ('/', '/usr', '/usr/bin', '/etc', '/run', '/var', '/sys', '/opt', '/root',
              '/home', '/boot', told['folder']):
    tries(lambda: write(f'{place}/pwned'))
"""),
    Attack("read-canary", "read a file of the host that everybody may read", """
tries(lambda: read(told['canary']))
tries(lambda: read('/proc/1/root' + told['canary']))
tries(lambda: read('/proc/self/root/../..' + told['canary']))
tries(lambda: os.listdir(told['folder']))
"""),
    Attack("change-canary", "change, empty, rename or delete a file of the host", """
tries(lambda: write(told['canary']))
tries(lambda: os.truncate(told['canary'], 0))
tries(lambda: os.rename(told['canary'], told['canary'] + 'x'))
tries(lambda: os.unlink(told['canary']))
tries(lambda: os.chmod(told['canary'], 0o600))
tries(lambda: os.utime(told['canary'], (1, 1)))
"""),
    Attack("climb", "step up from the workspace", """
tries(lambda: read('../outside/canary'))
tries(lambda: read('../../../../../../' + told['canary']))
up = None
with contextlib.suppress(OSError):
    up = os.open('..', os.O_RDONLY)
tries(lambda: os.listdir(up) if up is not None else read('/x'), 'outside')
"""),
    Attack("password-files", "read what root alone may read", """
for path in ('/etc/shadow', '/root/.ssh/id_rsa', '/root/.bashrc', '/proc/kcore', '/etc/sudoers'):
    tries(lambda: read(path))
"""),
    Attack("engine-socket", "find the engine's socket, or any other of the host", """
for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock',
             '/run/dbus/system_bus_socket', '/run/systemd/private', told['socket']):
    tries(lambda: reach(socket.AF_UNIX, path))
"""),
    Attack("system-programs", "replace a program that everybody uses", """
tries(lambda: write('/usr/bin/python3'))
tries(lambda: os.unlink('/usr/bin/env'))
tries(lambda: os.rename('/usr/bin/env', '/usr/bin/vne'))
tries(lambda: os.chmod('/usr/bin/env', 0o777))
"""),
    Attack("large-file", "write a file larger than the limit", """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def large():
    with open('large', 'wb') as file:
        for _ in range(64): file.write(bytes(2**20))
    return 'written'
tries(large)
os.unlink('large')
""", needs=("file_limit",)),
    Attack("fill-tmp", "fill the memory that temporary files are in", """
import tempfile
def fill():
    for number in range(40): write(f'{folder}/{number}', 'x' * 2**20)
    return 'written'
with tempfile.TemporaryDirectory() as folder:
    tries(fill)
""", needs=("tmp_limit",)),
    Attack("fill-shared-memory", "fill the memory that programs share", """
def fill():
    for number in range(400): write(f'/dev/shm/{number}', 'x' * 2**20)
    return 'written'
tries(fill)
with contextlib.suppress(OSError):
    for one in os.listdir('/dev/shm'): os.unlink(f'/dev/shm/{one}')
"""),
    Attack("cover-our-folder", "look into or take away what is ours in the workspace", f"""
tries(lambda: read('{STATE}/canary'))
tries(lambda: os.listdir('{STATE}')[0] if os.listdir('{STATE}') else read('/x'))
tries(lambda: write('{STATE}/x'))
tries(lambda: os.rename('{STATE}', 'old'))
tries(lambda: shutil.rmtree('{STATE}'))
""", needs=("own_root",)),
]  # fmt: skip


@pytest.mark.parametrize("attack", INSIDE, indirect=True, ids=lambda one: one.name)
async def test_command_reaches_nothing_outside(attacked: Arena, attack: Attack) -> None:
    await attacked.held(attack)


async def test_device_folder_is_not_the_hosts(attacked: Arena) -> None:
    """Leaves a file in /dev: at most the sandbox's own memory has it."""
    name = attacked.outside.token
    said = await attacked.python(f"tries(lambda: write('/dev/{name}'))")
    assert attacked.promises["own_root"] or "denied" in said.output
    assert name not in os.listdir("/dev")  # noqa: PTH208 - names are all we want
    attacked.unharmed()


async def test_setuid_programs_have_no_power(attacked: Arena) -> None:
    """Makes a program that runs as its owner: nobody gains a right by it, inside or outside."""
    said = await attacked.python(
        "shutil.copy('/usr/bin/id', 'who')\n"
        "with contextlib.suppress(OSError): os.chmod('who', 0o6755)\n"
        "ran = subprocess.run(['./who', '-u'], capture_output=True, text=True).stdout.strip()\n"
        "print('GOT' if ran != str(os.getuid()) else 'denied')\n"
    )
    assert "denied" in said.output
    attacked.unharmed()


async def test_two_edits_at_once_lose_nothing(attacked: Arena) -> None:
    """Edits one file many times at once: every edit that said it was done is there."""
    await attacked.call("writeTextFile", path="shared", text="start\n")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(attacked.call("appendTextFile", path="shared", text=f"{number}\n"))
            for number in range(20)
        ]
    done = [number for number, task in enumerate(tasks) if not task.result().failed]
    lines = (attacked.folder / "shared").read_text().split()
    assert sorted(lines[1:]) == sorted(map(str, done))
    attacked.unharmed()
