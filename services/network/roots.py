"""Where the system keeps the certificates it trusts. Not whom a proxy of ours vouches for."""

import ssl
from pathlib import Path

USUAL = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def system_roots() -> str | None:
    """The file of trusted certificates (PEM), or None where there is none.

    SSL_CERT_FILE of the environment comes first, as it does for everything else.
    """
    candidates = (ssl.get_default_verify_paths().cafile, *USUAL)
    return next((file for file in candidates if file and Path(file).is_file()), None)
