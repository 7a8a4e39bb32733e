"""The old place of `allowed_env`, for who looks for it here. Nothing of its own."""

from services.sandbox.environment import allowed_env

__all__ = ["allowed_env"]
