"""What programs in a sandbox must be told to find the proxy and to trust it. Not what it allows."""

from collections.abc import Mapping
from pathlib import Path

from services.sandbox.port import FILES_FOLDER, PROXY_PORT

PROXY = f"http://127.0.0.1:{PROXY_PORT}"
NOT_PROXIED = "localhost,127.0.0.1,::1"
TRUSTED = "ca.pem"
"""All certificates to trust: for programs that take a file instead of what they know."""

OWN = "own-ca.pem"
"""Those certificates that the system does not know: for programs that take a file beside it."""

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
INSTEAD = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
)
BESIDE = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")


class Surroundings:
    """The variables and files of sandboxes with egress."""

    def __init__(self, roots: str | None, extra_ca_file: str | None) -> None:
        self._roots = roots
        self._extra_ca_file = extra_ca_file
        self._files: dict[str, dict[str, bytes]] = {}

    def env(self, certificate: str | None) -> dict[str, str]:
        """Variables, both cases of those that programs read in either."""
        found = {
            **dict.fromkeys(PROXY_VARIABLES, PROXY),
            "NO_PROXY": NOT_PROXIED,
        }
        found |= {name.lower(): value for name, value in found.items()}
        found["NODE_USE_ENV_PROXY"] = "1"
        if self.files(certificate):
            found |= dict.fromkeys(INSTEAD, f"{FILES_FOLDER}/{TRUSTED}")
            found |= dict.fromkeys(BESIDE, f"{FILES_FOLDER}/{OWN}")
        return found

    def files(self, certificate: str | None) -> Mapping[str, bytes]:
        """The files those variables name; none where there is nobody to trust but the system.

        Raises:
            OSError: a file of certificates cannot be read.
        """
        key = certificate or ""
        if key not in self._files:
            own = key.encode() + _read(self._extra_ca_file)
            self._files[key] = {TRUSTED: _read(self._roots) + own, OWN: own} if own else {}
        return self._files[key]


def _read(file: str | None) -> bytes:
    return Path(file).read_bytes().rstrip() + b"\n" if file else b""
