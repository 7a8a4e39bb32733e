"""How a model choice finds its model. Not what the models say on the wire."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain.content import TextPart, UserMessage
from domain.limits import ModelChoice, Sampling
from domain.prompt import ModelContext, ModelRequest
from services.loop import models
from services.loop.models import build
from services.loop.models.build import model_for
from services.loop.models.port import Delta, Model, ModelFailure, ModelReply
from services.loop.models.providers import Route, address_of
from services.loop.models.registry import PROVIDERS, ModelRegistry
from services.loop.models.scripted import FunctionModel, ScriptedModel

pytestmark = pytest.mark.anyio


NEEDED = {"azure-openai": {"resourceName": "ours"}}


def request_for(provider: str, model: str, base_url: str | None = None) -> ModelRequest:
    settings = NEEDED.get(provider, {})
    choice = ModelChoice(provider=provider, model=model, base_url=base_url, settings=settings)
    context = ModelContext(renderer="test", model=choice, system=(), tools=())
    message = UserMessage(parts=(TextPart(text="hi"),))
    return ModelRequest(context=context, messages=(message,), digest="d", blobs={})


async def ignore(delta: Delta) -> None:
    del delta


def no_key(name: str) -> str | None:
    del name
    return None


async def generate(registry: ModelRegistry, request: ModelRequest) -> ModelReply:
    async with asyncio.timeout(5):
        return await registry.generate(request, ignore)


async def test_scripted_choice_names_a_script_file_under_the_root(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[[reply]]\ntext = "from the file"')
    registry = ModelRegistry(no_key, scripts_root=tmp_path)
    reply = await generate(registry, request_for("scripted", "s.toml"))
    assert reply.parts == (TextPart(text="from the file"),)


async def test_changed_script_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[[reply]]\ntext = "old"')
    registry = ModelRegistry(no_key)
    await generate(registry, request_for("scripted", str(path)))
    path.write_text('[[reply]]\ntext = "newer"')
    reply = await generate(registry, request_for("scripted", str(path)))
    assert reply.parts == (TextPart(text="newer"),)


async def test_missing_script_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure) as caught:
        await generate(ModelRegistry(no_key), request_for("scripted", str(tmp_path / "no.toml")))
    assert caught.value.kind == "rejected"


async def test_registered_model_answers_before_a_file_of_its_name() -> None:
    registry = ModelRegistry(no_key, inline={"inline": ScriptedModel(["a"])})
    reply = await generate(registry, request_for("scripted", "inline"))
    assert reply.parts == (TextPart(text="a"),)
    registry.register(
        "inline", FunctionModel(lambda _: ModelReply((TextPart(text="b"),), "end", None))
    )
    reply = await generate(registry, request_for("scripted", "inline"))
    assert reply.parts == (TextPart(text="b"),)


async def test_unknown_provider_is_rejected_with_the_nearest_name() -> None:
    with pytest.raises(ModelFailure) as caught:
        await generate(ModelRegistry(no_key), request_for("antropic", "m"))
    assert caught.value.kind == "rejected"
    assert "did you mean 'anthropic'" in caught.value.message


@pytest.mark.parametrize(
    "provider", [name for name, provider in PROVIDERS.items() if provider.key_needed]
)
async def test_missing_key_names_the_variable_to_set(provider: str) -> None:
    asked: list[str] = []

    def key_of(name: str) -> str | None:
        asked.append(name)
        return None

    with pytest.raises(ModelFailure) as caught:
        await generate(ModelRegistry(key_of), request_for(provider, "m"))
    assert caught.value.kind == "missing_key"
    assert asked == [*PROVIDERS[provider].keys]
    assert PROVIDERS[provider].key in caught.value.message


async def test_process_without_a_secret_of_the_definition_names_it_and_what_to_do() -> None:
    registry = ModelRegistry(no_key, looked_in="the environment")
    address = "https://me:${PROXY_PASSWORD}@example.com/v1"
    with pytest.raises(ModelFailure) as caught:
        await registry.generate(request_for("openai-chat", "m", address), ignore)
    assert caught.value.kind == "missing_key"
    assert "hold PROXY_PASSWORD, which this process does not have" in caught.value.message
    assert "`peritus secrets set PROXY_PASSWORD`" in caught.value.message
    assert caught.value.message.endswith("looked in the environment")
    await registry.aclose()


@pytest.mark.parametrize("provider", ["ollama", "openai-chat"])
async def test_own_server_needs_no_key(provider: str) -> None:
    registry = ModelRegistry(no_key)
    # Nothing listens on port 1: that the connection is tried is the proof.
    with pytest.raises(ModelFailure) as caught:
        async with asyncio.timeout(30):
            await registry.generate(request_for(provider, "m", "http://127.0.0.1:1/v1"), ignore)
    assert caught.value.kind == "network"
    await registry.aclose()
    await registry.aclose()


SDKS = ("anthropic", "openai", "httpx2", "boto3", "botocore", "google.auth")


def test_no_module_of_ours_imports_an_sdk() -> None:
    folder = Path(models.__file__).parent
    ours = [f"services.loop.models.{path.stem}" for path in folder.glob("*.py")]
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {ours!r}];"
        f" print(*[name for name in {SDKS!r} if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=root, timeout=60, capture_output=True
    )
    assert done.stdout.split() == []
    assert len(ours) > 20


async def test_what_a_provider_does_not_have_is_refused_before_keys_are_looked_for() -> None:
    def key_of(name: str) -> str | None:
        raise AssertionError(name)

    request = request_for("anthropic", "m")
    sampling = Sampling(temperature=0)
    choice = request.context.model.model_copy(update={"sampling": sampling})
    context = request.context.model_copy(update={"model": choice})
    with pytest.raises(ModelFailure) as caught:
        await generate(ModelRegistry(key_of), replace(request, context=context))
    assert (caught.value.kind, caught.value.retryable) == ("unsupported_parameter", False)
    assert "temperature: anthropic" in caught.value.message


async def test_connection_is_shared_by_requests_that_differ_in_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def counting(choice: ModelChoice, route: Route, *rest: Any) -> Model:
        opened.append(address_of(choice, route))
        return model_for(choice, route, *rest)

    monkeypatch.setattr(build, "model_for", counting)
    registry = ModelRegistry({"OPENAI_API_KEY": "k"}.get)
    address = "http://127.0.0.1:1/v1"
    for model in ("one", "other"):
        with pytest.raises(ModelFailure):
            async with asyncio.timeout(30):
                await registry.generate(request_for("openai-chat", model, address), ignore)
    assert opened == [address]
    await registry.aclose()
