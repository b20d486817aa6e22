"""The peers on Node, with undici: BullMQ, graphile-worker and pg-boss. npm installs them when they are first needed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tests.benchmarks.contenders.base import ENDPOINT, PAYLOAD, Command, Contender, Enqueuer, Site
from tests.benchmarks.contenders.calls import HEADERS, RESULTS, STORED
from tests.benchmarks.processes import ROOT
from tests.benchmarks.watching import RedisWatcher, SqlWatcher, Watcher
from tests.database import execute

SOURCE = ROOT / "tests" / "benchmarks" / "node"
FOLDER = ROOT / ".benchmarks" / "node"  # not in the repository: npm fills it
NPM_SECONDS = 300


@dataclass(frozen=True)
class Seen:
    """How a watcher sees it: SQL of a count and of delays, or what RedisWatcher takes."""

    stored: str
    delays: tuple[str, ...]


class NodePeer(Contender):
    """One of the modules in `node/`."""

    client = "undici"

    def __init__(
        self, name: str, module: str, store: Literal["postgres", "redis"], configuration: str, docs: str, seen: Seen
    ) -> None:
        self.name, self.module, self.store = name, module, store  # type: ignore[misc]  # each instance has its own
        self.configuration, self.docs, self.seen = configuration, docs, seen  # type: ignore[misc]  # as the name
        self.needs = ("redis",) if store == "redis" else ()  # type: ignore[misc]  # as the name

    def missing(self) -> str | None:
        absent = [name for name in ("node", "npm") if shutil.which(name) is None]
        if absent:
            return f"{' and '.join(absent)} are not installed"
        return super().missing() or install()

    def worker(self, site: Site) -> Command:
        return Command(["node", *self._words("worker")], _environment(site))

    async def prepare(self, site: Site) -> None:
        if self.store == "postgres":
            await execute(site.database, RESULTS)
            await self._run(site, "prepare")

    async def fill(self, site: Site, count: int) -> None:
        await self._run(site, "fill", str(count))

    def watcher(self, site: Site) -> Watcher:
        kind = SqlWatcher if self.store == "postgres" else RedisWatcher
        return kind(site, self.seen.stored, *self.seen.delays)

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site, self)

    def _words(self, *words: str) -> list[str]:
        return [str(FOLDER / "jobs.mjs"), self.module, *words]

    async def start(self, site: Site, *words: str, **how: Any) -> asyncio.subprocess.Process:
        """One of the commands of jobs.mjs."""
        env = _environment(site) | {"PATH": str(Path(shutil.which("node") or "node").parent)}
        return await asyncio.create_subprocess_exec(
            "node", *self._words(*words), env=env, stdout=asyncio.subprocess.PIPE, **how
        )

    async def _run(self, site: Site, *words: str) -> None:
        process = await self.start(site, *words)
        await process.communicate()
        assert process.returncode == 0, f"{self.name}: {' '.join(words)} failed"


@cache
def install(folder: Path = FOLDER) -> str | None:
    """Install what package.json names, once. Why that failed, if it did."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in SOURCE.iterdir():
        shutil.copyfile(source, folder / source.name)
    wanted, stamp = (SOURCE / "package.json").read_text(encoding="utf-8"), folder / "installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return None
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    if done.returncode:
        return f"npm install failed: {done.stderr.strip()[-300:]}"
    stamp.write_text(wanted, encoding="utf-8")
    return None


def _environment(site: Site) -> dict[str, str]:
    more = {"BENCH_PAYLOAD": json.dumps(PAYLOAD), "BENCH_HEADERS": json.dumps(HEADERS), "BENCH_ENDPOINT": ENDPOINT}
    return site.environment | more | {"NODE_ENV": "production"}


class _Enqueuer(Enqueuer):
    def __init__(self, site: Site, peer: NodePeer) -> None:
        super().__init__(site)
        self.peer = peer

    async def __aenter__(self) -> Enqueuer:
        self.process = await self.peer.start(self.site, "serve", stdin=asyncio.subprocess.PIPE)
        assert self.process.stdout
        await self.process.stdout.readline()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        await self.process.wait()

    async def one(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()


_BULLMQ_REDIS = Seen(
    "redis.call('ZCARD', 'bull:bench:completed')",
    (r'"HMSET" "bull:bench:(\d+)" ', r'"ZADD" "bull:bench:completed" "\d+" "(\d+)"'),
)
# When a job was queued is known to the millisecond, by Node's clock: the middle of it is taken.
_BULLMQ_POSTGRES = Seen(
    "SELECT count(*) FROM bullmq.job WHERE state = 'completed'",
    (
        """SELECT seq, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 - (added_at_ms + 0.5) / 1000
           FROM bullmq.job WHERE state = 'completed' ORDER BY seq""",
    ),
)
_GRAPHILE = Seen(
    STORED,
    (
        """SELECT job, extract(epoch FROM pg_xact_commit_timestamp(xmin) - queued_at)::float8 FROM results
           ORDER BY job""",
    ),
)
_PG_BOSS = Seen(
    "SELECT count(*) FROM pgboss.job WHERE name = 'bench' AND state = 'completed'",
    (
        """SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_on)::float8 FROM pgboss.job
           WHERE name = 'bench' AND state = 'completed' ORDER BY created_on""",
    ),
)
NODE_PEERS = (
    NodePeer(
        "BullMQ", "bullmq", "redis", "Worker with concurrency=50; the id is the job's return value, kept",
        "https://docs.bullmq.io/guide/workers/concurrency", _BULLMQ_REDIS,
    ),
    NodePeer(
        "BullMQ on PostgreSQL", "bullmq-postgres", "postgres",
        "createPostgresBackend with its own pool, Worker with concurrency=50; the id is the job's return value, kept; "
        "queued by Node's clock in ms, the middle of the millisecond is taken",
        "https://docs.bullmq.io/guide/postgresql", _BULLMQ_POSTGRES,
    ),
    NodePeer(
        "graphile-worker", "graphile-worker", "postgres",
        "concurrentJobs=50, localQueue.size=51, completeJobBatchDelay=0, pool of 52; each id is inserted into a table",
        "https://worker.graphile.org/docs/performance", _GRAPHILE,
    ),
    NodePeer(
        "pg-boss", "pg-boss", "postgres",
        "localConcurrency=5 with batchSize=10, perJobResults, burstWhenBatchFull, useListenNotify; the id is the "
        "job's output, kept",
        "https://pgboss.io/api/workers", _PG_BOSS,
    ),
)  # fmt: skip
