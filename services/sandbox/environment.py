"""The environment of a command, built from nothing: what every backend sets. Not secrets."""

from collections.abc import Mapping

from services.sandbox.paths import MOUNT

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NEVER_FROM_MODEL = frozenset(
    (
        *("PATH", "HOME", "SHELL", "ENV", "BASH_ENV"),
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"),
        *("NODE_PATH", "NODE_OPTIONS", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"),
        *("PERL5LIB", "RUBYLIB"),
    )
)
NEVER_FROM_MODEL_PREFIX = "DYLD_"


def allowed_env(wanted: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables a model may set, and the names of those it may not."""
    refused = [
        name
        for name in wanted
        if name.upper() in NEVER_FROM_MODEL or name.upper().startswith(NEVER_FROM_MODEL_PREFIX)
    ]
    return {name: value for name, value in wanted.items() if name not in refused}, refused


def whole_env(env: Mapping[str, str], *, path: str = SYSTEM_PATH) -> dict[str, str]:
    """What was given, then what it cannot change: PATH, HOME; LANG and TERM have a default."""
    fixed = {"PATH": path, "HOME": MOUNT}
    return {"LANG": "C.UTF-8", "TERM": "dumb", **env, **fixed}
