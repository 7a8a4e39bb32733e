"""What a proxy may be asked for: hostile spellings of names and addresses, and what is allowed."""

import pytest
from pydantic import ValidationError

from domain.sandbox import SandboxSettings, SecretGrant
from services.sandbox.egress.names import (
    Where,
    absolute_target,
    clean_host,
    connect_target,
    shown,
)
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.egress.refusals import FAILURES, SENTENCES, Reason, Refused


@pytest.mark.parametrize(
    ("target", "where"),
    [
        (b"example.com:443", ("example.com", 443)),
        (b"EXAMPLE.com:443", ("example.com", 443)),
        (b"example.com.:443", ("example.com", 443)),
        (b"xn--bcher-kva.example:80", ("xn--bcher-kva.example", 80)),
        (b"a-1.b2.example:65535", ("a-1.b2.example", 65535)),
        (b"1password.com:443", ("1password.com", 443)),
    ],
)
def test_a_tunnel_is_for_a_cleaned_name(target: bytes, where: tuple[str, int]) -> None:
    assert connect_target(target) == where


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"127.0.0.1:443", Reason.IP_LITERAL),
        (b"127.1:443", Reason.IP_LITERAL),
        (b"2130706433:443", Reason.IP_LITERAL),
        (b"0x7f000001:443", Reason.IP_LITERAL),
        (b"0x7f.1:443", Reason.IP_LITERAL),
        (b"0X7F.0.0.0x1:443", Reason.IP_LITERAL),
        (b"017700000001:443", Reason.IP_LITERAL),
        (b"127.0.0.1.:443", Reason.IP_LITERAL),
        (b"example.com.0x:443", Reason.IP_LITERAL),
        (b"169.254.169.254:80", Reason.IP_LITERAL),
        (b"[::1]:443", Reason.IP_LITERAL),
        (b"[::ffff:127.0.0.1]:443", Reason.IP_LITERAL),
        (b"[fd00:ec2::254]:80", Reason.IP_LITERAL),
        (b"[fe80::1%25eth0]:80", Reason.IP_LITERAL),
        (b"::1:443", Reason.IP_LITERAL),
        (b"user@example.com:443", Reason.USERINFO),
        (b"example.com@evil.test:443", Reason.USERINFO),
        (b"example.com", Reason.BAD_REQUEST),
        (b"example.com:", Reason.BAD_REQUEST),
        (b"example.com:443:443", Reason.BAD_REQUEST),
        (b"example.com:+443", Reason.BAD_REQUEST),
        (b"example.com:0443443", Reason.BAD_REQUEST),
        (b"https://example.com:443", Reason.BAD_REQUEST),
        (b"/", Reason.BAD_REQUEST),
        (b"*", Reason.BAD_REQUEST),
        (b":443", Reason.BAD_NAME),
        (b".example.com:443", Reason.BAD_NAME),
        (b"example.com..:443", Reason.BAD_NAME),
        (b"exa mple.com:443", Reason.BAD_NAME),
        (b"example.com\t:443", Reason.BAD_NAME),
        (b"example%2ecom:443", Reason.BAD_NAME),
        (b"ex_ample.com:443", Reason.BAD_NAME),
        (b"-example.com:443", Reason.BAD_NAME),
        (b"example.com\x00.evil.test:443", Reason.BAD_NAME),
        (b"ex\xc3\xa4mple.com:443", Reason.BAD_NAME),
        (b"example.com\xe2\x80\xa4evil:443", Reason.BAD_NAME),  # one dot leader
        (b"*.example.com:443", Reason.BAD_NAME),
        (b"a" * 64 + b".com:443", Reason.BAD_NAME),
        (b"a." * 127 + b"com:443", Reason.BAD_NAME),
    ],
)
def test_a_tunnel_for_anything_else_is_refused(target: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        connect_target(target)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("target", "where", "path"),
    [
        (b"http://example.com/a?b=c", ("example.com", 80), b"/a?b=c"),
        (b"HTTP://Example.COM.:8080", ("example.com", 8080), b"/"),
        (b"http://example.com?x=1", ("example.com", 80), b"/?x=1"),
        (b"http://example.com//evil.test/", ("example.com", 80), b"//evil.test/"),
    ],
)
def test_a_request_is_for_a_cleaned_name(
    target: bytes, where: tuple[str, int], path: bytes
) -> None:
    assert absolute_target(target) == (where, path)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"/", Reason.BAD_REQUEST),
        (b"*", Reason.BAD_REQUEST),
        (b"//example.com/", Reason.BAD_REQUEST),
        (b"http:example.com/", Reason.BAD_REQUEST),
        (b"http:///example.com/", Reason.BAD_NAME),
        (b"http://", Reason.BAD_NAME),
        (b"http://example.com/#fragment", Reason.BAD_REQUEST),
        (b"https://example.com/", Reason.SCHEME),
        (b"ftp://example.com/", Reason.SCHEME),
        (b"file:///etc/passwd", Reason.SCHEME),
        (b"gopher://example.com/", Reason.SCHEME),
        (b"http://user:pass@example.com/", Reason.USERINFO),
        (b"http://example.com@evil.test/", Reason.USERINFO),
        (b"http://example.com:80@evil.test/", Reason.USERINFO),
        (b"http://example.com\\@evil.test/", Reason.USERINFO),
        (b"http://example.com\\.evil.test/", Reason.BAD_REQUEST),
        (b"http://127.0.0.1/", Reason.IP_LITERAL),
        (b"http://0/", Reason.IP_LITERAL),
        (b"http://[::]/", Reason.IP_LITERAL),
        (b"http://%6c%6fcalhost/", Reason.BAD_NAME),
        (
            b"http://\xe2\x84\xaaubernetes/",
            Reason.BAD_NAME,
        ),  # the Kelvin sign is a `k` in lower case
    ],
)
def test_a_request_for_anything_else_is_refused(target: bytes, reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        absolute_target(target)
    assert refused.value.reason == reason


def test_a_refusal_knows_the_port_it_was_for() -> None:
    with pytest.raises(Refused) as refused:
        connect_target(b"127.0.0.1:22")
    assert (refused.value.host, refused.value.port) == ("127.0.0.1", 22)


def test_letters_that_only_look_like_ascii_in_lower_case_are_none() -> None:
    assert "\u212a".lower() == "k"
    with pytest.raises(Refused):
        clean_host("\u212a.example")


@pytest.mark.parametrize(
    ("host", "row"),
    [
        ("example.com", "example.com"),
        ("a b\r\nc\x1b[2J", "a-b--c--2J"),
        ("[::1]", "-::1-"),
        ("", "-"),
        ("x" * 300, "x" * 253),
    ],
)
def test_a_row_holds_only_plain_characters(host: str, row: str) -> None:
    assert shown(host) == row


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.com", True),
        ("www.example.com", False),
        ("a.wild.test", True),
        ("a.b.wild.test", True),
        ("wild.test", False),
        ("notwild.test", False),
        ("awild.test", False),
        ("example.com.evil.test", False),
        ("xn--bcher-kva.example", True),
    ],
)
def test_a_policy_allows_names_and_what_is_below_them(host: str, *, allowed: bool) -> None:
    policy = EgressPolicy(domains=("Example.com", "*.wild.test", "bücher.example"))
    assert policy.allows(host) is allowed


@pytest.mark.parametrize(
    "domain", ["*", "*.", "", "127.0.0.1", "*.1", "http://a.test", "a.test:443", "a.*.test", "a b"]
)
def test_a_policy_of_anything_else_is_none(domain: str) -> None:
    with pytest.raises(ValidationError):
        EgressPolicy(domains=(domain,))


def test_a_policy_has_the_secrets_that_are_delivered_at_egress() -> None:
    at_egress = SecretGrant(name="KEY", deliver="egress", hosts=("api.test",))
    settings = SandboxSettings(
        allowed_domains=("api.test",), secrets=(at_egress, SecretGrant(name="OTHER"))
    )
    policy = EgressPolicy.of(settings, ("b.test", "api.test"))
    assert policy.secrets == (at_egress,)
    assert policy.domains == ("api.test", "b.test")
    assert policy.bytes_max == settings.egress_bytes_max


def test_settings_take_networks_only() -> None:
    assert EgressSettings(allow_cidrs=("10.1.2.3/8",)).allow_cidrs == ("10.0.0.0/8",)
    with pytest.raises(ValidationError):
        EgressSettings(allow_cidrs=("everything",))


@pytest.mark.parametrize(
    "hosts", [{"*.a.test": "127.0.0.1"}, {"127.0.0.1": "127.0.0.1"}, {"a.test": "b.test"}]
)
def test_a_fixed_address_is_of_one_host(hosts: dict[str, str]) -> None:
    assert EgressSettings(hosts={"A.test.": "::1"}).hosts == {"a.test": "::1"}
    with pytest.raises(ValidationError):
        EgressSettings(hosts=hosts)


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Reason)
    assert {Reason.UNREACHABLE, Reason.BROKEN} <= FAILURES


def test_a_place_is_a_name_and_a_port() -> None:
    assert Where("a.test", 443) == ("a.test", 443)
