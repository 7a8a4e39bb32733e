"""Where the values of secrets come from, and what a process knows of them. Not who may use them."""

from services.secrets.config import SecretsConfig, open_source

__all__ = ["SecretsConfig", "open_source"]
