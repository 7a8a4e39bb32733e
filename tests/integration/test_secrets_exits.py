"""No value leaves by a log line, an error, an answer or LIVE (C15). Not the log of runs."""

import base64
import io
import json
import logging
from pathlib import Path

import pytest
from starlette.requests import Request

from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from domain.redaction import Redactor
from eventlog.embedded import join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from eventlog.memory.server import MemoryServer
from gateway.app import create_app
from gateway.problems import answer
from peritus.cli.errors import report
from peritus.cli.loop import notice
from peritus.keys import Keys, learn_own, needs_of, open_secrets
from peritus.logs import REDACTIONS, RedactingFormatter
from peritus.settings import Settings
from services.secrets.redactions import Redactions
from services.worker.live import LiveDelta, LiveOutput, LiveReply, LiveToolOutput
from tests.support.canary import Canary, listening, plant, together
from tests.support.gateway import DEFINITION, deps_of

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job1", "root")


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return plant(tmp_path / "planted")


@pytest.fixture
def known(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> Redactions:
    """The registry of this process, which knows the canary and forgets it afterwards."""
    fresh = Redactions()
    fresh.add_all(canary.values.items())
    monkeypatch.setattr(REDACTIONS, "_redactor", fresh.redactor())
    return fresh


def test_the_canary_is_in_every_source_and_found_in_every_form(canary: Canary) -> None:
    """The search itself: what cannot find a planted value proves nothing."""
    source = open_secrets(canary.config, redactions=Redactions(), audit=lambda _: None)
    found = {place.name: place.source for place in source.names_now()}
    assert set(found) == set(canary.values) - {"CANARY_ENVIRONMENT"}
    for name, value in canary.values.items():
        for data in (
            value,
            base64.b64encode(f"x{value}".encode()).decode(),
            value.encode().hex(),
            json.dumps({"a": value}),
        ):
            assert canary.shown_in("here", data) == [f"here: {name}"]
    assert canary.shown_in("here", "nothing of it") == []


def test_the_canary_is_found_in_files_but_for_those_it_was_planted_in(
    canary: Canary, tmp_path: Path
) -> None:
    assert canary.shown_below(tmp_path) == []
    leak = tmp_path / "planted" / "leak.log"
    leak.write_text(f"oops {canary.values['CANARY_STORE']}")
    assert canary.shown_below(tmp_path) == [f"{leak}: CANARY_STORE"]


@pytest.mark.broker
async def test_the_canary_is_found_in_streams(canary: Canary, tmp_path: Path) -> None:
    value = canary.values["CANARY_FOLDER"]
    async with (
        join_state_folder(tmp_path / "state", "process") as endpoint,
        connect_backbone(
            endpoint.url, token=endpoint.token, prefix="peritus", durability="process"
        ) as backbone,
    ):
        clean = await canary.shown_in_streams(endpoint.url, endpoint.token, "peritus")
        await backbone.blobs.put("acme", f"<{value}>".encode())
        await backbone.dead.put(REF, value.encode().hex().encode(), "why")
        found = await canary.shown_in_streams(endpoint.url, endpoint.token, "peritus")
    assert clean == []
    assert sorted(line.partition("[")[0] for line in found) == ["PERITUS_BLOBS", "PERITUS_DEAD"]


def fail(error: Exception) -> None:
    raise error


def test_a_log_line_and_its_traceback_show_no_value(canary: Canary, known: Redactions) -> None:
    del known
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logger = logging.getLogger("tests.canary")
    logger.propagate = False
    logger.addHandler(handler)
    for value in canary.values.values():
        try:
            fail(ValueError(f"bad header {value}"))
        except ValueError:
            logger.exception("a request with %s failed", base64.b64encode(value.encode()).decode())
    logger.removeHandler(handler)
    assert "Traceback" in out.getvalue()
    assert "ValueError: bad header [secret:CANARY_STORE]" in out.getvalue()
    assert canary.shown_in("the log", out.getvalue()) == []


@pytest.mark.parametrize("debug", [False, True])
def test_no_error_of_the_command_line_shows_a_value(
    canary: Canary, known: Redactions, capsys: pytest.CaptureFixture[str], *, debug: bool
) -> None:
    del known
    value = canary.values["CANARY_ENV_FILE"]
    for error in (
        Rejected("x", f"no {value}"),
        OSError(2, value),
        ValueError(value),
        Unavailable(),
    ):
        try:
            fail(error)
        except Exception as raised:  # noqa: BLE001 - as it arrives at the boundary
            report(raised, debug=debug)
    notice(f"two\nlines of {value}")
    said = capsys.readouterr().err
    assert canary.shown_in("standard error", said) == []
    assert said.count("[secret:CANARY_ENV_FILE]") == (7 if debug else 4)
    assert ("Traceback" in said) is debug


async def test_no_answer_of_the_gateway_shows_a_value(canary: Canary, tmp_path: Path) -> None:
    value = canary.values["CANARY_FOLDER"]
    deps = deps_of(
        MemoryServer(now_ms=lambda: 0).backbone(), tmp_path, redactor=lambda: canary.redactor
    )
    request = Request({"type": "http", "app": create_app(deps)})
    got = await answer(request, Rejected("no_such_thing", f"no {json.dumps(value)} here"))
    body = bytes(got.body)
    assert b"[secret:CANARY_FOLDER]" in body
    assert canary.shown_in("the answer", body) == []


async def test_live_output_shows_no_value_however_it_is_cut(canary: Canary) -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    value = canary.values["CANARY_STORE"]
    text = f"before {value} and {value.encode().hex()} after {value[:5]}"
    async with listening(backbone) as heard:
        output = LiveOutput(backbone.live, REF, "c1", redactor=lambda: canary.redactor)
        for at in range(0, len(text), 3):
            await output(text[at : at + 3])
        await output.end()
    pieces = [LiveToolOutput.model_validate_json(piece) for piece in heard.pieces]
    said = "".join(piece.text for piece in pieces)
    assert said == f"before [secret:CANARY_STORE] and [secret:CANARY_STORE] after {value[:5]}"
    assert [piece.offset for piece in pieces] == [
        len("".join(one.text for one in pieces[:index])) for index in range(len(pieces))
    ]
    assert canary.shown_in("LIVE", together(heard.pieces)) == []


async def test_a_live_reply_shows_no_value_and_ends_a_part_before_the_next(canary: Canary) -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    value = canary.values["CANARY_STORE"]
    async with listening(backbone) as heard:
        reply = LiveReply(backbone.live, REF, 1, 2, redactor=lambda: canary.redactor)
        await reply.tell("text", 0, f"it is {value[:7]}")
        await reply.tell("text", 0, f"{value[7:]}. {value[:4]}")
        await reply.tell("arguments", 1, '{"a": "', tool="exec")
        await reply.tell("arguments", 1, f'{value}"}}', tool="exec")
        await reply.end()
    pieces = [LiveDelta.model_validate_json(piece) for piece in heard.pieces]
    said = [(one.kind, one.part, one.offset, one.text, one.tool) for one in pieces]
    assert said == [
        ("text", 0, 0, "it is ", ""),
        ("text", 0, 6, "[secret:CANARY_STORE]. ", ""),
        ("text", 0, 29, value[:4], ""),
        ("arguments", 1, 0, '{"a": "', "exec"),
        ("arguments", 1, 7, '[secret:CANARY_STORE]"}', "exec"),
    ]


def test_a_key_from_any_place_is_used_and_then_hidden(canary: Canary) -> None:
    redactions = Redactions()
    keys = Keys.of(open_secrets(canary.config, redactions=redactions, audit=lambda _: None))
    name = "CANARY_STORE"
    assert redactions.redactor().text(canary.values[name]) == canary.values[name]
    assert keys(name) == canary.values[name]
    assert redactions.redactor().text(canary.values[name]) == "[secret:CANARY_STORE]"
    assert keys("NONE") is None
    assert keys.looked_in.startswith("the environment, ")


def test_tokens_of_the_settings_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERITUS_NATS_TOKEN", "token-of-the-server")
    redactions = Redactions()
    learn_own(Settings(), redactions)
    assert redactions.redactor().text("-token-of-the-server-") == "-[secret:PERITUS_NATS_TOKEN]-"


def test_a_definition_says_what_it_needs() -> None:
    assert needs_of(DEFINITION) == []  # its experts are played by a script


def test_a_redactor_that_knows_nothing_changes_nothing() -> None:
    assert Redactor().text("anything") == "anything"
    assert Redactor().finds(b"anything") is None
