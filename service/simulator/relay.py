"""The relay that third parties put in front of Runway: it calls back when a task has ended.

Runway itself sends no callbacks. What this sends is signed as Standard Webhooks has it, and may come late,
twice or never, as with any relay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import httpx

from service.simulator.ledger import iso
from service.simulator.state import Runway
from service.simulator.tasks import Task

ATTEMPTS = 5
FIRST_RETRY_SECONDS = 1.0
CALL_TIMEOUT_SECONDS = 15.0
LOOK_EVERY_SECONDS = 0.2


@dataclass
class Delivery:
    """A callback on its way. `due` in Unix seconds."""

    message_id: str
    task_id: str
    due: float
    attempts: int = 0


class Relay:
    """Delivers one callback for every task that ends."""

    def __init__(self, runway: Runway, url: str, secret: str, client: Callable[[], httpx.AsyncClient]) -> None:
        self._runway, self._url, self._secret, self._client = runway, url, secret, client
        self._waiting: list[Delivery] = []
        runway.on_finished = self._note

    def _note(self, task: Task) -> None:
        message_id = f"msg_{self._runway.random.getrandbits(128):032x}"
        self._waiting.append(Delivery(message_id, task.id, self._runway.clock()))

    async def relay_once(self) -> int:
        """Send what is due, once. Returns how many were taken (2xx)."""
        self._runway.advance()
        due = [item for item in self._waiting if item.due <= self._runway.clock()]
        if not due:
            return 0
        async with self._client() as client:
            return sum([await self._deliver(client, item) for item in due])

    async def relay_forever(self, sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        """Send what becomes due, until cancelled."""
        while True:
            await self.relay_once()
            await sleep(LOOK_EVERY_SECONDS)

    async def _deliver(self, client: httpx.AsyncClient, item: Delivery) -> bool:
        now = self._runway.clock()
        body = json.dumps({"type": "task.updated", "timestamp": iso(now), "data": {"task_id": item.task_id}}).encode()
        headers = {"content-type": "application/json", **sign(self._secret, item.message_id, int(now), body)}
        try:
            taken = (await client.post(self._url, content=body, headers=headers)).is_success
        except (httpx.HTTPError, httpx.InvalidURL):
            taken = False
        item.attempts += 1
        item.due = self._runway.clock() + FIRST_RETRY_SECONDS * 2 ** (item.attempts - 1)
        if taken or item.attempts == ATTEMPTS:
            self._waiting.remove(item)
        return taken


def default_client() -> httpx.AsyncClient:
    """A client for calls on this machine: proxies of the environment are left out."""
    return httpx.AsyncClient(timeout=CALL_TIMEOUT_SECONDS, trust_env=False)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks (v1, symmetric). `secret` is `whsec_` and base64, or plain text."""
    text = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), text, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return secret.encode()
