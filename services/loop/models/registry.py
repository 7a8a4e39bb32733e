"""Which provider answers for a model choice, built on first use. Not a fallback or a router."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from domain.errors import Rejected
from domain.limits import ModelChoice
from domain.prompt import ModelRequest
from services.loop.models.port import Delta, Model, ModelFailure, ModelReply
from services.loop.models.script import load_script, nearest
from services.loop.models.scripted import PROVIDER as SCRIPTED
from services.loop.models.scripted import ScriptedModel

KeyLookup = Callable[[str], str | None]
"""The value of a named secret, or None. Whoever builds the registry reads the environment."""

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider we can reach: its wire format, the key it needs and where it is by default."""

    wire: Literal["anthropic", "openai-responses", "openai-chat"]
    base_url: str
    key: str  # name of the variable that holds the key
    key_needed: bool = True


PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "openai": Provider("openai-responses", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openai-chat": Provider("openai-chat", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "deepseek": Provider("openai-chat", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": Provider(
        "openai-chat", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"
    ),
    "google": Provider(
        "openai-chat",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GOOGLE_GENERATIVE_AI_API_KEY",
    ),
    "ollama": Provider(
        "openai-chat", "http://localhost:11434/v1", "OLLAMA_API_KEY", key_needed=False
    ),
}
"""All providers but `scripted`, which has no wire."""


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
        self._models: dict[tuple[str, str, str], Model] = {}
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
            ModelFailure: `rejected` for an unknown provider, `missing_key` without its key, or
                what the model says.
        """
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
        provider = PROVIDERS.get(choice.provider)
        if provider is None:
            known = nearest(choice.provider, [*PROVIDERS, SCRIPTED])
            raise ModelFailure(kind="rejected", message=f"no provider {choice.provider!r}{known}")
        base_url = choice.base_url or provider.base_url
        # Looked up for each request, so that a key that was changed counts at once.
        key = await asyncio.to_thread(self._key_for, choice, provider)
        place = (choice.provider, base_url, key)
        if place not in self._models:
            async with self._building:
                if place not in self._models:
                    # In a thread: importing an SDK takes a second that leases cannot wait for.
                    self._models[place] = await asyncio.to_thread(
                        _build, choice.provider, provider, key, base_url, self._timeout_s
                    )
        return self._models[place]

    def _key_for(self, choice: ModelChoice, provider: Provider) -> str:
        try:
            key = self._key_of(provider.key)
        except Rejected as error:
            raise ModelFailure(kind="missing_key", message=error.message) from None
        # A server of one's own (vLLM, llama.cpp) behind the OpenAI format usually wants no key.
        own_server = choice.provider == "openai-chat" and choice.base_url is not None
        if key or not provider.key_needed or own_server:
            return key or ""
        message = f"the provider {choice.provider!r} needs a key: set {provider.key}"
        if self._looked_in:
            message += f"; looked in {self._looked_in}"
        raise ModelFailure(kind="missing_key", message=message)

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


def _build(name: str, provider: Provider, key: str, base_url: str, timeout_s: float) -> Model:
    match provider.wire:
        case "anthropic":
            from services.loop.models.anthropic import AnthropicModel  # noqa: PLC0415

            return AnthropicModel(api_key=key, base_url=base_url, timeout_s=timeout_s)
        case "openai-responses":
            from services.loop.models.openai_responses import OpenAIResponsesModel  # noqa: PLC0415

            return OpenAIResponsesModel(api_key=key, base_url=base_url, timeout_s=timeout_s)
        case "openai-chat":
            from services.loop.models.openai_chat import OpenAIChatModel  # noqa: PLC0415

            return OpenAIChatModel(
                api_key=key, base_url=base_url, timeout_s=timeout_s, provider=name
            )
