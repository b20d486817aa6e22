"""What Runway serves beside tasks: the organization, its usage, and uploads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.simulator.rules import Issue, custom
from service.simulator.state import Runway
from service.simulator.uploads import BODY, SCHEME, form_fields
from service.simulator.wire import gate, invalid, problem, read_json

USUAL_DAYS, MOST_DAYS = 30, 90


class Account:
    """The endpoints over one state. `keep` returns when the state is in the memory, if there is one."""

    def __init__(self, runway: Runway, keep: Callable[[], Awaitable[None]]) -> None:
        self._runway, self._keep = runway, keep

    def routes(self) -> list[Route]:
        """For the application's table of routes."""
        return [
            Route("/v1/organization", self.organization, methods=["GET"]),
            Route("/v1/organization/usage", self.usage, methods=["POST"]),
            Route("/v1/uploads", self.upload, methods=["POST"]),
            Route("/uploads", self.receive, methods=["POST"], name="receive"),
        ]

    async def organization(self, request: Request) -> Response:
        """Credits, limits and the tasks of the day."""
        return gate(request, self._runway.options) or JSONResponse(self._runway.organization())

    async def usage(self, request: Request) -> Response:
        """Net credits by day and model. Source: types/organization_retrieve_usage_params.py of Runway's SDK."""
        if shut := gate(request, self._runway.options):
            return shut
        body, readable = read_json(await request.body() or b"{}")
        if not readable or not isinstance(body, dict):
            return problem(400, "Invalid JSON in body")
        issues: list[Issue] = []
        today = datetime.fromtimestamp(self._runway.clock(), UTC).date()
        start = _day(body, "startDate", today - timedelta(days=USUAL_DAYS), issues)
        before = _day(body, "beforeDate", start + timedelta(days=USUAL_DAYS), issues)
        if not issues and not start <= before <= start + timedelta(days=MOST_DAYS):
            issues.append(custom(f"beforeDate must be at most {MOST_DAYS} days after startDate", ("beforeDate",)))
        self._runway.advance()
        return invalid(issues) if issues else JSONResponse(self._runway.ledger.usage(start, before))

    async def upload(self, request: Request) -> Response:
        """Hand out a form for one file."""
        if shut := gate(request, self._runway.options):
            return shut
        body, readable = read_json(await request.body())
        if not readable:
            return problem(400, "Invalid JSON in body")
        if issues := list(BODY(body, ())):
            return invalid(issues)
        form = self._runway.uploads.open()
        await self._keep()
        url, uri = str(request.url_for("receive")), f"{SCHEME}{form.id}"
        return JSONResponse({"uploadUrl": url, "fields": {"key": form.id}, "runwayUri": uri})

    async def receive(self, request: Request) -> Response:
        """Take the file of a form. Needs no key, as Amazon does not."""
        fields = form_fields(request.headers.get("content-type", ""), await request.body())
        key = fields.get("key", b"").decode(errors="replace")
        taken = self._runway.uploads.receive(key, fields.get("file", b""))
        await self._keep()
        return Response(status_code=204 if taken else 403)


def _day(body: dict[str, object], name: str, usual: date, issues: list[Issue]) -> date:
    """A date of the body; what is none becomes an issue."""
    if name not in body:
        return usual
    try:
        return date.fromisoformat(str(body[name]))
    except ValueError:
        issues.append(custom("Invalid ISO date", (name,)))
        return usual
