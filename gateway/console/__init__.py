"""The web console: static files that a browser runs as they are, with no build step (ADR 36).

Not what the console asks for: it is a client of `/v1` like any other. Nothing of anybody is in the
files, so no credential is asked for them.
"""

from gateway.console.files import console_paths, console_routes

__all__ = ["console_paths", "console_routes"]
