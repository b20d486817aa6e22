"""The app's side of webhooks in a soak: it refuses some, hangs up on some, and judges in the end what it got."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from service import webhooks
from service.store.deliveries import WAITS
from tests.crash.proxy import Proxy

if TYPE_CHECKING:
    from tests.database import Connection

FAILS, HANGS_UP = 0.3, 0.05  # the shares of requests
# Of one webhook: what fails ten times, or waits a week behind others that do, is given up, and nothing here is to be.
MOST_FAILURES = 4
LONGEST_DELAY_SECONDS = 0.3
WRONGLY_SIGNED = "webhooks with a wrong signature"
_ANSWER = "HTTP/1.1 {} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

# What waits for the webhook before it is due when that has been delivered, however long it has been ready.
_NEXT = f"""
SELECT extract(epoch FROM min(GREATEST(d.due_at, e.probe_after)) - taxiway.now())::float8
FROM taxiway.deliveries d LEFT JOIN taxiway.endpoints e ON e.id = d.endpoint_id
WHERE d.state = 'due' AND NOT {WAITS}
"""
_ENDED = "SELECT id, round, status FROM taxiway.videos WHERE status IN ('completed', 'failed', 'cancelled')"
_ROWS = "SELECT video_id, webhook_id, state FROM taxiway.deliveries ORDER BY id"


@dataclass
class Receiver:
    """`accepted`: the ids of webhooks that it answered with 200, in the order in which it did so first."""

    secret: str
    dice: Random
    accepted: dict[str, str] = field(default_factory=dict)  # id -> type
    did: Counter[str] = field(default_factory=Counter)
    _failed: Counter[str] = field(default_factory=Counter)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, and the end of its connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        await asyncio.sleep(self.dice.random() * LONGEST_DELAY_SECONDS)
        status = self._answer(headers, body)
        if status is not None:
            writer.write(_ANSWER.format(status).encode())
            await writer.drain()
        writer.close()

    def _answer(self, headers: dict[str, str], body: bytes) -> int | None:
        try:
            message = webhooks.verify(headers, body, (self.secret,), time.time())
        except webhooks.SignatureRefused:
            self.did[WRONGLY_SIGNED] += 1
            return 401
        luck = self.dice.random()
        if self._failed[message.id] == MOST_FAILURES:
            luck = 1.0
        self._failed[message.id] += luck < FAILS + HANGS_UP
        if luck < FAILS:
            self.did["webhooks refused"] += 1
            return 500
        self.did["webhooks again" if message.id in self.accepted else "webhooks accepted"] += 1
        self.accepted.setdefault(message.id, json.loads(body)["type"])
        return None if luck < FAILS + HANGS_UP else 200

    async def complaints(self, connection: Connection) -> list[str]:
        """Every video whose end was not reported, every webhook that was not delivered, or out of order."""
        found = [
            f"video {row['id']}: that it is {row['status']} was not reported"
            for row in await connection.fetch(_ENDED)
            if f"msg_{row['id'].hex}_{row['round']}_{row['status']}" not in self.accepted
        ]
        rows = await connection.fetch(_ROWS)
        found += [f"webhook {row['webhook_id']} is {row['state']}" for row in rows if row["state"] != "delivered"]
        places = {id: place for place, id in enumerate(self.accepted)}
        by_video: dict[UUID, list[Any]] = {}
        for row in rows:
            by_video.setdefault(row["video_id"], []).append(places.get(row["webhook_id"], -1))
        for video_id, order in by_video.items():
            if any(later < earlier for earlier, later in pairwise(order)):
                found.append(f"video {video_id}: its webhooks came out of order")
        return found


@asynccontextmanager
async def receiving(receiver: Receiver, port: int) -> AsyncIterator[None]:
    """It listens on this port meanwhile."""
    async with Proxy(receiver.handle).listening(port):
        yield


async def seconds_to_next_webhook(connection: Connection) -> float | None:
    """When a webhook may be attempted again; None if none is due."""
    seconds: float | None = await connection.fetchval(_NEXT)
    return None if seconds is None else max(seconds, 0.0)
