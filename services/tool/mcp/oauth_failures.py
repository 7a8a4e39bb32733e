"""What is said of a login that failed: never what an authorisation server answered. Pure."""

import re

from mcp.client.auth import OAuthFlowError, OAuthRegistrationError, OAuthTokenError

_STATUS = re.compile(r"\((?P<status>[0-9]{3})\)")
_CODE = re.compile(r'"error"\s*:\s*"(?P<code>[a-z_]{1,40})"')
"""The only part of an answer that is passed on: the rest may hold what was sent, or a token."""


class LoginNeeded(OAuthFlowError):
    """Only a person can get a token; the message says how."""


class LoginFailed(OAuthFlowError):
    """A login cannot work like that; the message says why, and holds nothing secret."""


def said_of(error: OAuthFlowError) -> str:
    """Why there is no token, for people; ends a sentence."""
    match error:
        case LoginNeeded() | LoginFailed():
            return f"{error}."
        case OAuthTokenError():
            what = "the authorisation server gave no token"
        case OAuthRegistrationError():
            what = "the authorisation server registers no client; give oauth.client_id"
        case _:
            return f"the login does not work: {error}."
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    details = [found[1] for found in (status, code) if found]
    return f"{what} ({', '.join(details)})." if details else f"{what}."
