"""Whatever Runway's answers say, into the real database: the id is stored, and the video ends in time.

`VALUES=500 pytest tests/system/test_values.py` tries more of them.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.response_parsing import LONGEST_ADDRESS
from service.store import queue_stats
from service.tick import tick
from tests.database import run
from tests.world import World, world

EXAMPLES = int(os.environ.get("VALUES", "20"))
FILE = "https://files.example.com/a.mp4?_jwt="
# What no column holds, or what a parser stumbles over, as JSON text.
NUMBERS = (
    "1e400", "-1e400", "1e-50", "1e-20000", "1e-99999999999999999999", "1e99999999999999999999", "-0", "0.1", "25",
    "1e3", "9" * 17_000, f"0.{'1' * 17_000}", f"{'7' * 5}.{'7' * 17_000}", "1e131072", "10000000.0000001", "NaN",
)  # fmt: skip
TEXTS = (
    "", "\0", "a\0b", "\ud800", "\udfff\ud800", "é" * 300, "x" * 100_000, "RUNNING", "1" * 5_000, "\\", "\x1b[31m",
)  # fmt: skip

number = st.sampled_from(NUMBERS) | st.floats().map(json.dumps) | st.integers().map(str)
text = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=()))
scalar = number | text.map(json.dumps) | st.sampled_from(["null", "true", "false"])
anything = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: f"[{','.join(some)}]")
        | st.dictionaries(text, inner, max_size=3).map(lambda some: whole(some))
    ),
    max_leaves=5,
) | st.just("[" * 5_000 + "]" * 5_000)
credits = anything | number.map(lambda it: f'{{"credits":{it}}}')
address = text | st.sampled_from([2_600, LONGEST_ADDRESS, 20_000]).map(lambda n: FILE + "x" * (n - len(FILE)))


def whole(fields: dict[str, str]) -> str:
    """An object out of JSON texts."""
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}"


created = st.fixed_dictionaries({}, optional={"estimatedCost": credits, "more": anything})
seen = st.fixed_dictionaries(
    {"status": (st.sampled_from(["PENDING", "RUNNING", "THROTTLED"]) | text).map(json.dumps)},
    optional={
        "progress": anything, "createdAt": anything, "failure": anything, "failureCode": anything, "output": anything,
        "cost": credits, "estimatedCost": credits, "more": anything,
    },
)  # fmt: skip
ended = seen.flatmap(
    lambda fields: st.fixed_dictionaries(
        {
            "status": st.sampled_from(['"SUCCEEDED"', '"FAILED"', '"CANCELLED"']),
            "output": st.lists(address, max_size=3).map(json.dumps) | anything,
        }
    ).map(lambda end: fields | end)
)


class Answers(httpx.AsyncBaseTransport):
    """A Runway that says exactly this: once to a create, and then of the task, the last again and again."""

    def __init__(self, task_id: str, create: str, polls: list[str]) -> None:
        self.task_id, self.create, self.polls = task_id, create, polls

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, content=self.create.encode())
        if request.method == "DELETE":
            return httpx.Response(204)
        body = self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]
        return httpx.Response(200, content=body.encode())


def with_id(task_id: str, fields: dict[str, str], *, last: bool = False) -> str:
    """The object, with the id in front of all that may be odd, or behind it."""
    id = {"id": json.dumps(task_id)}
    return whole(fields | id if last else id | fields)


async def live(url: str, create: dict[str, str], polls: list[dict[str, str]], last: bool) -> None:
    """One video's whole life with these answers."""
    task_id = str(uuid4())
    answers = Answers(task_id, with_id(task_id, create, last=last), [with_id(task_id, one) for one in polls])
    async with world(url) as w:
        ctx = replace(w.ctx, transport=lambda: answers)
        await w.rows("DELETE FROM taxiway.videos")
        await w.rows("DELETE FROM taxiway.models")  # what the answers before did to the model's circuit
        video_id = await w.enqueue()
        counts = (await tick(ctx)).as_json()
        assert "errors" not in counts
        [entry] = await w.ledger(video_id)
        too_deep = last and any("[[[[" in value for value in create.values())
        if not too_deep:
            assert (entry["outcome"], entry["task_id"]) == ("accepted", task_id)
        for minutes in (1, 1, 26 * 60, 26 * 60):  # twice TASK_TIMEOUT is the last time of a task that cannot be read
            await w.later(minutes=minutes)
            counts = (await tick(ctx)).as_json()
            assert "errors" not in counts
        row = await w.row(video_id)
        if row["status"] == "queued":  # a failed task is worth another
            return
        assert row["finished_at"] is not None, dict(row)
        assert (await queue_stats.report(w.ctx.database))["stuck"] == 0
        await told_whole(w, row, polls[-1])


async def told_whole(w: World, row: Any, end: dict[str, str]) -> None:
    """An address that PostgreSQL can hold is kept as it is; and the video can be read."""
    assert (await w.api.get(f"/videos/{row['id']}")).status_code == 200
    assert (await w.api.get(f"/videos/{row['id']}/events")).status_code == 200
    try:
        output = json.loads(end["output"])
    except (KeyError, ValueError, RecursionError):
        return
    if end["status"] == '"SUCCEEDED"' and isinstance(output, list) and output:
        first = output[0]
        if isinstance(first, str) and first.startswith(FILE) and len(first) <= LONGEST_ADDRESS and row["video_url"]:
            assert row["video_url"] == first


QUICK = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]
RUNNING = {"status": '"RUNNING"', "progress": "1e-50"}
R6 = {
    "status": '"SUCCEEDED"', "progress": "1e-50", "cost": f'{{"credits":25.{"3" * 17_000}}}',
    "output": json.dumps([FILE + "x" * 2_600]),
}  # fmt: skip


def test_every_value_of_an_answer(database_url: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=QUICK)
    @example({"estimatedCost": '{"credits":1e-20000}'}, [RUNNING], R6, False)
    @example({"estimatedCost": '{"credits":1e-20000}'}, [RUNNING], R6, True)
    @example({}, [], R6 | {"output": json.dumps([FILE + "x" * 20_000])}, False)
    @example({}, [RUNNING], {"status": '"FAILED"', "failureCode": "42", "output": "null"}, True)
    @given(created, st.lists(seen, max_size=2), ended, st.booleans())
    def every(create: dict[str, str], running: list[dict[str, str]], end: dict[str, str], last: bool) -> None:
        run(live(database_url, create, [*running, end], last))

    every()
