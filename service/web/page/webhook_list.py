"""/ui/webhooks: the endpoints and how they are, what was sent to them; and one delivery with all its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NoSuchEndpoint
from service.operations import redelivering, webhook_endpoints
from service.store.delivery_log import STATES, Delivery
from service.web.auth import context_of
from service.web.page import base
from service.web.schemas_webhooks import (
    LARGEST_ID,
    DeliveryQuery,
    DeliveryReport,
    DeliveryView,
    EndpointView,
    TestResult,
)
from service.web.webhook_routes import delivery_id_of

REFRESH_SECONDS = 5
PATH = "/ui/webhooks"
LISTED = 50
FILTERS = ("video", "state", "endpoint", "cursor")
KINDS = {
    "ok": "ok", "failing": "warn", "disabled": "bad", "removed": "off", "due": "info", "delivered": "ok",
    "failed": "bad", "superseded": "off", "dropped": "off",
}  # fmt: skip


async def show(request: Request) -> Response:
    """GET /ui/webhooks: the endpoints of webhooks, and what was sent to them, filtered."""
    return await _page(request)


async def listed(request: Request) -> Response:
    """GET /ui/webhooks/list: the part of it that refreshes itself."""
    return base.render(request, "webhooks_list.html", **await _state(request))


async def delivery(request: Request) -> Response:
    """GET /ui/webhooks/{id}: one delivery with what is sent, and every attempt."""
    found = await redelivering.find(context_of(request), delivery_id_of(request))
    return await _delivery(request, found)


async def replay(request: Request) -> Response:
    """POST /ui/webhooks/{id}/replay: send it again, now and under the same id."""
    found = await redelivering.replay(context_of(request), delivery_id_of(request))
    return await _delivery(request, found, is_replayed=True)


async def test(request: Request) -> Response:
    """POST /ui/webhooks/test: send a test event to one endpoint, or to all, and show what each answered."""
    chosen = (await base.form(request)).get("endpoint", "")
    tested = await webhook_endpoints.test(context_of(request), _endpoint_id(chosen) if chosen else None)
    return await _page(request, results=[TestResult.of(one) for one in tested])


async def enable(request: Request) -> Response:
    """POST /ui/webhooks/enable: send to an endpoint again that was disabled, or has failed."""
    enabled = await webhook_endpoints.enable(
        context_of(request), _endpoint_id((await base.form(request)).get("endpoint", ""))
    )
    return await _page(request, enabled=enabled.id)


def _endpoint_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < len(str(LARGEST_ID))):
        raise NoSuchEndpoint(f"{text[:100]!r} is not the id of a webhook endpoint")
    return int(text)


async def _page(request: Request, results: list[TestResult] | None = None, enabled: int | None = None) -> Response:
    return base.render(
        request, "webhooks.html", results=results or [], enabled=enabled, states=STATES, **await _state(request)
    )


async def _state(request: Request) -> dict[str, Any]:
    ctx = context_of(request)
    given = {name: value for name in FILTERS if (value := request.query_params.get(name, "").strip())}
    try:
        asked = DeliveryQuery.model_validate(given)
    except ValidationError:  # of an address that was typed: all of them are shown
        given, asked = {}, DeliveryQuery()
    found = await redelivering.page(ctx, asked.wanted(), asked.before(), LISTED)
    return {
        "endpoints": [EndpointView.of(one) for one in await webhook_endpoints.listed(ctx)],
        "deliveries": views(found.deliveries),
        "given": dict.fromkeys(FILTERS, "") | given,
        "is_filtered": bool(given),
        "query": urlencode(given),
        "older": urlencode(given | {"cursor": found.next}) if found.next else "",
        "kinds": KINDS,
        "refresh_seconds": REFRESH_SECONDS,
    }


def views(found: Sequence[Delivery]) -> list[DeliveryView]:
    """Deliveries as they are shown."""
    return [DeliveryView.of(one) for one in found]


async def _delivery(request: Request, found: Delivery, *, is_replayed: bool = False) -> Response:
    report = DeliveryReport.of_sent(found, await redelivering.sent(context_of(request), found))
    return base.render(request, "delivery.html", delivery=report, kinds=KINDS, is_replayed=is_replayed)
