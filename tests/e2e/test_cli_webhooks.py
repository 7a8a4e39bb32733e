"""Webhooks with the real command: added, told by a gateway, tested, removed."""

import http.server
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_project import BOUND_S, DEFINITION, Project

pytestmark = pytest.mark.broker

ALLOWED = {"PERITUS_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", "PERITUS_GATEWAY_PORT": "0"}

Got = queue.Queue[tuple[dict[str, str], dict[str, object]]]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Got]]:
    """The address of a program, and what it is told."""
    got: Got = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.put((dict(self.headers), json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/in", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_webhook_is_told_of_a_run(tmp_path: Path, receiver: tuple[str, Got]) -> None:
    url, got = receiver
    project = Project(tmp_path, ALLOWED)
    project.write("perstack.toml", DEFINITION)
    project.write("script.toml", '[[reply]]\ntext = "Done."\n')
    added = project.peritus("webhooks", "add", url, "--type", "run.")
    assert added.code == 0, added.said
    (hook,) = added.events
    assert str(hook["secret"]).startswith("whsec_")
    tested = project.peritus("webhooks", "test", hook["id"])
    assert tested.code == 0, tested.said
    headers, _ = got.get(timeout=BOUND_S)
    assert headers["Peritus-Event"] == "webhook.test.v1"

    gateway = project.start("serve", "gateway")
    try:
        assert project.run("script.toml", "--job", "told").code == 0
        found: list[str] = []
        while "run.completed.v2" not in found:
            headers, body = got.get(timeout=BOUND_S)
            assert body["job"] == "told"
            found.append(headers["Peritus-Event"])
    finally:
        gateway.kill()
    assert found[0] == "run.started.v2"

    (listed,) = project.peritus("webhooks", "list").events
    assert (listed["url"], listed["disabled"], listed["failures"]) == (url, None, 0)
    assert "secret" not in listed
    assert project.peritus("webhooks", "remove", hook["id"]).code == 0
    assert project.peritus("webhooks", "remove", hook["id"]).code == 6
    assert project.peritus("webhooks", "list").events == []


def test_an_address_without_tls_needs_a_setting(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("perstack.toml", DEFINITION)
    refused = project.peritus("webhooks", "add", "http://127.0.0.1:9/in")
    assert refused.code == 6
    assert "https://" in refused.said
