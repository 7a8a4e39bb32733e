"""The three clients of Anthropic's SDK, and what their exceptions mean. Not the wire format.

Every client is told its address and its keys, so that no environment moves a pinned run elsewhere.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from services.loop.models.failures import hide, status_failure
from services.loop.models.google_tokens import GoogleTokens
from services.loop.models.packages import needed
from services.loop.models.port import ModelFailure
from services.loop.models.streaming import Failures

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.lib.bedrock import AsyncAnthropicBedrock
    from anthropic.lib.vertex import AsyncAnthropicVertex

BASE_URL = "https://api.anthropic.com"

AWS_KEY = "AWS_ACCESS_KEY_ID"
AWS_SECRET = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the name of the variable
AWS_SESSION = "AWS_SESSION_TOKEN"
AWS_BEARER = "AWS_BEARER_TOKEN_BEDROCK"


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, what its exceptions mean, and what has to be done before each request."""

    client: "AsyncAnthropic | AsyncAnthropicBedrock | AsyncAnthropicVertex"
    failures: Failures
    prepare: Callable[[], Awaitable[None]] | None = None


def first_party(
    *,
    api_key: str,
    base_url: str = BASE_URL,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Connection:
    """Anthropic itself, or another server that speaks its format. Imports the SDK: a second.

    Raises:
        ModelFailure: `missing_key`.
    """
    if not api_key:
        message = "Anthropic needs a key: set ANTHROPIC_API_KEY"
        raise ModelFailure(kind="missing_key", message=message)
    import anthropic  # noqa: PLC0415 - see the docstring

    client = anthropic.AsyncAnthropic(
        api_key=api_key,
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        default_headers=headers,
    )
    return Connection(client, failures_of("Anthropic", base_url, (api_key,)))


def bedrock(
    *,
    keys: Mapping[str, str],
    region: str,
    base_url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Connection:
    """Bedrock, with a bearer token, with keys, or with the identity that this machine has.

    Imports the SDK and boto3, and asks AWS for the machine's identity when there is no key.

    Raises:
        ModelFailure: `missing_package` without boto3, `missing_key` without any identity.
    """
    boto3 = needed("boto3", "amazon-bedrock", "bedrock")
    from anthropic.lib.bedrock import AsyncAnthropicBedrock  # noqa: PLC0415 - see the docstring

    bearer, key, secret = (keys.get(name) for name in (AWS_BEARER, AWS_KEY, AWS_SECRET))
    if bearer is None and (key is None) is not (secret is None):
        message = f"amazon-bedrock needs both {AWS_KEY} and {AWS_SECRET}, and one is not set"
        raise ModelFailure(kind="missing_key", message=message)
    client = AsyncAnthropicBedrock(
        aws_region=region,
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        default_headers=headers,
    )
    # Not by the constructor: it would read a bearer token of the environment beside our keys.
    client.api_key = bearer
    if bearer is None:
        client.aws_access_key, client.aws_secret_key = key, secret
        client.aws_session_token = keys.get(AWS_SESSION) if key else None
        if key is None:
            _own_identity(boto3, region)
    botocore: Any = import_module("botocore.exceptions")
    own = (botocore.BotoCoreError,)
    failures = failures_of("Bedrock", base_url, tuple(keys.values()), own)
    return Connection(client, failures)


def vertex(
    *,
    tokens: GoogleTokens,
    project: str,
    location: str,
    base_url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Connection:
    """Claude on Vertex. Imports the SDK; a token is got before each request, unless it holds."""
    from anthropic.lib.vertex import AsyncAnthropicVertex  # noqa: PLC0415 - see the docstring

    client = AsyncAnthropicVertex(
        project_id=project,
        region=location,
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        default_headers=headers,
    )

    async def prepare() -> None:
        client.access_token = await tokens.token()

    return Connection(client, failures_of("Vertex", base_url, tokens.secrets), prepare)


def _own_identity(boto3: Any, region: str) -> None:  # noqa: ANN401 - it ships no types
    exceptions: Any = import_module("botocore.exceptions")
    try:
        found = boto3.Session(region_name=region).get_credentials()
    except exceptions.BotoCoreError as error:
        found, why = None, f" ({error})"
    else:
        why = ""
    if found is None:
        message = (
            f"amazon-bedrock needs {AWS_BEARER}, or {AWS_KEY} and {AWS_SECRET}, or a machine that "
            f"has an identity at AWS: none of them is there{why}"
        )
        raise ModelFailure(kind="missing_key", message=message)


def failures_of(
    provider: str,
    base_url: str,
    secrets: Sequence[str],
    auth_errors: tuple[type[Exception], ...] = (),
) -> Failures:
    """What the exceptions of the SDK mean, and those of what signs requests for it."""
    import anthropic  # noqa: PLC0415
    import httpx2  # noqa: PLC0415

    def failure_of(error: Exception) -> ModelFailure:
        match error:
            case anthropic.APIStatusError():
                headers = error.response.headers
                return status_failure(provider, error.status_code, headers, error.body, secrets)
            case anthropic.APITimeoutError() | httpx2.TimeoutException():
                return ModelFailure("timeout", f"{base_url} did not answer in time")
            case anthropic.APIConnectionError() | httpx2.HTTPError():
                why = error.__cause__ or error
                return ModelFailure("network", hide(f"{base_url}: {why!r}", secrets))
            case _ if isinstance(error, auth_errors):
                return ModelFailure("auth", hide(f"{provider}: {error}", secrets))
            case _:
                return ModelFailure("rejected", hide(str(error), secrets))

    return Failures((anthropic.AnthropicError, httpx2.HTTPError, *auth_errors), failure_of)
