"""Which places a process looks for secrets in, and in which order. No values are in it."""

from collections.abc import Mapping
from pathlib import Path

from domain.record import Record
from domain.secrets import Audit
from services.secrets.identity import default_identity_path
from services.secrets.plain import EnvFile, Environment, SecretFolder
from services.secrets.port import SecretProvider
from services.secrets.redactions import Redactions
from services.secrets.source import Secrets


class SecretsConfig(Record):
    """The places, as plain JSON: another process opens the same ones from it.

    They are asked in the order of these fields, and within a field in its own; the first that has
    a name counts.
    """

    environment: bool = True
    env_files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    store: str | None = None
    identity: str | None = None  # of `store`; None: the user's own
    sops: tuple[str, ...] = ()
    sops_key_file: str | None = None  # of identities for those; beside the usual places
    keyring: bool = False


def open_source(
    config: SecretsConfig,
    *,
    redactions: Redactions | None = None,
    audit: Audit | None = None,
    variables: Mapping[str, str] | None = None,
) -> Secrets:
    """The source of a configuration. Nothing is read before something is asked for.

    `redactions` learns every value that is resolved; `audit` hears of every use; `variables`
    stands for the environment.
    """
    return Secrets(providers_of(config, variables), redactions or Redactions(), audit)


def providers_of(
    config: SecretsConfig, variables: Mapping[str, str] | None = None
) -> list[SecretProvider]:
    """The places of a configuration, the one that counts first."""
    found: list[SecretProvider] = [Environment(variables)] if config.environment else []
    found += [EnvFile(Path(file)) for file in config.env_files]
    found += [SecretFolder(Path(folder)) for folder in config.folders]
    if config.store is not None:
        from services.secrets.store import AgeStore  # noqa: PLC0415

        identity = Path(config.identity) if config.identity else default_identity_path()
        found.append(AgeStore(Path(config.store), identity))
    if config.sops:
        found += _sops_files(config)
    if config.keyring:
        from services.secrets.desktop import Keyring  # noqa: PLC0415

        found.append(Keyring())
    return found


def _sops_files(config: SecretsConfig) -> list[SecretProvider]:
    from services.secrets.sops.file import SopsFile  # noqa: PLC0415 - most processes have none
    from services.secrets.sops.identities import Identities  # noqa: PLC0415

    key_file = Path(config.sops_key_file) if config.sops_key_file else None
    own = Path(config.identity) if config.identity else default_identity_path()
    return [SopsFile(Path(file), Identities(key_file, own)) for file in config.sops]
