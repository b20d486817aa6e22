"""Who may do what: bearer tokens, compared in constant time. No secret configured means closed, not open."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from starlette.requests import HTTPConnection, Request

from service import actors
from service.actors import Key
from service.context import Context
from service.errors import Forbidden, NotConfigured, Unauthorized
from service.settings import need


def context_of(request: HTTPConnection) -> Context:
    """The context of this app. It lives in the app and not in the lifespan, which serverless hosts may skip."""
    own: Context | None = request.scope.get(_CONTEXT)
    ctx: Context = request.app.state.ctx
    return ctx if own is None else own


_BEARER, _CONTEXT = "taxiway.bearer", "taxiway.context"  # whose request this is, and its context


def identify(request: HTTPConnection, key: Key) -> None:
    """From now on, this request is done in the name of that key or token."""
    ctx: Context = request.app.state.ctx
    request.scope[_BEARER], request.scope[_CONTEXT] = key, replace(ctx, actor=key.name, owner=key.owner)


@dataclass(frozen=True)
class Access:
    """Who may call an endpoint: those who bear a token of one of the `settings`, or everyone if there are none.

    The first setting is named when none of them is set. `may`: of Key, what a key with scopes needs. `is_signed`: the
    handler verifies a signature instead, for which it needs the body.
    """

    settings: tuple[str, ...] = ()
    may: Literal["may_read", "may_create", "may_change"] = "may_read"
    is_signed: bool = False


PUBLIC = Access()
READ = Access(("api_keys", "admin_tokens", "viewer_tokens"))  # read videos
CREATE = Access(("api_keys", "admin_tokens"), "may_create")  # enqueue videos, and price them
CHANGE = Access(("api_keys", "admin_tokens"), "may_change")  # retry and cancel videos
VIEW = Access(("viewer_tokens", "admin_tokens"))  # read the machinery: ticks, models, statistics
OPERATE = Access(("admin_tokens",))  # pause and resume models, attach tasks
CRON = Access(("cron_secret",))
SIGNED = Access(("callback_secrets",), is_signed=True)


def name_of(request: Request) -> str | None:
    """The name of the key or token that the request bears, if it was given one."""
    key: Key | None = request.scope.get(_BEARER)
    return key.name if key is not None and key.is_named else None


def is_viewer(request: Request) -> bool:
    """Whether the request bears a token with read-only access."""
    key: Key | None = request.scope.get(_BEARER)
    return key is not None and key in context_of(request).settings.viewer_tokens


def authorize(request: Request, access: Access) -> Context:
    """Let the request pass if it shows the credentials of `access`: the context in the name of its token.

    Raises Unauthorized, Forbidden, or NotConfigured if none of the settings is set.
    """
    if access.is_signed:
        need(context_of(request).settings, *access.settings)
    elif access.settings:
        identify(request, _bearer(request, access))
    return context_of(request)


def _bearer(request: Request, access: Access) -> Key:
    """The key or token that the request bears. Raises Unauthorized, Forbidden and NotConfigured."""
    key = _key(request, access.settings)
    if key is None:
        request.app.state.refused.add("key_refused", f"No valid key or token for {request.method} {request.url.path}")
        raise Unauthorized("send the header `Authorization: Bearer <token>` with a valid token")
    if not getattr(key, access.may):
        scopes = ", ".join(sorted(key.scopes))
        raise Forbidden(f"the key {key.name!r} has the scope {scopes}, which does not allow this")
    return key


def _key(request: Request, accepted: Sequence[str]) -> Key | None:
    """The key or token that the request bears, if it is one of these settings. Raises NotConfigured."""
    settings = context_of(request).settings
    tokens = [(token, name) for name in accepted for token in getattr(settings, name)]
    if not tokens:
        need(settings, accepted[0])
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        return None
    found = match(token.strip(), [token for token, _ in tokens])
    setting = next((name for one, name in tokens if one is found), "")
    return None if found is None else Key.of(found, actors.CRON if setting == "cron_secret" else setting)


def match(token: str, accepted: Sequence[str]) -> str | None:
    """The one that it is, if any: with its name and its scopes, where it has them."""
    # Hashed first, so that neither length nor content shows in the time; all are compared, whichever matches.
    given = hashlib.sha256(token.encode()).digest()
    found = [one for one in accepted if hmac.compare_digest(given, _digest(one))]
    return found[0] if found else None


def matches(token: str, accepted: Sequence[str]) -> bool:
    """Whether it is one of them."""
    return match(token, accepted) is not None


@lru_cache(maxsize=64)  # of what the settings hold, never of what a caller sends
def _digest(accepted: str) -> bytes:
    return hashlib.sha256(accepted.encode()).digest()


def would_allow(request: Request, access: Access) -> bool:
    """Whether the token that the request bears would be let in by this `access` as well."""
    try:
        key = _key(request, access.settings)
    except NotConfigured:
        return False
    return key is not None and bool(getattr(key, access.may))


def has_token(request: Request, access: Access) -> bool:
    """Whether the request bears a token of these settings: an open route answers such a request in more detail."""
    try:
        return _key(request, access.settings) is not None
    except NotConfigured:
        return False
