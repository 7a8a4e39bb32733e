"""Real packages of the real registries, fetched once for all tests. Not our own registry.

A machine may reach its registries at addresses that are not public, with certificates of its own:
how it does is found out here, and told to the product by the settings that operators have for it.
"""

import functools
import shutil
import socket
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"
FILESYSTEM = "@modelcontextprotocol/server-filesystem@2026.8.31"
MEMORY = "@modelcontextprotocol/server-memory@2026.8.31"
GIT = "mcp-server-git@2026.10.19"
FETCH = "mcp-server-fetch@2026.10.24"
"""The servers that are tried, each at one version: another one may say other things."""

NPM, PYPI = "https://registry.npmjs.org/", "https://pypi.org/simple/"
HOSTS = ("registry.npmjs.org", "pypi.org", "files.pythonhosted.org")
ASK_S = 15.0

PACKAGES = Path(tempfile.gettempdir()) / "peritus-tests-packages"
"""Where fetched packages are kept, for all tests of this machine."""


@functools.cache
def missing() -> str | None:
    """Why no package can be had here."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed: apt-get install --no-install-recommends nodejs npm"
    for url in (NPM, PYPI):
        try:
            urllib.request.urlopen(url, timeout=ASK_S).close()
        except (urllib.error.URLError, OSError) as error:
            return f"{url} does not answer: {error}"
    return None


@functools.cache
def settings() -> Mapping[str, str]:
    """What an operator of this machine sets so that packages are fetched."""
    found = {"PERITUS_PACKAGES_DIR": str(PACKAGES), "PERITUS_PACKAGES_CA_FILE": _certificates()}
    return {name: value for name, value in (found | _private()).items() if value}


def _private() -> dict[str, str]:
    """The addresses of the registries that are not public here."""
    found = {ip_address(info[4][0]) for host in HOSTS for info in socket.getaddrinfo(host, 443)}
    networks = sorted(f"{one}/{one.max_prefixlen}" for one in found if not one.is_global)
    return {"PERITUS_PACKAGES_ALLOW_CIDRS": ",".join(networks)}


def _certificates() -> str:
    """The file of certificates that this machine trusts, which may have more than others do."""
    paths = ssl.get_default_verify_paths()
    return str(paths.cafile or paths.openssl_cafile or "")
