"""The commands that install packages into a workspace: run inside a sandbox. Not what is allowed.

Nothing of a package is run by them, unless an operator lets Python packages be built.
"""

from urllib.parse import urlsplit

from services.sandbox.packages.request import Request
from services.sandbox.packages.settings import PackageSettings
from services.sandbox.paths import MOUNT
from services.sandbox.port import Command

TREE = "tree"
"""What is installed, in the workspace of an installation."""

CACHE = "cache"
"""What is of no use afterwards."""

INTERPRETER = "interpreter"
"""The file that names the Python the packages are for: another one may not be able to use them."""

NOT_THERE = 86
"""The exit code that says: the installer itself is missing inside."""

NEEDS = {
    "npm": "node and npm (Debian: apt install nodejs npm)",
    "pypi": "python3 with pip (Debian: apt install python3-pip), or uv",
}

_NPM = f"""
command -v node >/dev/null && command -v npm >/dev/null || exit {NOT_THERE}
mkdir -p {TREE} && cd {TREE} && echo '{{"private": true}}' >package.json || exit 1
exec npm install --ignore-scripts --no-audit --no-fund --no-update-notifier --no-progress \\
  --omit=dev --cache={MOUNT}/{CACHE} --userconfig={MOUNT}/{CACHE}/user \\
  --globalconfig={MOUNT}/{CACHE}/global \\
  --registry="$REGISTRY" -- "$@"
"""

_PYPI = f"""
mkdir -p {CACHE} && export TMPDIR={MOUNT}/{CACHE} || exit 1
command -v python3 >/dev/null || exit {NOT_THERE}
python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])' >{INTERPRETER} || exit 1
if python3 -m pip --version >/dev/null 2>&1; then
  exec python3 -m pip install --target={TREE} --index-url="$REGISTRY" $MORE \\
    --no-input --no-cache-dir --disable-pip-version-check --progress-bar=off \\
    --no-warn-script-location --retries=2 -- "$@"
fi
command -v uv >/dev/null || exit {NOT_THERE}
exec uv pip install --target={TREE} --default-index="$REGISTRY" $MORE --no-config \\
  --cache-dir={MOUNT}/{CACHE} --link-mode=copy --python="$(command -v python3)" \\
  --compile-bytecode --no-progress -- "$@"
"""


def installing(request: Request, settings: PackageSettings) -> Command:
    """What installs packages into TREE of its workspace."""
    env = {"REGISTRY": settings.registry(request.kind)}
    if request.kind == "pypi":
        env["PIP_CONFIG_FILE"] = "/dev/null"  # what is configured on this machine is not for it
        env["MORE"] = "" if settings.build else "--only-binary=:all:"
        index = urlsplit(settings.pypi_index)
        if index.scheme == "http":  # the operator said so
            env["PIP_TRUSTED_HOST"] = str(index.hostname)
    script = _NPM if request.kind == "npm" else _PYPI
    return Command(
        "/bin/sh",
        ("-c", script, "install", *request.packages),
        env=env,
        timeout_s=settings.timeout_s,
    )
