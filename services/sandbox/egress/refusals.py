"""Why the proxy says no: words for programs, sentences for people. Not where it says so."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a connection was not made, or was cut. The values are words of the log."""

    ADDRESS = "address"
    BAD_NAME = "bad_name"
    BAD_REQUEST = "bad_request"
    BYTE_LIMIT = "byte_limit"
    CONNECTIONS = "connections"
    ENCRYPTED_HELLO = "encrypted_hello"
    HOST_MISMATCH = "host_mismatch"
    IP_LITERAL = "ip_literal"
    METHOD = "method"
    NOT_ALLOWED = "not_allowed"
    NOT_TLS = "not_tls"
    NO_SNI = "no_sni"
    PORT = "port"
    SCHEME = "scheme"
    SMUGGLING = "smuggling"
    SNI_MISMATCH = "sni_mismatch"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    USERINFO = "userinfo"
    # What follows is nobody's fault here: it was allowed and did not work.
    BROKEN = "broken"
    ENCODED_RESPONSE = "encoded_response"
    UNREACHABLE = "unreachable"
    UNRESOLVED = "unresolved"
    UPSTREAM_TLS = "upstream_tls"


FAILURES = frozenset(
    {
        Reason.BROKEN,
        Reason.ENCODED_RESPONSE,
        Reason.UNREACHABLE,
        Reason.UNRESOLVED,
        Reason.UPSTREAM_TLS,
    }
)

SENTENCES = {
    Reason.ADDRESS: "The host's address is not a public one, and no operator has allowed it.",
    Reason.BAD_NAME: "This is not the name of a host: letters, digits, '-' and '.' are.",
    Reason.BAD_REQUEST: "This is not a request a proxy can carry out.",
    Reason.BYTE_LIMIT: "This sandbox has transferred all it may.",
    Reason.CONNECTIONS: "This sandbox has too many connections open; close some first.",
    Reason.ENCRYPTED_HELLO: "Encrypted Client Hello hides which host is meant; turn it off.",
    Reason.HOST_MISMATCH: "The Host header names another host than the request.",
    Reason.IP_LITERAL: "Only names can be reached, not addresses.",
    Reason.METHOD: "This method is not passed on.",
    Reason.NOT_ALLOWED: "The host is not among the allowed domains of this sandbox.",
    Reason.NOT_TLS: "Only TLS goes through a tunnel.",
    Reason.NO_SNI: "The TLS handshake does not say which host is meant (no SNI).",
    Reason.PORT: "This port is not open; 443 and 80 are.",
    Reason.SCHEME: "Only http:// is requested from a proxy; use CONNECT for https://.",
    Reason.SMUGGLING: "The length of the request's body is ambiguous.",
    Reason.SNI_MISMATCH: "The TLS handshake names another host than the request (SNI).",
    Reason.TIMEOUT: "Nothing complete arrived in time.",
    Reason.TOO_LARGE: "The head of the request is too large.",
    Reason.USERINFO: "A user name or password in front of the host is not passed on.",
    Reason.BROKEN: "The host ended the connection in the middle, or answered nonsense.",
    Reason.ENCODED_RESPONSE: "The host compressed its answer although it was asked not to.",
    Reason.UNREACHABLE: "The host is allowed, but it cannot be reached.",
    Reason.UNRESOLVED: "The host is allowed, but its name has no address.",
    Reason.UPSTREAM_TLS: "The host's certificate cannot be trusted, or TLS with it failed.",
}


class Refused(Exception):
    """A connection ends here. `host` and `port` are as far as they are known."""

    def __init__(self, reason: Reason, host: str = "", port: int = 0) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.host = host
        self.port = port

    @property
    def failed(self) -> bool:
        """Whether it was allowed and did not work, rather than denied."""
        return self.reason in FAILURES
