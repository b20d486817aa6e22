"""Who may do what: bearer tokens, compared in constant time. No secret configured means closed, not open."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from service.errors import Unauthorized
from service.house import House
from service.settings import need


def house_of(request: Request) -> House:
    """The house of this app. It lives in the app and not in the lifespan, which serverless hosts may skip."""
    house: House = request.app.state.house
    return house


def bearer(request: Request, setting: str) -> House:
    """Let the request pass if it bears one of the tokens in `setting`. Raises Unauthorized or NotConfigured."""
    house = house_of(request)
    need(house.settings, setting)
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not _matches(token.strip(), getattr(house.settings, setting)):
        raise Unauthorized("send the header `Authorization: Bearer <token>` with a valid token")
    return house


def _matches(token: str, accepted: Sequence[str]) -> bool:
    # Hashed first, so that neither length nor content shows in the time; all are compared, whichever matches.
    given = hashlib.sha256(token.encode()).digest()
    matches = [hmac.compare_digest(given, hashlib.sha256(one.encode()).digest()) for one in accepted]
    return any(matches)
