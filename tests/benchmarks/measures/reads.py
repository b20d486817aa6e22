"""Lists, search and /health over HTTP, with a million videos in the table."""

from __future__ import annotations

import json
from urllib.parse import quote

from tests.benchmarks.contenders.taxiway import Web, environment
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab
from tests.benchmarks.load import Connection, hammer, prepared
from tests.world import API_KEY, CRON_SECRET

MOST_MS = 50.0
OLD_WORD, OLD_WORD_MOST_MS = "search, in nine of ten, in none of 100,000 new", 100.0
FIGURES = (Figure("p50", "p50 ms", 1), Figure("p99", "p99 ms", 1))
ASKED = {
    "the newest": "/videos?limit=50",
    "a page from the middle": "/videos?limit=50&cursor={cursor}",
    "by status, many": "/videos?status=completed&limit=50",
    "by status, none": "/videos?status=cancelled&limit=50",
    "by model": "/videos?model=gen4_turbo&limit=50",
    "by error, rare": "/videos?error_code=TASK_TIMEOUT&limit=50",
    "search, common words": "/videos?q=boat%20dawn&limit=50",
    "search, one video": "/videos?q=number%20700&limit=50",
    OLD_WORD: "/videos?q=number&limit=50",
    "health": "/health",
}


async def run(lab: Lab) -> Measured:
    """One request at a time: what a page or an app waits for."""
    _, url = await lab.with_history()
    await lab.queue_up()
    count = lab.size(100, 3)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with Web(environment(url, lab.servers.runway.url), lab.cores.worker) as web:
        await _tick(web.url)  # what a tick counts for /health is there
        cursor = await _cursor(web.url, headers)

        async def ask(name: str) -> Values:
            path = ASKED[name].format(cursor=quote(cursor))
            request = prepared("GET", web.url + path, headers)
            _, took = await hammer(web.url, request, connections=1, count=count, status=200)
            return {"p50": 1000 * percentile(took, 0.5), "p99": 1000 * percentile(took, 0.99)}

        rounds = await lab.in_rounds(list(ASKED), ask)
    result = Measured(
        "reads", "Lists, search and /health with 1,000,000 videos, one request at a time", FIGURES, rounds
    )
    for name in result.names:
        most = OLD_WORD_MOST_MS if name == OLD_WORD else MOST_MS
        result.bar(f"p99 of {name}, ms", result.middle(name, "p99"), most=most)
    return result


async def _tick(url: str) -> None:
    connection = Connection(url)
    headers = {"Authorization": f"Bearer {CRON_SECRET}"}
    status, body = await connection.ask(prepared("POST", f"{url}/process-queued?budget=0.2", headers))
    assert status == 200, body
    connection.close()


async def _cursor(url: str, headers: dict[str, str]) -> str:
    """A few pages down."""
    connection, path = Connection(url), "/videos?limit=100"
    for _ in range(5):
        status, body = await connection.ask(prepared("GET", url + path, headers))
        assert status == 200, body
        cursor: str = json.loads(body)["next"]
        path = f"/videos?limit=100&cursor={quote(cursor)}"
    connection.close()
    return cursor
