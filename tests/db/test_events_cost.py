"""What the history costs: bytes of the write-ahead log, for each video, over its usual life."""

from __future__ import annotations

import json
import secrets
import time
from decimal import Decimal
from uuid import uuid4

import pytest

from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import claim as claims
from service.store import tasks
from service.store import video_rows as store
from service.store.tasks import PollResult
from service.videos import Status, new_id
from tests.database import connected, execute
from tests.saved import save_answers
from tests.world import World

pytestmark = pytest.mark.anyio

MOST_BYTES = 400  # of a video's events, indexes included
VIDEOS, BATCH = 600, 50

# Only what this connection writes is counted: others may use the server. Each change has a commit of its own anyway.
APPEND = "EXPLAIN (ANALYZE, WAL, FORMAT JSON) INSERT INTO again SELECT * FROM taxiway.events WHERE at = $1"
# The index over time writes to its first range again and again, and to no other: so much is there before.
FILL = "INSERT INTO again (at, kind, actor) SELECT at, kind, actor FROM taxiway.events ORDER BY at"


def new_video(n: int) -> store.NewVideo:
    return store.NewVideo(
        id=new_id(time.time(), secrets.randbits(74)), operation="image_to_video", model="gen4_turbo",
        input={"promptText": f"a boat, number {n}"}, quoted_credits=25, user_id=None, prompt=None, image_url=None,
        metadata=None, priority=0, run_after=None, expires_at=None, timeout_seconds=3600, idempotency_key=None,
        request_hash=None, actor="shop",
    )  # fmt: skip


async def live(w: World, count: int) -> None:
    """Enqueue so many, claim them, save that each was accepted, and finish them."""
    for n in range(count):
        await store.enqueue(w.ctx.database, new_video(n))
    while claimed := await claims.claim(w.ctx.database, BATCH, 60, claim_id=None):
        made = {one.video_id: str(uuid4()) for one in claimed}
        answers = [
            as_outcome_row(
                one.submission_id, one.video_id,
                Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id=made[one.video_id]),
                Decision(Status.PROCESSING),
            )
            for one in claimed
        ]  # fmt: skip
        await save_answers(w.ctx, answers)
        ended = [
            PollResult(id, task, "completed", "SUCCEEDED", 1.0, None, None, 0.0, False, ["https://x.test/1.mp4"],
                       "https://x.test/1.mp4", None, Decimal(25), True, None)
            for id, task in made.items()
        ]  # fmt: skip
        assert len(await tasks.finalize(w.ctx.database, ended)) == len(claimed)


async def test_a_history_costs_few_bytes(w: World) -> None:
    await execute(w.url, "INSERT INTO taxiway.models (model, max_in_flight, held) VALUES ('gen4_turbo', 200, 200)")
    await live(w, VIDEOS)
    kinds = await w.rows("SELECT kind, count(*) AS n FROM taxiway.events GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in kinds] == [("completed", VIDEOS), ("enqueued", VIDEOS)]
    async with connected(w.url) as connection:
        times = await connection.fetch("SELECT DISTINCT at FROM taxiway.events ORDER BY at")
        await connection.execute("CREATE TABLE again (LIKE taxiway.events INCLUDING ALL)")
        await connection.execute(FILL)
        plans = [json.loads(await connection.fetchval(APPEND, row["at"])) for row in times]
    cost = sum(plan[0]["Plan"]["WAL Bytes"] for plan in plans)
    assert 0 < cost / VIDEOS <= MOST_BYTES
