"""The first message of TLS: read in any pieces, never beyond its end, and nothing else is one."""

import ssl

import pytest

from services.sandbox.egress.hello import HELLO_MAX, Hello, read_hello
from services.sandbox.egress.refusals import Reason, Refused


def hello_of(name: str | None) -> bytes:
    """What a real client says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def message(*extensions: bytes) -> bytes:
    """The body of a ClientHello with some extensions."""
    joined = b"".join(extensions)
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += len(joined).to_bytes(2, "big") + joined
    return b"\x01" + len(body).to_bytes(3, "big") + body


def record(data: bytes) -> bytes:
    return b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def names(*hosts: bytes, kind: int = 0) -> bytes:
    listed = b"".join(bytes([kind]) + len(host).to_bytes(2, "big") + host for host in hosts)
    return extension(0, len(listed).to_bytes(2, "big") + listed)


def test_a_real_hello_names_its_host() -> None:
    assert read_hello(hello_of("Api.Example.com")) == Hello("api.example.com", encrypted=False)


def test_a_real_hello_without_a_name_names_none() -> None:
    assert read_hello(hello_of(None)) == Hello(None, encrypted=False)


def test_no_beginning_of_it_is_complete() -> None:
    whole = hello_of("example.com")
    assert all(read_hello(whole[:size]) is None for size in range(len(whole)))
    assert read_hello(whole + b"more") == Hello("example.com", encrypted=False)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_it_is_put_together_from_records(size: int) -> None:
    body = hello_of("example.com")[5:]
    pieces = [record(body[at : at + size]) for at in range(0, len(body), size)]
    assert read_hello(b"".join(pieces)) == Hello("example.com", encrypted=False)
    assert read_hello(b"".join(pieces[:-1])) is None


def test_one_that_hides_another_is_seen() -> None:
    found = read_hello(record(message(names(b"a.test"), extension(0xFE0D, b"\x00"))))
    assert found == Hello("a.test", encrypted=True)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x80\x2e\x01\x03\x01",  # the hello of SSL 2
        b"\x16\x02\x00\x00\x10",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x17\x03\x03\x00\x10",
        record(b"\x02" + message()[1:]),
        record(message(names(b"a.test"), names(b"b.test"))),
        record(message(names(b"a.test", b"b.test"))),
        record(message(names(b"a.test", kind=1))),
        record(message(names(b"\xff.test"))),
        record(message(extension(0, b""))),
        record(message(extension(0, b"\x00\xff\x00\x00\x06a.test"))),
        record(message(b"\x00\x00\xff\xff")),
        record(message() + b"")[:-2] + b"\x00\x09",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_hello(data)
    assert refused.value.reason == Reason.NOT_TLS


def test_one_without_end_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        read_hello(record(b"\x01" + (HELLO_MAX + 1).to_bytes(3, "big") + bytes(100)))
    assert refused.value.reason == Reason.TOO_LARGE
    with pytest.raises(Refused) as refused:
        read_hello(record(b"\x01\x00") * 1 + record(b"\x40") + record(b"\x00") * 12000)
    assert refused.value.reason == Reason.TOO_LARGE
