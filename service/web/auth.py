"""Who may do what: bearer tokens, compared in constant time. No secret configured means closed, not open."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

from starlette.requests import Request

from service.context import Context
from service.errors import NotConfigured, Unauthorized
from service.settings import need


def context_of(request: Request) -> Context:
    """The context of this app. It lives in the app and not in the lifespan, which serverless hosts may skip."""
    ctx: Context = request.app.state.ctx
    return ctx


# Who may do what, as the settings whose tokens are accepted; the first is named when none of them is set.
READ = ("api_keys", "admin_tokens", "viewer_tokens")  # read videos
WRITE = ("api_keys", "admin_tokens")  # hand videos in, retry and cancel them
VIEW = ("viewer_tokens", "admin_tokens")  # read the machinery: ticks, models, statistics
OPERATE = ("admin_tokens",)  # pause and resume models, attach tasks
CRON = ("cron_secret",)


def bearer(request: Request, accepted: Sequence[str]) -> Context:
    """Let the request pass if it bears a token of one of the settings `accepted`.

    Raises Unauthorized, or NotConfigured if none of them is set.
    """
    ctx = context_of(request)
    tokens = [token for name in accepted for token in getattr(ctx.settings, name)]
    if not tokens:
        need(ctx.settings, accepted[0])
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not matches(token.strip(), tokens):
        raise Unauthorized("send the header `Authorization: Bearer <token>` with a valid token")
    return ctx


def matches(token: str, accepted: Sequence[str]) -> bool:
    """Whether it is one of them."""
    # Hashed first, so that neither length nor content shows in the time; all are compared, whichever matches.
    given = hashlib.sha256(token.encode()).digest()
    matches = [hmac.compare_digest(given, _digest(one)) for one in accepted]
    return any(matches)


@lru_cache(maxsize=64)  # of what the settings hold, never of what a caller sends
def _digest(accepted: str) -> bytes:
    return hashlib.sha256(accepted.encode()).digest()


def has_token(request: Request, accepted: Sequence[str]) -> bool:
    """Whether the request bears a token of these settings: an open route answers such a request in more detail."""
    try:
        bearer(request, accepted)
    except (Unauthorized, NotConfigured):
        return False
    return True
