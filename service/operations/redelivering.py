"""Deliveries as people see them: the list, one with what was sent and answered, and sending one again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from service import webhooks
from service.context import Context
from service.deadline import Share
from service.errors import CannotReplay, NoSuchDelivery
from service.logs import VIDEO, event
from service.operations import delivering, sending
from service.settings import need
from service.store import delivery_log
from service.store.delivery_log import Delivery, WantedDeliveries

log = logging.getLogger(__name__)

LONG_PART, LONG_PART_WITH_DIGITS = 16, 8  # characters of a part of a path that may be a secret
REPLAY_SECONDS = 10.0  # a person waits; what takes longer is left to the ticks


@dataclass(frozen=True)
class DeliveryList:
    """One page of deliveries, newest first. `next`: the id before which the next page begins, if there is one."""

    deliveries: Sequence[Delivery]
    next: int | None


@dataclass(frozen=True)
class Sent:
    """What a delivery sends: headers but the signature, and the body; None where nothing is left to say."""

    headers: Mapping[str, str]
    body: str | None


async def page(ctx: Context, wanted: WantedDeliveries, before: int | None, limit: int) -> DeliveryList:
    """At most `limit` deliveries that match, older than the one with the id `before`."""
    found = await delivery_log.page(ctx.database, wanted, before=before, limit=limit + 1)
    return DeliveryList(found[:limit], found[limit - 1].due.id if len(found) > limit else None)


async def find(ctx: Context, delivery_id: int) -> Delivery:
    """One delivery. Raises NoSuchDelivery."""
    found = await delivery_log.one(ctx.database, delivery_id)
    if found is None:
        raise NoSuchDelivery(f"no delivery has the id {delivery_id}; they are kept for 7 days")
    return found


async def sent(ctx: Context, delivery: Delivery) -> Sent:
    """What it sends, or has sent last. The signature is left out: with it, its message could be sent by others."""
    due = delivery.due
    found = await delivering.reported(ctx, [due], ended=True)
    body = delivering.sent_body(due, found[due.id]) if due.url else None
    headers = sending.HEADERS | {webhooks.ID: due.webhook_id}
    if delivery.attempts:
        at = datetime.fromisoformat(delivery.attempts[-1]["at"])
        headers |= {webhooks.TIMESTAMP: str(int(at.timestamp()))}
    return Sent(headers, None if body is None else json.dumps(json.loads(body), indent=2, ensure_ascii=False))


async def replay(ctx: Context, delivery_id: int) -> Delivery:
    """Send it again, now and under the same id; then the delivery as it is. If that fails, ticks try again.

    Raises NoSuchDelivery, CannotReplay, and NotConfigured without a secret that signs.
    """
    need(ctx.settings, "webhook_secrets")
    before = await find(ctx, delivery_id)
    _check(before)
    claimed = await delivery_log.claim_again(ctx.database, delivery_id)
    if not claimed:
        raise CannotReplay("an attempt is under way: look again in a moment")
    event(log, VIDEO, "webhook_replayed", f"Webhook {before.due.webhook_id} is sent again by {ctx.actor}")
    ends = ctx.monotonic() + REPLAY_SECONDS
    await delivering.attempt(ctx, Share(ctx.monotonic, ends, ends), claimed, in_request=True)
    return await find(ctx, delivery_id)


def _check(delivery: Delivery) -> None:
    if not delivery.due.url:
        raise CannotReplay("its video was erased, and the address that came with it")
    if delivery.endpoint_kind == "listen":
        raise CannotReplay("it is for a laptop: `taxiway listen` alone sends there")
    if delivery.due.endpoint_id is not None and delivery.endpoint_kind is None:
        raise CannotReplay("its address is no endpoint any more")


def shown_url(url: str) -> str:
    """An address as it may be shown: without a query, and without parts that are long enough to be secrets.

    Who knows an address such as Slack's may post there.
    """
    parts = urlsplit(url)
    path = "/".join("…" if _may_be_secret(part) else part for part in parts.path.split("/"))
    return parts._replace(path=path, query="…" if parts.query else "", fragment="").geturl()


def _may_be_secret(part: str) -> bool:
    return len(part) >= LONG_PART or (len(part) >= LONG_PART_WITH_DIGITS and any(map(str.isdigit, part)))


def attempts_of(delivery: Delivery) -> list[dict[str, Any]]:
    """Its attempts, the oldest first, with every name there."""
    names = ("at", "ms", "http_status", "error", "answer")
    return [{name: one.get(name) for name in names} for one in delivery.attempts]
