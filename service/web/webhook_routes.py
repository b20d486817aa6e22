"""The API of webhooks that go out: deliveries, and the endpoints that they go to."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.errors import NoSuchDelivery, NoSuchEndpoint
from service.operations import redelivering, webhook_endpoints
from service.web.operations import answer, body_of, query_of
from service.web.schemas_webhooks import (
    LARGEST_ID,
    DeliveryPage,
    DeliveryQuery,
    DeliveryReport,
    EndpointList,
    EndpointView,
    TestRequest,
    TestResult,
    TestResults,
)

LARGEST_DELIVERY_ID = 2**63 - 1


async def list_deliveries(ctx: Context, request: Request) -> Response:
    """GET /deliveries"""
    asked = query_of(request, DeliveryQuery)
    return answer(DeliveryPage.of(await redelivering.page(ctx, asked.wanted(), asked.before(), asked.limit)))


async def read_delivery(ctx: Context, request: Request) -> Response:
    """GET /deliveries/{id}"""
    found = await redelivering.find(ctx, delivery_id_of(request))
    return answer(DeliveryReport.of_sent(found, await redelivering.sent(ctx, found)))


async def replay_delivery(ctx: Context, request: Request) -> Response:
    """POST /deliveries/{id}/replay: the answer says what the attempt came to."""
    found = await redelivering.replay(ctx, delivery_id_of(request))
    return answer(DeliveryReport.of_sent(found, await redelivering.sent(ctx, found)))


async def list_endpoints(ctx: Context, _request: Request) -> Response:
    """GET /webhooks"""
    return answer(EndpointList(endpoints=[EndpointView.of(one) for one in await webhook_endpoints.listed(ctx)]))


async def test_endpoints(ctx: Context, request: Request) -> Response:
    """POST /webhooks/test: one attempt, inside the request."""
    asked = await body_of(request, TestRequest, ctx.settings.max_body_bytes)
    tested = await webhook_endpoints.test(ctx, asked.endpoint_id)
    return answer(TestResults(results=[TestResult.of(one) for one in tested]))


async def enable_endpoint(ctx: Context, request: Request) -> Response:
    """POST /webhooks/{id}/enable: also of one that is not disabled; it begins as a new one."""
    return answer(EndpointView.of(await webhook_endpoints.enable(ctx, endpoint_id_of(request))))


def delivery_id_of(request: Request) -> int:
    """The id of the delivery in the path. Raises NoSuchDelivery."""
    text = request.path_params["id"]
    if not _is_id(text, LARGEST_DELIVERY_ID):
        raise NoSuchDelivery(f"{text[:100]!r} is not the id of a delivery")
    return int(text)


def endpoint_id_of(request: Request) -> int:
    """The id of the endpoint in the path. Raises NoSuchEndpoint."""
    text = request.path_params["id"]
    if not _is_id(text, LARGEST_ID):
        raise NoSuchEndpoint(f"{text[:100]!r} is not the id of a webhook endpoint")
    return int(text)


def _is_id(text: str, largest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(largest)) and int(text) <= largest
