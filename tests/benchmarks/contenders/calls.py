"""What every Python contender's job does: one POST with the same client, on uvloop; and what it needs for that."""

from __future__ import annotations

import json
import os
from typing import Any

import asyncpg

from tests.benchmarks.contenders.base import ENDPOINT, KEY
from tests.benchmarks.contenders.client import Client

HEADERS = {"Authorization": f"Bearer {KEY}", "X-Runway-Version": "2024-11-06", "Content-Type": "application/json"}
DATABASE = os.environ.get("BENCH_DATABASE", "")
REDIS = os.environ.get("BENCH_REDIS", "")
SLOTS = int(os.environ.get("BENCH_SLOTS", "50"))
URL = os.environ.get("BENCH_RUNWAY", "") + ENDPOINT


def client() -> Client:
    """One for all calls of a worker."""
    return Client(URL, HEADERS)


async def post(client: Client, body: Any) -> str:
    """One create; the id of its task."""
    task_id: str = json.loads(await client.post(json.dumps(body).encode()))["id"]
    return task_id


async def no_reset(_connection: object) -> None:
    """Instead of asyncpg's reset of a connection that is given back: it would be one more round trip for each job."""


async def pool(size: int = 10) -> asyncpg.Pool[asyncpg.Record]:
    """The fastest pool that asyncpg has."""
    made = await asyncpg.create_pool(DATABASE, min_size=size, max_size=size, reset=no_reset)
    assert made is not None
    return made


# Where peers without a store of their own keep the id: the app's table.
RESULTS = "CREATE TABLE results (job bigint PRIMARY KEY, task_id text NOT NULL, queued_at timestamptz)"
STORE = "INSERT INTO results (job, task_id) VALUES ($1, $2)"
STORED = "SELECT count(*) FROM results"
