"""Everybody who deals with the service during a soak: users, crons, relays, the app's own SQL, and bad luck."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from service import webhooks
from tests.crash.soak_fleet import Fleet
from tests.database import connected

IMAGE = "https://example.com/boat.jpg"
AGAIN_SECONDS = 0.2
BATCH = 25
WAITS_EVERY = 5  # one in so many waits for the video that is handed in
# How often users do so, for each video that was handed in, at most: else, where the service is slow, they cancel most
# of what they ask for, and send again what always fails.
SHARES = {"cancel": 0.2, "retry": 0.2, "retry with consent": 0.3}
OLDEST = 5  # of those that wait: a request submits the one that it is about if it is in its turn
FREEZE_SECONDS = 1.5
FREEZE_SHARE = 0.2  # of what would be killed
KILLED = ("worker", "worker", "web", "poll")
AWAY_SECONDS = 3.0  # at most: about as long as a busy machine takes to start Python

_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    ORDER BY random() LIMIT $1) AS some
"""
_DRAG = "UPDATE taxiway.videos SET status = 'queued', updated_at = now() WHERE id = $1 AND status = 'processing'"
# What `taxiway resume` does: whoever runs the service has bought credits, or has a new key.
_RESUME = """
UPDATE taxiway.models SET paused_until = NULL, reason = NULL, detail = NULL, paused_at = NULL WHERE reason IS NOT NULL
"""


@dataclass
class Crowd:
    """`prompts` is everything that was created; `did` counts what was done to the service."""

    fleet: Fleet
    database_url: str
    web_urls: list[str]
    secrets: Mapping[str, str]
    dice: Random
    prompts: dict[UUID, str] = field(default_factory=dict)
    did: Counter[str] = field(default_factory=Counter)
    handed_in: asyncio.Event = field(default_factory=asyncio.Event)
    away: dict[str, float] = field(default_factory=dict)  # until when

    async def hand_in(self, api: httpx.AsyncClient, prompts: Iterable[str], pause: float = 0.0) -> None:
        """Enqueue all of it, in batches, each until it was answered: an Idempotency-Key makes that one video.

        `pause`: seconds between two batches.
        """
        waiting = list(enumerate(prompts))
        while waiting:
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            await asyncio.gather(*(self._hand_in_one(api, *one) for one in batch))
            await asyncio.sleep(pause if waiting else 0)
        self.handed_in.set()

    async def _hand_in_one(self, api: httpx.AsyncClient, number: int, prompt: str) -> None:
        """One in some waits for its video, and so submits it in its request, which may be killed at any moment."""
        body = {"input": {"promptText": prompt, "promptImage": IMAGE}}
        headers = {"idempotency-key": prompt}
        if number % WAITS_EVERY == 0:
            headers["prefer"] = f"wait={self.dice.randint(1, 3)}"
        while True:
            answer = await self.ask(api, "POST", "/videos", json=body, headers=headers)
            if answer is not None and answer.is_success:
                self.did["waited for" if "preference-applied" in answer.headers else "handed in"] += 1
                self.prompts[UUID(answer.json()["id"])] = prompt
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def poll(self, api: httpx.AsyncClient) -> None:
        """A browser asks for a video that is queued: that may submit it."""
        listed = await self.ask(api, "GET", "/videos?status=queued&limit=200")
        if listed is None or not listed.is_success or not (videos := listed.json()["videos"]):
            return
        answer = await self.ask(api, "GET", f"/videos/{self.dice.choice(videos[-OLDEST:])['id']}")
        if answer is not None and answer.is_success:
            self.did["asked for, and submitted" if answer.json()["submitted_at"] else "asked for"] += 1

    async def ask(self, api: httpx.AsyncClient, method: str, path: str, **what: Any) -> httpx.Response | None:
        """One request to one of the web processes; None if it got no answer. Counts what must not be: a 500."""
        key = {"authorization": f"Bearer {self.secrets['API_KEYS']}"}
        what["headers"] = key | what.get("headers", {})
        try:
            answer = await api.request(method, self.dice.choice(self.web_urls) + path, **what)
        except (httpx.HTTPError, AttributeError):  # anyio's own, of a connection that was closed as it was made
            self.did["requests without an answer"] += 1
            return None
        if answer.status_code == 500:
            self.did["answered 500"] += 1
        return answer

    async def use(self, api: httpx.AsyncClient) -> None:
        """One user does something to one video."""
        actions = ("read", "ledger", "cancel", "retry", "retry with consent")
        action = self.dice.choices(actions, (6, 1, 3, 2, 2))[0]
        if action in SHARES and self.did[action] >= SHARES[action] * len(self.prompts):
            return
        wanted = {"retry": "failed", "retry with consent": "failed", "cancel": "queued,processing"}.get(action)
        query = f"?status={wanted}&limit=200" if wanted else "?limit=200"
        listed = await self.ask(api, "GET", f"/videos{query}")
        if listed is None or not listed.is_success or not (videos := listed.json()["videos"]):
            return
        path = f"/videos/{self.dice.choice(videos)['id']}"
        body = {"accept_double_charge": action == "retry with consent"}
        match action:
            case "read":
                answer = await self.ask(api, "GET", path)
            case "ledger":
                answer = await self.ask(api, "GET", f"{path}/submissions")
            case "cancel":
                answer = await self.ask(api, "POST", f"{path}/cancel")
            case _:
                answer = await self.ask(api, "POST", f"{path}/retry", json=body)
        if answer is not None and answer.is_success:
            self.did[action] += 1

    async def cron(self, api: httpx.AsyncClient) -> None:
        """A cron caller, which often hangs up before the answer."""
        timeout = self.dice.choice((0.3, 5.0))
        secret = {"authorization": f"Bearer {self.secrets['CRON_SECRET']}"}
        path = self.dice.choice(("/process-queued?budget=2", "/poll-processing?budget=1"))
        await self.ask(api, "POST", path, headers=secret, timeout=timeout)
        self.did["cron calls"] += 1

    async def call_back(self, api: httpx.AsyncClient, data: Mapping[str, str], *, forged: bool = False) -> None:
        """One callback. A forged one must be refused."""
        body = json.dumps({"type": "task.updated", "data": data}).encode()
        secret = self.secrets["CALLBACK_SECRETS"] if not forged else webhooks.new_secret(self.dice.randbytes)
        headers = webhooks.headers(secret, f"msg_{self.dice.getrandbits(64):x}", int(time.time()), body)
        answer = await self.ask(api, "POST", "/callbacks/runway", content=body, headers=headers)
        self.did["forged callbacks" if forged else "callbacks with evidence"] += 1
        if forged and answer is not None and answer.status_code != 401:
            self.did["forged callbacks taken"] += answer.status_code < 500

    async def drag(self) -> None:
        """The app puts a row back in the queue that is with Runway, or about to be."""
        if not self.prompts:
            return
        async with connected(self.database_url) as connection:
            try:
                status = await connection.execute(_DRAG, self.dice.choice(list(self.prompts)))
            except asyncpg.CheckViolationError:
                self.did["rows dragged, refused by the schema"] += 1
            else:
                self.did["rows dragged"] += status == "UPDATE 1"

    async def cut(self) -> None:
        """Cut a few connections to the database."""
        async with connected(self.database_url) as connection:
            self.did["connections cut"] += await connection.fetchval(_CUT, 2)

    async def resume(self) -> None:
        """The operator opens what is paused."""
        async with connected(self.database_url) as connection:
            self.did["models resumed"] += int((await connection.execute(_RESUME)).split()[-1])

    async def kill(self) -> None:
        """kill -9 one process of the service, which stays away for a while, or freeze it. All workers go at first.

        While they are away, a request for a video has it submitted.
        """
        now = time.monotonic()
        self.come_back([name for name, at in self.away.items() if at <= now])
        if not self.fleet.did["kill -9"]:
            killed = self.fleet.names("worker") + self.fleet.names("poll")
        else:
            killed = self.dice.sample(names, 1) if (names := self.fleet.names(self.dice.choice(KILLED))) else []
        if killed and self.fleet.did["kill -9"] and self.dice.random() < FREEZE_SHARE:
            await self.fleet.freeze(killed[0], FREEZE_SECONDS)
            return
        self.fleet.kill(*killed)
        self.away |= {name: now + self.dice.uniform(0, AWAY_SECONDS) for name in killed}

    def come_back(self, names: Iterable[str]) -> None:
        """Start again what was killed."""
        for name in list(names):
            del self.away[name]
            self.fleet.restart(name)


async def every(seconds: float, dice: Random, work: Callable[[], Awaitable[None]]) -> None:
    """Do it again and again, at irregular times, until cancelled. The database may be unreachable to us as well."""
    while True:
        await asyncio.sleep(seconds * (0.5 + dice.random()))
        try:
            await work()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            continue
