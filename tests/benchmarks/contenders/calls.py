"""What every Python contender's job does: one POST with aiohttp, and where its worker finds its environment."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg

from tests.benchmarks.contenders.base import ENDPOINT, KEY

HEADERS = {"Authorization": f"Bearer {KEY}", "X-Runway-Version": "2024-11-06", "Content-Type": "application/json"}
DATABASE = os.environ.get("BENCH_DATABASE", "")
REDIS = os.environ.get("BENCH_REDIS", "")
SLOTS = int(os.environ.get("BENCH_SLOTS", "50"))
URL = os.environ.get("BENCH_RUNWAY", "") + ENDPOINT


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """One session for all calls of a worker."""
    connector = aiohttp.TCPConnector(limit=SLOTS)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        yield session


async def post(session: aiohttp.ClientSession, body: Any) -> str:
    """One create; the id of its task."""
    async with session.post(URL, data=json.dumps(body)) as response:
        answer = await response.json()
        task_id: str = answer["id"]
        return task_id


async def no_reset(_connection: object) -> None:
    """Instead of asyncpg's reset of a connection that is given back: it would be one more round trip for each job."""


async def pool(size: int = 10) -> asyncpg.Pool[asyncpg.Record]:
    """The fastest pool that asyncpg has."""
    made = await asyncpg.create_pool(DATABASE, min_size=size, max_size=size, reset=no_reset)
    assert made is not None
    return made


# Where peers without a store of their own keep the id: the app's table.
RESULTS = "CREATE TABLE results (job bigint PRIMARY KEY, task_id text NOT NULL)"
STORE = "INSERT INTO results (job, task_id) VALUES ($1, $2)"
STORED = "SELECT count(*) FROM results"
