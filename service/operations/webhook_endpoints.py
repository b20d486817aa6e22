"""The endpoints of webhooks as people see them: how each is, a test event to them, and enabling one again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from service.context import Context
from service.errors import CannotReplay, NoSuchEndpoint, NotConfigured
from service.logs import VIDEO, event
from service.operations import delivering
from service.operations.delivery_rules import iso, result_of
from service.operations.finalize import now
from service.operations.sending import Answer, Sender, body_of, sending
from service.settings import need
from service.store import delivery_log, endpoint_states
from service.store.deliveries import Due
from service.store.endpoint_states import EndpointState

log = logging.getLogger(__name__)

TEST = "webhook.test"
TEST_SECONDS = 10.0  # a person waits for the answers
TEST_WORDS = "This is a test of the webhook: nothing happened"


@dataclass(frozen=True)
class Tested:
    """What an endpoint answered to a test. `delivery_id`: where it stands in the list."""

    endpoint: EndpointState
    delivery_id: int
    is_delivered: bool
    answer: Answer


async def listed(ctx: Context) -> list[EndpointState]:
    """Every endpoint that is in use, or has something due to it."""
    return await endpoint_states.every(ctx.database)


async def find(ctx: Context, endpoint_id: int) -> EndpointState:
    """One of them. Raises NoSuchEndpoint."""
    found = next((one for one in await listed(ctx) if one.id == endpoint_id), None)
    if found is None:
        raise NoSuchEndpoint(f"no webhook endpoint has the id {endpoint_id}; `taxiway webhooks` lists them")
    return found


async def enable(ctx: Context, endpoint_id: int) -> EndpointState:
    """Send to it again, at once, also what ended because it was disabled. Raises NoSuchEndpoint."""
    if not await endpoint_states.enable(ctx.database, endpoint_id):
        raise NoSuchEndpoint(f"no webhook endpoint has the id {endpoint_id}; `taxiway webhooks` lists them")
    event(log, VIDEO, "endpoint_enabled", f"Webhook endpoint {endpoint_id} enabled by {ctx.actor}")
    ctx.outbox.note()
    return await find(ctx, endpoint_id)


async def test(ctx: Context, endpoint_id: int | None) -> list[Tested]:
    """Send a test event to one endpoint, or to all that are not disabled, once; what each answered.

    Raises NoSuchEndpoint, CannotReplay for a laptop that listens, and NotConfigured without endpoints or a secret.
    """
    need(ctx.settings, "webhook_secrets")
    chosen = await _chosen(ctx, endpoint_id)
    async with sending(ctx, len(chosen)) as sender:
        answers = await asyncio.gather(*(_test(ctx, sender, one) for one in chosen))
    return list(answers)


async def _chosen(ctx: Context, endpoint_id: int | None) -> Sequence[EndpointState]:
    if endpoint_id is not None:
        found = await find(ctx, endpoint_id)
        if found.kind == "listen":
            raise CannotReplay("it is a laptop: `taxiway listen` alone sends there")
        return [found]
    every = [one for one in await listed(ctx) if one.kind != "listen" and one.state in ("ok", "failing")]
    if not every:
        words = "there is no endpoint to test: set WEBHOOK_URL in the environment, or name one that is disabled"
        raise NotConfigured(words, missing=["WEBHOOK_URL"])
    return every


async def _test(ctx: Context, sender: Sender, endpoint: EndpointState) -> Tested:
    payload = {"text": TEST_WORDS, "endpoint_id": endpoint.id, "by": ctx.actor}
    began = now(ctx)
    due = Due(
        id=0, video_id=None, group_id=None, endpoint_id=endpoint.id, event=TEST, webhook_id=f"msg_test_{uuid4().hex}",
        url=endpoint.url, created_at=began, tries=0, payload=json.dumps(payload),
    )  # fmt: skip
    answer = await sender.post(due, body_of(due, payload), TEST_SECONDS)
    result, _ = result_of(answer.status, tries=0, is_own=False, retry_after=None, random=0.0)
    is_delivered = result == "delivered"
    attempt = delivering.attempt_of(answer, iso(began))
    kept = await delivery_log.note_test(ctx.database, due, "delivered" if is_delivered else "failed", attempt)
    return Tested(endpoint, kept, is_delivered, answer)
