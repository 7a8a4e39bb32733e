"""Secrets that are put in at egress: only their own hosts ever see them (C15)."""

import asyncio
import base64
import gzip
import json
import sys
import urllib.parse
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from domain.sandbox import SecretGrant
from services.sandbox.egress.tally import SecretUse
from tests.integration.egress_world import GOOD, Reply, World, body, world

pytestmark = pytest.mark.anyio

KEY = "sk-canary/7f3A+9Zq==&x%41\"'<\\"
OTHER = "another-canary-0123456789"
GRANTS = (
    SecretGrant(name="KEY", deliver="egress", hosts=("api.test", "forged.wild.test")),
    SecretGrant(name="OTHER", deliver="egress", hosts=("*.wild.test",)),
)


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    folder = tmp_path_factory.mktemp("secrets")
    async with world(folder, secrets={"KEY": KEY, "OTHER": OTHER}, grants=GRANTS) as made:
        yield made


@pytest.fixture
async def here(shared: World) -> World:
    await shared.forget()
    return shared


def replying(data: bytes, *headers: bytes) -> Reply:
    async def reply(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del head, reader
        writer.write(body(data, *headers))

    return reply


async def repeat(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the head of the request, and repeats its authorization in the head."""
    del reader
    said = [line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization")]
    writer.write(body(head, *(b"X-Said: " + line for line in said)))


def key_of(here: World) -> str:
    return here.prepared.stand_ins["KEY"]


async def test_a_sandbox_holds_a_stand_in_of_the_same_length(here: World) -> None:
    token = here.prepared.env["KEY"]
    assert token == key_of(here)
    assert len(token) == len(KEY)
    assert token.isalnum()
    assert KEY not in repr(here.prepared)
    assert token not in repr(here.prepared.policy)
    assert here.prepared.missing == {}


async def test_its_host_sees_the_value_and_the_sandbox_the_stand_in(here: World) -> None:
    here.safe.reply = repeat
    code, said = await here.curl(
        "-i", "-H", f"Authorization: Bearer {key_of(here)}", "-H", "Range: bytes=0-3",
        "--compressed", f"https://api.test:{here.safe.port}/v1",
    )  # fmt: skip
    assert code == 0
    (head,) = here.safe.heads
    assert f"Authorization: Bearer {KEY}\r\n".lower().encode() in head.lower()
    assert b"accept-encoding: identity\r\n" in head
    assert b"range" not in head.lower()
    assert KEY not in said
    assert said.lower().count(f"bearer {key_of(here)}".lower()) == 2
    tally = await here.session.take()
    assert tally.uses == (SecretUse(secret="KEY", host="api.test", method="GET", status=200),)
    assert [(row.host, row.verdict) for row in tally.rows] == [("api.test", "allowed")]
    assert KEY not in tally.model_dump_json()


FETCH = """
import os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"X-Api-Key": os.environ["KEY"]})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


async def test_python_trusts_the_proxy_by_its_variables(here: World) -> None:
    here.safe.reply = repeat
    code, said = await here.run(sys.executable, "-c", FETCH, f"https://api.test:{here.safe.port}/")
    assert code == 0
    assert KEY.encode() in here.safe.heads[0]
    assert KEY not in said
    assert key_of(here) in said


async def test_node_finds_proxy_and_authority_by_its_variables(here: World) -> None:
    here.safe.reply = repeat
    script = """fetch(process.argv[1], {headers: {'x-api-key': process.env.KEY}})
        .then(r => r.text()).then(console.log, e => console.log(e.cause ?? e))"""
    code, said = await here.run("node", "-e", script, f"https://api.test:{here.safe.port}/")
    if "EAI_AGAIN" in said or "ENOTFOUND" in said:
        pytest.skip("this node does not know NODE_USE_ENV_PROXY")
    assert code == 0
    assert key_of(here) in said
    assert KEY.encode() in here.safe.heads[0]


async def test_basic_authorization_is_swapped_inside(here: World) -> None:
    here.safe.reply = repeat
    url = f"https://api.test:{here.safe.port}/"
    code, said = await here.curl("-u", f"me:{key_of(here)}", url)
    assert code == 0
    whole = base64.b64encode(f"me:{KEY}".encode())
    assert b"Basic " + whole in here.safe.heads[0]
    assert whole.decode() not in said
    assert OTHER not in said


@pytest.mark.parametrize(
    "url",
    [
        "https://up.test:{safe}/",  # allowed, tunnelled, not the secret's
        "https://a.wild.test:{safe}/",  # another secret's
        "http://api.test:{web}/",  # the secret's, in the clear
    ],
)
async def test_the_stand_in_stays_one_anywhere_else(here: World, url: str) -> None:
    args = ["-k", "-H", f"Authorization: {key_of(here)}"]
    code, said = await here.curl(*args, url.format(safe=here.safe.port, web=here.web.port))
    assert (code, said) == (0, "hello")
    (head,) = here.safe.heads + here.web.heads
    assert f"authorization: {key_of(here)}".encode() in head.replace(b"Auth", b"auth")
    assert (await here.session.take()).uses == ()


async def test_a_redirect_does_not_carry_the_value_away(here: World) -> None:
    """C16: redirect; the client follows with its header, which holds the stand-in."""
    location = f"Location: http://{GOOD}:{here.web.port}/".encode()

    async def redirect(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del head, reader
        writer.write(body(b"", location, status=b"307 Elsewhere"))

    here.safe.reply = redirect
    code, _ = await here.curl(
        "--location-trusted", "-H", f"Authorization: {key_of(here)}",
        f"https://api.test:{here.safe.port}/",
    )  # fmt: skip
    assert code == 0
    assert KEY.encode() in here.safe.heads[0]
    assert KEY.encode() not in here.web.heads[0]


FORMS = {
    "plain": KEY,
    "base64": base64.b64encode(f"x{KEY}y".encode()).decode(),
    "base64 of more": base64.b64encode(f"xy{KEY}z".encode()).decode(),
    "url-safe base64": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "hex": KEY.encode().hex(),
    "upper hex": KEY.encode().hex().upper(),
    "quoted": urllib.parse.quote(KEY, safe=""),
    "json": json.dumps({"key": KEY}),
    "two": f"{KEY}{KEY} {OTHER}{KEY}",
}


def core_of(form: str) -> str:
    """What must not get through: for base64, without the characters shared with what is around."""
    if form == "two":
        return KEY
    text = FORMS[form]
    return text[4:-8] if "base64" in form else text.removeprefix('{"key": ').strip('"}')


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 1000])
async def test_no_answer_repeats_a_value_in_any_form_or_cut(
    here: World, form: str, size: int
) -> None:
    content = f"before {FORMS[form]} after".encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]

    async def chunked(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del head, reader
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    here.safe.reply = chunked
    code, said = await here.curl(f"https://api.test:{here.safe.port}/")
    assert code == 0
    assert len(said) == len(content)
    assert said.startswith("before ")
    assert said.endswith(" after")
    assert core_of(form) not in said
    assert KEY not in said
    assert OTHER not in said


async def test_a_length_that_was_said_stays_true(here: World) -> None:
    here.safe.reply = replying(f"[{KEY}]".encode(), b"Set-Cookie: k=" + KEY.encode())
    code, said = await here.curl("-i", f"https://api.test:{here.safe.port}/")
    assert code == 0  # neither too short nor too long
    assert f"[{key_of(here)}]" in said
    assert f"k={key_of(here)}" in said


async def test_a_compressed_answer_is_read_or_refused(here: World) -> None:
    url = f"https://api.test:{here.safe.port}/"
    packed = gzip.compress(f"[{KEY}]".encode() * 5000)
    here.safe.reply = replying(packed, b"Content-Encoding: gzip")
    code, said = await here.curl("--compressed", url)
    assert (code, said) == (0, f"[{key_of(here)}]" * 5000)
    here.safe.reply = replying(packed[:-9], b"Content-Encoding: gzip")
    code, said = await here.curl("--compressed", url)
    assert code != 0
    here.safe.reply = replying(b"?", b"Content-Encoding: br")
    code, said = await here.curl(url)
    assert "encoded_response" in said
    assert ("api.test", "failed", "encoded_response") in await here.rows()


@pytest.mark.parametrize("host", ["up.test", "evil.test", "api.test.evil.test", "api.test:1"])
async def test_inside_tls_the_host_header_is_checked_too(here: World, host: str) -> None:
    code, said = await here.curl(
        "-H", f"Host: {host}", "-H", f"Authorization: {key_of(here)}",
        f"https://api.test:{here.safe.port}/",
    )  # fmt: skip
    assert code == 0
    assert json.loads(said)["reason"] == "host_mismatch"
    assert here.safe.heads == []
    assert ("api.test", "denied", "host_mismatch") in await here.rows()


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "BREW"])
async def test_inside_tls_odd_methods_are_refused(here: World, method: str) -> None:
    code, said = await here.curl("-X", method, f"https://api.test:{here.safe.port}/")
    assert code == 0
    assert json.loads(said)["reason"] == "method"
    assert here.safe.heads == []


async def test_a_host_that_cannot_prove_its_name_gets_nothing(here: World) -> None:
    """`forged.wild.test` is not in the certificate of the server its name leads to."""
    code, said = await here.curl(
        "-H", f"Authorization: {key_of(here)}", f"https://forged.wild.test:{here.safe.port}/"
    )
    assert code == 0
    assert json.loads(said)["reason"] == "upstream_tls"
    assert here.safe.heads == []


async def test_a_secret_of_one_sandbox_is_nothing_in_another(here: World) -> None:
    prepared = await here.broker.prepare(here.prepared.policy)
    assert prepared.stand_ins["KEY"] != key_of(here)
    here.safe.reply = repeat
    code, _ = await here.curl(
        "-H", f"Authorization: {prepared.stand_ins['KEY']}", f"https://api.test:{here.safe.port}/"
    )
    assert code == 0
    assert prepared.stand_ins["KEY"].encode() in here.safe.heads[0]


async def test_a_secret_that_is_not_there_is_said_to_be(here: World) -> None:
    (here.folder / "vault" / "SHORT").write_text("abc")
    more = (SecretGrant(name=name, deliver="egress") for name in ("NOWHERE", "SHORT"))
    grants = (*GRANTS, *more)
    policy = here.prepared.policy.model_copy(update={"secrets": grants})
    prepared = await here.broker.prepare(policy)
    assert set(prepared.missing) == {"NOWHERE", "SHORT"}
    assert "NOWHERE" not in prepared.env
    assert "abc" not in str(prepared.missing)


async def test_without_secrets_nobody_ends_tls(here: World, tmp_path: Path) -> None:
    async with world(tmp_path, settings={"extra_ca_file": None}) as without:
        assert without.prepared.files == {}
        assert "SSL_CERT_FILE" not in without.prepared.env
    assert set(here.prepared.files) == {"ca.pem", "own-ca.pem"}
    assert b"PRIVATE" not in b"".join(here.prepared.files.values())
