"""Secrets as this project has them: where they are looked for, and the keys of models. No store."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from domain.definition import BaseSkill, Definition, McpHttpSkill, McpStdioSkill, Skill
from domain.errors import Rejected
from domain.references import references_in
from domain.secrets import Audit, SecretRef
from peritus.definitions import read_env_paths
from peritus.definitions.load import ENV_PATHS
from peritus.held import DefinitionSecrets
from peritus.logs import REDACTIONS
from peritus.project import Project
from peritus.settings import Settings
from services.loop.models.own_secrets import own_secrets
from services.loop.models.registry import PROVIDERS
from services.secrets.audit import log_access
from services.secrets.config import SecretsConfig, open_source, providers_of
from services.secrets.identity import default_identity_path
from services.secrets.plain import folders
from services.secrets.redactions import Redactions
from services.secrets.source import Secrets

STORE_NAME = "secrets.age"
"""The encrypted store of a project, in its state folder."""

SECRETS_FOLDER = Path("/run/secrets")
"""Where containers are handed their secrets, a file each."""

SOPS_KEY, SOPS_KEY_FILE = "SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE"
"""The variables with which sops is told its identities: the first holds one."""

PURPOSE = "model key"

MODEL_KEYS = tuple(sorted({key for provider in PROVIDERS.values() for key in provider.keys}))
"""The names of all keys of models: what must not get out even before it is first used."""

NEVER = (*MODEL_KEYS, SOPS_KEY)
"""What no sandbox gets, whoever asks for it."""

logger = logging.getLogger(__name__)


class Keys:
    """The keys of models by name, for who asks without waiting."""

    def __init__(
        self, files: Sequence[Path] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """Of the environment, then of `.env` files: the first value counts; no file need exist."""
        self.config = SecretsConfig(env_files=tuple(map(str, files)))
        self._secrets = open_source(self.config, redactions=REDACTIONS, variables=environment)

    @classmethod
    def of(cls, secrets: Secrets, config: SecretsConfig | None = None) -> "Keys":
        """Of any source; `config` opens it elsewhere, too."""
        keys = cls()
        keys.config, keys._secrets = config or keys.config, secrets
        return keys

    def __call__(self, name: str) -> str | None:
        """The value of that name as it is now; None when it is not set, or set to nothing.

        Raises:
            Rejected: `bad_env_file` and others: a place has it, and cannot be read.
            Unavailable: a place cannot be reached now.
        """
        value = self._secrets.resolve_now(SecretRef(name=name), purpose=PURPOSE)
        return None if value is None else value.reveal()

    @property
    def looked_in(self) -> str:
        """The places in order, for people."""
        return self._secrets.looked_in


def env_files(project: Project, say: Callable[[str], None] = lambda _: None) -> tuple[Path, ...]:
    """The `.env` files that the definition names; the usual ones when it cannot be read."""
    if project.config is not None:
        try:
            return read_env_paths(project.config)
        except Rejected as error:
            say(f"the definition cannot be read, so only .env is looked at for keys: {error}")
    return tuple(project.folder / name for name in ENV_PATHS)


def secrets_config(
    project: Project,
    env_files: Sequence[Path],
    *,
    folder: Path = SECRETS_FOLDER,
    store: Path | None = None,
    identity: Path | None = None,
    sops: Sequence[str] = (),
    keyring: bool = False,
) -> SecretsConfig:
    """Where secrets of a project are looked for; the first place that has one counts.

    `store` None: the one in the state folder; `identity` None: the user's own. Every path is made
    whole, since the proxy's process that reads the same places has another working directory.
    """
    key_file = os.environ.get(SOPS_KEY_FILE, "")
    return SecretsConfig(
        env_files=tuple(map(str, env_files)),
        folders=tuple(str(one.absolute()) for one in folders([folder])),
        store=str((store or project.state / STORE_NAME).absolute()),
        identity=str((identity or default_identity_path()).absolute()),
        sops=tuple(str(Path(file).absolute()) for file in sops),
        sops_key_file=str(Path(key_file).absolute()) if key_file else None,
        keyring=keyring,
    )


def project_keys(settings: Settings, project: Project, env_files: Sequence[Path]) -> Keys:
    """The keys of a process of a project, wherever its settings say secrets are."""
    config = secrets_config(
        project,
        env_files,
        folder=settings.secrets_dir,
        store=settings.secrets_store,
        identity=settings.secrets_identity,
        sops=settings.secrets_sops,
        keyring=settings.secrets_keyring,
    )
    learn_own(settings)
    secrets = project_secrets(project, config)
    for trouble in secrets.learn(MODEL_KEYS):
        logger.warning("not all secrets are known, so not all can be taken out: %s", trouble)
    return Keys.of(secrets, config)


def project_secrets(project: Project, config: SecretsConfig) -> Secrets:
    """The same places, and after them the definition file, for what is written in it."""
    written = [] if project.config is None else [DefinitionSecrets(project.config)]
    return Secrets([*providers_of(config), *written], REDACTIONS, log_access)


def open_secrets(
    config: SecretsConfig, *, redactions: Redactions = REDACTIONS, audit: Audit = log_access
) -> Secrets:
    """The secrets of this process: whatever is resolved leaves it no more."""
    return open_source(config, redactions=redactions, audit=audit)


def learn_own(settings: Settings, redactions: Redactions = REDACTIONS) -> None:
    """Let no token of the settings leave this process, nor the key to all other secrets."""
    for name, token in (
        ("PERITUS_NATS_TOKEN", settings.nats_token),
        ("PERITUS_GATEWAY_TOKEN", settings.gateway_token),
    ):
        if token is not None:
            redactions.add(name, token.get_secret_value())
    if key := os.environ.get(SOPS_KEY, ""):
        redactions.add(SOPS_KEY, key)


class Need(NamedTuple):
    """A secret that a definition names. `needed`: nothing works for `who` without it."""

    name: str
    who: str
    needed: bool = True


def needs_of(definition: Definition) -> list[Need]:
    """Every secret that a definition names, sorted by name; a key that is optional is included."""
    found = {
        need: None for key in sorted(definition.experts) for need in _needs_of(definition, key)
    }
    return sorted(found, key=lambda need: need.name)


def _needs_of(definition: Definition, key: str) -> Iterator[Need]:
    expert = definition.experts[key]
    provider = PROVIDERS.get(expert.model.provider)
    if provider is not None:
        own_server = expert.model.provider == "openai-chat" and expert.model.base_url is not None
        who = f"provider {expert.model.provider}"
        yield Need(provider.key, who, provider.key_needed and not own_server)
        yield from (Need(name, who, needed=False) for name in provider.more_keys)
    for choice in (expert.model, *expert.fallbacks):
        for name in own_secrets(choice):
            yield Need(name, f"provider {choice.provider}", choice == expert.model)
    for grant in expert.sandbox.secrets:
        yield Need(grant.name, f"expert {key}")
    for skill_name, skill in expert.skills.items():
        yield from (Need(name, f"skill {skill_name} of expert {key}") for name in _of_skill(skill))


def _of_skill(skill: Skill) -> tuple[str, ...]:
    match skill:
        case BaseSkill() | McpStdioSkill():
            return skill.required_env
        case McpHttpSkill():
            client = None if skill.oauth is None else skill.oauth.client_secret
            named = references_in(skill.endpoint, *skill.headers.values())
            return (*named, *([client] if client else []))
        case _:
            return ()
