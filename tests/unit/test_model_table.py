"""The tables of providers in the documents are those of the code. Not how providers answer."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from domain.limits import ModelChoice
from services.loop.models.build import model_for
from services.loop.models.providers import PROVIDERS, Provider, Route, address_of, route_of
from services.loop.models.sampling import refusals
from services.loop.models.server_tools import FORMS, ToolForm

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[1:]
    return [row.split(" | ") for row in rows]


def words(*names: str) -> str:
    return ", ".join(names) or "none"


def test_ways_of_the_page_are_those_of_the_code() -> None:
    assert table("Ways") == [
        [
            " ".join(filter(None, (f"`{name}`", route.when))),
            f"`{route.client}`",
            f"`{route.base_url}{route.path}`",
            route.wire,
        ]
        for name, provider in PROVIDERS.items()
        for route in provider.routes
    ]


def keys(provider: Provider) -> str:
    names = words(*(f"`{key}`" for key in provider.keys))
    return names if provider.key_needed else f"{names}: none needed"


def settings(provider: Provider) -> str:
    return words(
        *(f"`{one.name}`" + (" (needed)" if one.needed else "") for one in provider.settings)
    )


def test_keys_and_settings_of_the_page_are_those_of_the_code() -> None:
    assert table("Keys and settings") == [
        [
            f"`{name}`",
            provider.auth,
            keys(provider),
            settings(provider),
            f"`peritus[{provider.extra}]`" if provider.extra else "nothing",
        ]
        for name, provider in PROVIDERS.items()
    ]


def options(form: ToolForm) -> str:
    return words(
        *(f"`{name}`" + (" (needed)" if name in form.needed else "") for name in form.options)
    )


def test_tools_of_the_page_are_those_of_the_code() -> None:
    assert table("Tools and skills of the provider") == [
        [f"`{provider}`", f"`{name}`", f"`{form.body['type']}`", options(form)]
        for provider, forms in FORMS.items()
        for name, form in forms.items()
    ]


def test_sampling_of_the_page_is_that_of_the_code() -> None:
    rows = table("Sampling")
    for way, model, taken in rows:
        choice = ModelChoice(
            provider=way.split("`")[1],
            model=model.strip("`"),
            base_url="http://127.0.0.1:1" if "baseUrl" in way else None,
            settings={"useDeploymentBasedUrls": "true"} if "useDeployment" in way else {},
        )
        found = [f"`{name}`" for name, reason in refusals(choice).items() if not reason]
        assert words(*found) == taken, (way, model)
    assert {way.split("`")[1] for way, _, _ in rows} == set(PROVIDERS)


SETTINGS = {
    "azure-openai": {"resourceName": "ours"},
    "amazon-bedrock": {"region": "eu-west-1"},
    "google-vertex": {"project": "p", "location": "europe-west1"},
}
ROUTES = [(name, route) for name, provider in PROVIDERS.items() for route in provider.routes]


def choice_of(name: str, route: Route) -> ModelChoice:
    found = dict(SETTINGS.get(name, {}))
    if "useDeployment" in route.when:
        found["useDeploymentBasedUrls"] = "true"
    model = "claude-x" if "claude" in route.when else "m"
    return ModelChoice(provider=name, model=model, settings=found)


@pytest.mark.parametrize(("name", "route"), ROUTES)
def test_each_way_is_found_and_has_the_client_it_names(name: str, route: Route) -> None:
    choice = choice_of(name, route)
    assert route_of(choice) == route
    secrets = dict.fromkeys(PROVIDERS[name].keys, "k")
    model = model_for(choice, route, secrets, 1.0)
    connection = getattr(model, "_connection", None)
    client = connection.client if connection is not None else getattr(model, "_client", None)
    package, kind = route.client.split(".")
    assert type(client) is getattr(import_module(package), kind)
    assert client is not None
    assert str(client.base_url).rstrip("/") == address_of(choice, route)
    assert "{" not in address_of(choice, route)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
    ],
)
def test_location_of_vertex_is_its_host(location: str, host: str) -> None:
    choice = ModelChoice(
        provider="google-vertex",
        model="claude-x",
        settings={"project": "p", "location": location},
    )
    assert address_of(choice, PROVIDERS["google-vertex"].routes[0]) == f"https://{host}/v1"
    gemini = PROVIDERS["google-vertex"].routes[1]
    path = f"/v1/projects/p/locations/{location}/endpoints/openapi"
    assert address_of(choice, gemini) == f"https://{host}{path}"


def test_address_of_ones_own_is_taken_as_it_is() -> None:
    choice = ModelChoice(provider="openai-chat", model="m", base_url="http://host/{a}/v1/")
    assert address_of(choice, PROVIDERS["openai-chat"].routes[0]) == "http://host/{a}/v1"
