"""Which model answers for a choice, built on first use. Not a fallback or a router."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from domain.errors import Rejected
from domain.limits import ModelChoice
from domain.prompt import ModelContext, ModelRequest
from services.loop.models.capabilities import unsupported
from services.loop.models.own_secrets import own_secrets, with_own_secrets
from services.loop.models.port import Delta, Model, ModelFailure, ModelReply
from services.loop.models.providers import PROVIDERS, Provider, Route, address_of, route_of
from services.loop.models.script import load_script, nearest
from services.loop.models.scripted import PROVIDER as SCRIPTED
from services.loop.models.scripted import ScriptedModel

__all__ = ["PROVIDERS", "TIMEOUT_S", "KeyLookup", "ModelRegistry"]

KeyLookup = Callable[[str], str | None]
"""The value of a named secret, or None. Whoever builds the registry reads the environment."""

TIMEOUT_S = 300.0

Place = tuple[tuple[str, ...], ...]
"""What tells one connection from another."""


class ModelRegistry:
    """All models of a process. Itself a `Model`: it hands each request to the one it names."""

    def __init__(
        self,
        key_of: KeyLookup,
        *,
        looked_in: str = "",
        timeout_s: float = TIMEOUT_S,
        inline: Mapping[str, Model] | None = None,
        scripts_root: Path | None = None,
    ) -> None:
        """Build nothing yet. `looked_in` names the places of keys, for people.

        `inline` holds models that the provider `scripted` finds by name before it looks for a
        file; a relative script path starts at `scripts_root`, by default the working directory.
        """
        self._key_of = key_of
        self._looked_in = looked_in
        self._timeout_s = timeout_s
        self._inline = dict(inline or {})
        self._scripts_root = scripts_root or Path()
        self._models: dict[Place, Model] = {}
        self._scripts: dict[Path, tuple[tuple[int, int], Model]] = {}
        self._building = asyncio.Lock()

    def register(self, name: str, model: Model) -> None:
        """Let the provider `scripted` answer for `name` with this model."""
        self._inline[name] = model

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Have the chosen model make one reply.

        Raises:
            ModelFailure: `rejected` for an unknown provider, `unsupported_parameter` for what it
                does not have, `missing_key` without its key, `missing_package` without a package
                it needs, or what the model says.
        """
        _check(request.context)
        model = await self._model_for(request.context.model)
        return await model.generate(request, on_delta)

    async def aclose(self) -> None:
        """Close every model that was built; may be called twice."""
        models = [*self._models.values(), *self._inline.values()]
        self._models.clear()
        self._scripts.clear()
        for model in models:
            await model.aclose()

    async def _model_for(self, choice: ModelChoice) -> Model:
        if choice.provider == SCRIPTED:
            return self._inline.get(choice.model) or self._script(self._scripts_root / choice.model)
        provider, route = PROVIDERS.get(choice.provider), route_of(choice)
        if provider is None or route is None:
            known = nearest(choice.provider, [*PROVIDERS, SCRIPTED])
            raise ModelFailure(kind="rejected", message=f"no provider {choice.provider!r}{known}")
        # Looked up for each request, so that a key that was changed counts at once.
        keys = await asyncio.to_thread(self._keys_for, choice, provider)
        if names := own_secrets(choice):
            own = await asyncio.to_thread(self._own_secrets_of, choice, names)
            choice = with_own_secrets(choice, own)
            keys = {**keys, **own}
        place = _place(choice, route, keys)
        if place not in self._models:
            async with self._building:
                if place not in self._models:
                    # In a thread: importing an SDK takes a second that leases cannot wait for.
                    self._models[place] = await asyncio.to_thread(
                        _build, choice, route, keys, self._timeout_s
                    )
        return self._models[place]

    def _keys_for(self, choice: ModelChoice, provider: Provider) -> Mapping[str, str]:
        """The keys that are set, by name."""
        try:
            found = {name: self._key_of(name) for name in provider.keys}
        except Rejected as error:
            raise ModelFailure(kind="missing_key", message=error.message) from None
        keys = {name: key for name, key in found.items() if key}
        # A server of one's own (vLLM, llama.cpp) behind the OpenAI format usually wants no key.
        own_server = choice.provider == "openai-chat" and choice.base_url is not None
        if provider.key in keys or not provider.key_needed or own_server:
            return keys
        message = f"the provider {choice.provider!r} needs a key: set {provider.key}"
        if self._looked_in:
            message += f"; looked in {self._looked_in}"
        raise ModelFailure(kind="missing_key", message=message)

    def _own_secrets_of(self, choice: ModelChoice, names: Sequence[str]) -> Mapping[str, str]:
        """The secrets that a definition names in an address or a header: it needs them all."""
        try:
            found = {name: self._key_of(name) for name in names}
        except Rejected as error:
            raise ModelFailure(kind="missing_key", message=error.message) from None
        missing = [name for name, value in found.items() if not value]
        if missing:
            raise ModelFailure(kind="missing_key", message=self._missing(choice, missing))
        return {name: value for name, value in found.items() if value}

    def _missing(self, choice: ModelChoice, names: Sequence[str]) -> str:
        message = (
            f"address or headers of the provider {choice.provider!r} hold {', '.join(names)}, "
            "which this process does not have; where the value is written in a definition file, "
            "only processes with that file have it: "
            + ", ".join(f"`peritus secrets set {name}`" for name in names)
        )
        return f"{message}; looked in {self._looked_in}" if self._looked_in else message

    def _script(self, path: Path) -> Model:
        """The model of a script file, read again when the file has changed."""
        try:
            stat = path.stat()
        except OSError:
            found = (-1, -1)
        else:
            found = (stat.st_mtime_ns, stat.st_size)
        known = self._scripts.get(path)
        if known is None or known[0] != found:
            known = (found, ScriptedModel.of(load_script(path), name=str(path)))
            self._scripts[path] = known
        return known[1]


def _check(context: ModelContext) -> None:
    """Refuse what the provider does not have, before it is asked."""
    wrong = unsupported(context.model, context.provider_tools, context.provider_skills)
    if wrong:
        raise ModelFailure(kind="unsupported_parameter", message="; ".join(wrong))


def _place(choice: ModelChoice, route: Route, keys: Mapping[str, str]) -> Place:
    return (
        (choice.provider, route.client, address_of(choice, route)),
        *(tuple(item) for item in sorted(keys.items())),
        ("settings",),
        *(tuple(item) for item in sorted(choice.settings.items())),
        ("headers",),
        *(tuple(item) for item in sorted(choice.headers.items())),
    )


def _build(choice: ModelChoice, route: Route, keys: Mapping[str, str], timeout_s: float) -> Model:
    from services.loop.models import build  # noqa: PLC0415 - the SDKs are behind it

    return build.model_for(choice, route, keys, timeout_s)
