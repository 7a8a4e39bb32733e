"""Attacks on the sandbox as a model would try them: by tool calls, on every backend there is."""
