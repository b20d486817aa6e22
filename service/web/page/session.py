"""Who uses the page: a signed cookie. What they may do: its role. CSRF: its token.

A session is signed with a key made from the token that opened it, so removing that token from the settings ends it. So
does logging out, which leaves a row (service/store/sessions.py).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.authentication import BaseUser
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from service.actors import Key
from service.errors import NotConfigured
from service.settings import Settings
from service.store import sessions
from service.web.auth import context_of, identify, matches

COOKIE = "__Host-taxiway_session"  # Secure, of this host alone, for all of its paths: browsers refuse any other
LOOPBACK_COOKIE = "taxiway_session"  # on this machine itself, where there is no https
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LONGEST_SESSION_SECONDS = 12 * 3600
NONCE_BYTES = 16
LONGEST_COOKIE = 500  # characters; ours have 100
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"

Role = Literal["admin", "viewer"]


@dataclass(frozen=True)
class User(BaseUser):
    """A user with a session. `csrf` must come with every POST of the session."""

    role: Role
    csrf: str
    key: Key  # the token that opened it
    digest: bytes = field(repr=False)  # of the session's nonce: by it, a session that has ended is known

    @property
    def is_authenticated(self) -> bool:
        """Always: a request without a session has Starlette's UnauthenticatedUser."""
        return True

    @property
    def display_name(self) -> str:
        """The name of the token."""
        return self.key.name

    @property
    def identity(self) -> str:
        """The name of the token, too: there are no other accounts."""
        return self.key.name

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


def opened(role: Role, token: str) -> tuple[User, str]:
    """A new session: its user, and the value of its cookie."""
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    return _user(role, token, nonce), str(_serializer(role, token).dumps(nonce))


def begin(request: Request, response: Response, value: str) -> None:
    """Give the browser this session, whatever it had before."""
    is_near = _is_loopback(request)
    response.set_cookie(
        LOOPBACK_COOKIE if is_near else COOKIE, value, max_age=LONGEST_SESSION_SECONDS, path="/", httponly=True,
        samesite="strict", secure=not is_near,
    )  # fmt: skip


async def end(request: Request, response: Response, user: User) -> None:
    """End the session everywhere, and take it from the browser. Raises DatabaseUnavailable: then it has not ended."""
    await sessions.end(context_of(request).database, user.digest, LONGEST_SESSION_SECONDS)
    is_near = _is_loopback(request)
    name = LOOPBACK_COOKIE if is_near else COOKIE
    response.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=not is_near)


async def authenticated(request: HTTPConnection) -> User | None:
    """Who is logged in; what follows is done in their name. Raises NotConfigured if no token is set.

    Raises DatabaseUnavailable, too: a session that may be over lets no one in.
    """
    found = user(request)
    if found is None or await sessions.has_ended(context_of(request).database, found.digest):
        return None
    identify(request, found.key)
    return found


def user(request: HTTPConnection) -> User | None:
    """Whose cookie this is, if it is signed and not too old. Raises NotConfigured if no token is set."""
    ctx = context_of(request)
    role_of(ctx.settings, "")
    value = request.cookies.get(LOOPBACK_COOKIE if _is_loopback(request) else COOKIE, "")
    if len(value) > LONGEST_COOKIE:
        return None
    for role, token in _tokens(ctx.settings) if value else ():
        try:
            nonce, signed_at = _serializer(role, token).loads(value, return_timestamp=True)
        except BadData:
            continue
        if ctx.now() - signed_at.timestamp() < LONGEST_SESSION_SECONDS:
            return _user(role, token, str(nonce))
    return None


def _user(role: Role, token: str, nonce: str) -> User:
    csrf = hmac.new(_key(role, token), f"csrf {nonce}".encode(), hashlib.sha256).hexdigest()
    return User(role, csrf, Key.of(token, role), hashlib.sha256(nonce.encode()).digest())


def is_foreign(request: Request) -> bool:
    """Whether the browser says that another site sent this request. Old browsers and programs say nothing."""
    if site := request.headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin", "null")  # forms of a page without referrer have the origin `null`
    hosts = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    return origin != "null" and origin.partition("://")[2] not in hosts


def _tokens(settings: Settings) -> Iterator[tuple[Role, str]]:
    yield from (("admin", token) for token in settings.admin_tokens)
    yield from (("viewer", token) for token in settings.viewer_tokens)


def _key(role: Role, token: str) -> bytes:
    return hmac.new(token.encode(), f"taxiway page {role}".encode(), hashlib.sha256).digest()


def _serializer(role: Role, token: str) -> URLSafeTimedSerializer:
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(_key(role, token), salt="taxiway session", signer_kwargs=signer)


def needs_https(request: Request) -> bool:
    """Whether the browser seems to be without https, so that it would not keep the cookie."""
    return not _is_loopback(request) and "https" not in (_forwarded(request), request.scope["scheme"])


def _is_loopback(request: HTTPConnection) -> bool:
    """Whether the browser calls this machine by its own name: there alone a cookie may go without https."""
    host = request.headers.get("host", "")
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower() in LOOPBACK and "https" not in (_forwarded(request), request.scope["scheme"])


def _forwarded(request: HTTPConnection) -> str:
    return request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
