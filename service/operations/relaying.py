"""Calls that are handed on to Runway with its own key, because they make no task: uploads, the account, other tasks."""

from __future__ import annotations

from uuid import UUID

from service.context import Context
from service.errors import Forbidden, NotFound, RunwayUnavailable
from service.runway.outcomes import HttpResult
from service.settings import need

KEY_STATUSES = (401, 403)  # of Runway's about our key: a caller would take them for its own key


async def upload(ctx: Context, body: bytes) -> HttpResult:
    """Begin an upload: Runway's answer says where the bytes go. Raises NotConfigured and RunwayUnavailable."""
    return await _relay(ctx, "POST", "/v1/uploads", body)


async def organization(ctx: Context) -> HttpResult:
    """The account, in Runway's words. Raises NotConfigured and RunwayUnavailable."""
    return await _relay(ctx, "GET", "/v1/organization")


async def usage(ctx: Context, body: bytes) -> HttpResult:
    """Credits by day and model, in Runway's words. Raises NotConfigured and RunwayUnavailable."""
    return await _relay(ctx, "POST", "/v1/organization/usage", body)


async def foreign_task(ctx: Context, task_id: UUID) -> HttpResult:
    """A task that Taxiway did not make: its caller waits on while the base URL moves here.

    Raises NotFound without a key, and RunwayUnavailable.
    """
    if not ctx.settings.runway_key:
        raise NotFound(f"no video has the id {task_id}")
    return await _relay(ctx, "GET", f"/v1/tasks/{task_id}")


def check_may_see_money(ctx: Context) -> None:
    """Whether the caller may ask for the account: a key that sees its own videos alone may not. Raises Forbidden."""
    if ctx.owner is not None:
        raise Forbidden(f"the key {ctx.owner!r} sees its own videos alone, and not the account")


async def _relay(ctx: Context, method: str, path: str, body: bytes = b"") -> HttpResult:
    need(ctx.settings, "runway_key")
    async with ctx.runway() as runway:
        answer = await runway.relay(method, path, body)
    if answer.status in KEY_STATUSES or answer.status >= 500:
        raise RunwayUnavailable(f"{method} {path} answered {answer.status}", runway_status=answer.status)
    return answer
