"""Who uses the page: a signed cookie, no state of ours. What they may do: its role. CSRF: its token.

A session is signed with a key made from the token that opened it, so removing that token from the settings ends it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotConfigured
from service.settings import Settings
from service.web.auth import context_of, matches

COOKIE = "taxiway_session"
LONGEST_SESSION_SECONDS = 12 * 3600
NONCE_BYTES = 16
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"

Role = Literal["admin", "viewer"]


@dataclass(frozen=True)
class User:
    """A user with a session. `csrf` must come with every POST of the session."""

    role: Role
    csrf: str

    @property
    def may_act(self) -> bool:
        """Whether they may do more than look."""
        return self.role == "admin"


def role_of(settings: Settings, token: str) -> Role | None:
    """What a token opens, if anything. Raises NotConfigured if no token is set at all."""
    admin, viewer = matches(token, settings.admin_tokens), matches(token, settings.viewer_tokens)
    if not settings.admin_tokens and not settings.viewer_tokens:
        raise NotConfigured("set ADMIN_TOKENS in the environment, and VIEWER_TOKENS for those who only look")
    return "admin" if admin else "viewer" if viewer else None


def begin(request: Request, response: Response, role: Role, token: str) -> None:
    """Give the browser a session of its own, whatever it had before."""
    value = _serializer(role, token).dumps(secrets.token_urlsafe(NONCE_BYTES))
    response.set_cookie(
        COOKIE, str(value), max_age=LONGEST_SESSION_SECONDS, path="/", httponly=True, samesite="strict",
        secure=_is_https(request),
    )  # fmt: skip


def end(request: Request, response: Response) -> None:
    """Take the session from the browser."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=_is_https(request))


def user(request: Request) -> User | None:
    """Who is logged in, if anybody. Raises NotConfigured if no token is set."""
    ctx = context_of(request)
    role_of(ctx.settings, "")
    value = request.cookies.get(COOKIE, "")
    for role, token in _tokens(ctx.settings) if value else ():
        try:
            nonce, signed_at = _serializer(role, token).loads(value, return_timestamp=True)
        except BadData:
            continue
        if ctx.now() - signed_at.timestamp() < LONGEST_SESSION_SECONDS:
            return User(role, hmac.new(_key(role, token), f"csrf {nonce}".encode(), hashlib.sha256).hexdigest())
    return None


def is_foreign(request: Request) -> bool:
    """Whether the browser says that another site sent this request. Old browsers and programs say nothing."""
    if site := request.headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin", "null")  # forms of a page without referrer have the origin `null`
    hosts = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    return origin != "null" and urlsplit(origin).netloc not in hosts


def _tokens(settings: Settings) -> Iterator[tuple[Role, str]]:
    yield from (("admin", token) for token in settings.admin_tokens)
    yield from (("viewer", token) for token in settings.viewer_tokens)


def _key(role: Role, token: str) -> bytes:
    return hmac.new(token.encode(), f"taxiway page {role}".encode(), hashlib.sha256).digest()


def _serializer(role: Role, token: str) -> URLSafeTimedSerializer:
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(_key(role, token), salt="taxiway session", signer_kwargs=signer)


def _is_https(request: Request) -> bool:
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    return "https" in (forwarded, request.url.scheme)
