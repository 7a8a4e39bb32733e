"""Servers that people use, as npm and PyPI have them: files, memory, git and pages of the web."""

import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_project import Outcome, Project
from tests.e2e.conftest import Locked
from tests.e2e.mcp_project import HELPER, call, ended, npx, played, text_of, turn, uvx
from tests.support.registries import FETCH, FILESYSTEM, GIT, MEMORY

pytestmark = [pytest.mark.broker, pytest.mark.sandbox, pytest.mark.registries]

FILES = HELPER + npx("files", FILESYSTEM, "/workspace")
FORGETS = HELPER + npx("memory", MEMORY)
REMEMBERS = f'{FORGETS}env = {{ MEMORY_FILE_PATH = "/workspace/memory.jsonl" }}\n'
REPOSITORY = HELPER + uvx("git", GIT)

PAGE = "The word of the day is heliotrope."
HTTP_PORT = 80
"""Of pages that sandboxes may reach: beside 443, no other port is open to them."""


def test_files_are_written_into_the_workspace_and_nothing_else_is_seen(
    shop: Project, locked: Locked
) -> None:
    shop.write("perstack.toml", FILES)
    shop.write("perstack.lock", locked(FILES))
    shop.workspace.mkdir()
    (shop.workspace / "old.txt").write_text("old\n")
    (shop.workspace / "secret").symlink_to("/etc/passwd")

    outcome = played(
        shop,
        turn(
            call("write_file", path="/workspace/new.txt", content="by a server\n"),
            call("list_allowed_directories"),
        ),
        turn(
            call("edit_file", path="/workspace/old.txt", edits=[{"oldText": "o", "newText": "0"}]),
            call("create_directory", path="/workspace/made"),
            expect=("Successfully wrote to /workspace/new.txt", "Allowed directories:\n/workspace"),
        ),
        turn(
            call("read_text_file", path="/workspace/new.txt"),
            call("read_text_file", path="/etc/passwd"),
            call("read_text_file", path="/workspace/secret"),
            call("write_file", path="/workspace/../escaped", content="x"),
            expect=("+0ld", "Successfully created directory"),
        ),
        turn(expect=("by a server", "path outside allowed directories")),
    )
    changed = shop.peritus("files", outcome.run, "diff", "--since", "1", "--json")
    first = shop.peritus("files", outcome.run, "ls", "--step", "1", "--json")

    *_, read, passwd, link, escaped = ended(outcome)
    assert text_of(read) == "by a server\n"  # once, although the server says it as data, too
    assert [one["outcome"] for one in (passwd, link, escaped)] == ["failed"] * 3
    assert "root:" not in outcome.out
    assert (shop.workspace / "new.txt").read_text() == "by a server\n"
    assert (shop.workspace / "old.txt").read_text() == "0ld\n"
    assert {one["path"] for one in lines(first)} == {"new.txt", "old.txt", "secret"}
    assert [(one["what"], one["path"]) for one in lines(changed)] == [
        ("added", "made"),
        ("changed", "old.txt"),
    ]


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    """What a command printed, as JSON lines."""
    assert outcome.code == 0, outcome.said
    return [json.loads(line) for line in outcome.out.splitlines()]


def test_what_a_server_remembers_is_there_in_later_calls_and_runs(
    shop: Project, locked: Locked
) -> None:
    """It keeps a file, and can do so only in the workspace: its package is read only."""
    locked(FORGETS)  # its package is fetched by that, if it is not there
    project = shop
    project.write("perstack.toml", REMEMBERS)
    ada = {"name": "Ada", "entityType": "person", "observations": ["wrote programs"]}
    bob = {"name": "Bob", "entityType": "person", "observations": ["reads them"]}
    knows = {"from": "Bob", "to": "Ada", "relationType": "admires"}

    played(
        project,
        turn(call("create_entities", entities=[ada, bob])),
        turn(call("create_relations", relations=[knows]), expect=("wrote programs",)),
        turn(call("search_nodes", query="Ada"), expect=("admires",)),
        turn(call("delete_entities", entityNames=["Bob"]), expect=("wrote programs",)),
        turn(call("read_graph"), expect=("deleted successfully",)),
        turn(expect=("Ada",)),
    )
    later = played(project, turn(call("read_graph")), turn(expect=("wrote programs",)))

    (graph,) = ended(later)
    found = json.loads(text_of(graph))
    assert [one["name"] for one in found["entities"]] == ["Ada"]
    assert found["relations"] == []


def test_a_server_that_wants_to_write_beside_its_program_is_told_that_it_cannot(
    shop: Project, locked: Locked
) -> None:
    shop.write("perstack.toml", FORGETS)
    shop.write("perstack.lock", locked(FORGETS))
    ada = {"name": "Ada", "entityType": "person", "observations": ["wrote programs"]}

    played(shop, turn(call("create_entities", entities=[ada])), turn(expect=("read-only file",)))


def test_a_repository_in_the_workspace_is_worked_on(shop: Project, locked: Locked) -> None:
    shop.write("perstack.toml", REPOSITORY)
    shop.write("perstack.lock", locked(REPOSITORY))
    shop.workspace.mkdir()
    git(shop.workspace, "init", "-q", "-b", "main")
    git(shop.workspace, "config", "user.name", "Tester")
    git(shop.workspace, "config", "user.email", "tester@example.com")
    (shop.workspace / "one.txt").write_text("one\n")
    git(shop.workspace, "add", "one.txt")
    git(shop.workspace, "commit", "-q", "-m", "The first")
    (shop.workspace / "two.txt").write_text("two\n")
    at = {"repo_path": "/workspace"}

    played(
        shop,
        turn(call("git_status", **at), call("git_log", **at)),
        turn(call("git_add", **at, files=["two.txt"]), expect=("two.txt", "The first")),
        turn(call("git_commit", **at, message="The second"), expect=("staged",)),
        turn(call("git_create_branch", **at, branch_name="side"), expect=("committed",)),
        turn(call("git_show", **at, revision="HEAD"), expect=("Created branch 'side'",)),
        turn(call("git_status", repo_path="/workspace/none"), expect=("The second", "+two")),
        turn(expect=("Error executing tool git_status",)),
    )

    assert git(shop.workspace, "log", "--format=%s") == "The second\nThe first\n"
    assert "side" in git(shop.workspace, "branch")


def git(folder: Path, *words: str) -> str:
    """What git says of a folder that somebody else may own."""
    safe = ("-c", f"safe.directory={folder}")
    ended = subprocess.run(
        ["git", *safe, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return ended.stdout


class Pages(http.server.BaseHTTPRequestHandler):
    """A page that is a text, and one that is HTML."""

    def do_GET(self) -> None:
        texts = {"/page.txt": PAGE, "/page.html": f"<html><body><p>{PAGE}</p></body></html>"}
        body = texts.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", f"text/{'html' if '.html' in self.path else 'plain'}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as its base has it
        pass


@pytest.fixture
def host() -> Generator[tuple[str, str]]:
    """This machine's name and address, where pages are served at the port of the web."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
        pages = http.server.ThreadingHTTPServer((address, HTTP_PORT), Pages)
    except OSError as error:
        pytest.skip(f"no page can be served at http://{name}/: {error}")
    with pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield name, address
        pages.shutdown()


def test_pages_are_fetched_from_allowed_hosts_alone(
    shop: Project, locked: Locked, host: tuple[str, str]
) -> None:
    name, address = host
    definition = HELPER + uvx("fetch", FETCH, "--allow-private-ips", "--ignore-robots-txt")
    definition += f'allowedDomains = ["{name}"]\n'
    egress = {"PERITUS_EGRESS_ALLOW_CIDRS": f"{address}/32"}
    project = replace(shop, settings={**shop.settings, **egress})
    project.write("perstack.toml", definition)
    project.write("perstack.lock", locked(definition))

    outcome = played(
        project,
        turn(call("fetch", url=f"http://{name}/page.txt")),
        turn(call("fetch", url="http://other.example/page.txt"), expect=(PAGE,)),
        turn(call("prompt_fetch", url=f"http://{name}/page.txt"), expect=("403",)),
        turn(call("fetch", url=f"http://{name}/page.html", raw=True), expect=(PAGE,)),
        turn(expect=(f"<p>{PAGE}</p>",)),
    )

    calls = ended(outcome)
    assert [one["outcome"] for one in calls] == ["succeeded", "failed", "succeeded", "succeeded"]
    counted = [
        one["event"] for one in outcome.events if one["event"]["type"] == "egress.counted.v1"
    ]
    rows = [
        (one["call"], row["host"], row["verdict"], row["reason"])
        for one in counted
        for row in one["rows"]
    ]
    assert rows == [
        (calls[0]["call"], name, "allowed", ""),
        (calls[1]["call"], "other.example", "denied", "not_allowed"),
        (calls[2]["call"], name, "allowed", ""),
        (calls[3]["call"], name, "allowed", ""),
    ]


def test_without_the_operators_word_no_address_of_this_machine_is_reached(
    shop: Project, locked: Locked, host: tuple[str, str]
) -> None:
    name, _ = host
    definition = HELPER + uvx("fetch", FETCH, "--allow-private-ips", "--ignore-robots-txt")
    definition += f'allowedDomains = ["{name}"]\n'
    shop.write("perstack.toml", definition)
    shop.write("perstack.lock", locked(definition))

    outcome = played(
        shop, turn(call("fetch", url=f"http://{name}/page.txt")), turn(expect=("403",))
    )

    (counted,) = [
        one["event"] for one in outcome.events if one["event"]["type"] == "egress.counted.v1"
    ]
    assert [(row["verdict"], row["reason"]) for row in counted["rows"]] == [("denied", "address")]
