"""The simulator's own endpoints, under /_simulator: what a test or a developer asks of it.

    GET  /_simulator/ledger     every create, and the totals
    POST /_simulator/faults     a list of faults for the next requests (the grammar is in faults.py)
    POST /_simulator/settings   credits, speed, tier, concurrency, daily_limit, url_ttl, key, key_revoked
    POST /_simulator/reset      as it was at the start

They need no key: this is a tool for one machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.simulator.state import Runway

CONTROL_PREFIX = "/_simulator"
NUMBERS = {
    "credits": int,
    "tier": int,
    "concurrency": int,
    "daily_limit": int,
    "speed": float,
    "url_ttl": float,
}


class Control:
    """The endpoints over one state. `keep` returns when the state is in the memory, if there is one."""

    def __init__(self, runway: Runway, keep: Callable[[], Awaitable[None]]) -> None:
        self._runway, self._keep = runway, keep

    def routes(self) -> list[Route]:
        """For the application's table of routes."""
        return [
            Route(f"{CONTROL_PREFIX}/ledger", self.ledger, methods=["GET"]),
            Route(f"{CONTROL_PREFIX}/faults", self.faults, methods=["POST"]),
            Route(f"{CONTROL_PREFIX}/settings", self.settings, methods=["POST"]),
            Route(f"{CONTROL_PREFIX}/reset", self.reset, methods=["POST"]),
        ]

    async def ledger(self, request: Request) -> Response:
        """The books, with refunds up to now."""
        self._runway.advance()
        return JSONResponse(self._runway.ledger.as_json())

    async def faults(self, request: Request) -> Response:
        """Add to the plan; one fault may stand without a list around it."""
        try:
            items = await request.json()
            waiting = self._runway.faults.add(items if isinstance(items, list) else [items])
        except ValueError as exc:
            return JSONResponse({"error": str(exc)}, 400)
        await self._keep()
        return JSONResponse({"waiting": waiting})

    async def settings(self, request: Request) -> Response:
        """Change options on the run; null gives a replaced limit back to the tier."""
        try:
            changes = checked(await request.json())
            self._runway.change(**changes)
        except ValueError as exc:
            return JSONResponse({"error": str(exc)}, 400)
        await self._keep()
        return JSONResponse({"changed": changes})

    async def reset(self, request: Request) -> Response:
        """Forget everything that happened; the options stay as they were last set."""
        self._runway.reset()
        await self._keep()
        return Response(status_code=204)


def checked(body: object) -> dict[str, Any]:
    """Settings with the right types. Raises ValueError, which names the setting."""
    if not isinstance(body, dict):
        raise ValueError("settings are an object")
    return {name: _checked(name, value) for name, value in body.items()}


def _checked(name: str, value: object) -> object:
    if value is None and name in ("concurrency", "daily_limit", "key"):
        return None
    if name == "key_revoked" and isinstance(value, bool):
        return value
    if name == "key" and isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in NUMBERS and is_number and (NUMBERS[name] is float or isinstance(value, int)):
        return value
    raise ValueError(f"{name} cannot be set to {value!r}")
