"""The laboratory: servers, a fresh database for each run, and the contenders that can be run here."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.benchmarks.contenders.base import Contender, Site, scalar
from tests.benchmarks.figures import Values
from tests.benchmarks.history import SEARCH, Sizes, enqueue_many, fill_past, found, run
from tests.benchmarks.processes import Cores, spawn, stop
from tests.benchmarks.servers import Servers
from tests.database import connected, execute

T = TypeVar("T")
SLOTS = 50


@dataclass
class Lab:
    """What a measure is given. `quick`: tiny sizes, one round, nobody but Taxiway and the floors."""

    servers: Servers
    cores: Cores
    contenders: list[Contender]
    quick: bool = False
    rounds: int = 3
    say: Callable[[str], None] = print
    missing: dict[str, str] = field(default_factory=dict)
    _history: tuple[str, str] | None = None
    _queue_due: Sizes | None = None
    _has_trained: bool = False
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def trains(self) -> bool:
        """Whether a contender is to be trained. Quick: the first alone, for each is trained by a worker more."""
        before, self._has_trained = self._has_trained, True
        return not (self.quick and before)

    def size(self, whole: int, quick: int) -> int:
        """The size of a measure: whole, or quick."""
        return quick if self.quick else whole

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """An empty database, dropped at the end."""
        postgres = self.servers.postgres
        name = f"bench_{next(self._numbers)}"
        await execute(postgres.url(), f"CREATE DATABASE {name}")
        try:
            yield postgres.url(name)
        finally:
            await execute(postgres.url(), f"DROP DATABASE {name} WITH (FORCE)")

    async def with_history(self) -> tuple[str, str]:
        """Two databases: an empty one, and one with a past. Filled when first asked for, and kept; see `queue_up`."""
        if self._history is None:
            sizes = self._queue_due = Sizes(self.size(1_000_000, 3_000), self.size(100_000, 1_500))
            self.say(f"    filling {sizes.finished:,} finished videos")
            postgres = self.servers.postgres
            await execute(postgres.url(), "CREATE DATABASE bench_empty")
            await found(postgres.url("bench_empty"))
            await execute(postgres.url(), "CREATE DATABASE bench_past TEMPLATE bench_empty STRATEGY FILE_COPY")
            await fill_past(postgres.url("bench_past"), sizes)
            self._history = postgres.url("bench_empty"), postgres.url("bench_past")
        return self._history

    @property
    def unqueued(self) -> bool:
        """Whether the one with a past still has no queue."""
        return self._queue_due is not None

    async def queue_up(self) -> None:
        """Give the one with a past a queue, once. No statistics are taken: what was planned before stays planned."""
        if self._history and self._queue_due:
            self.say(f"    filling {self._queue_due.queued:,} queued videos")
            await enqueue_many(self._history[1], self._queue_due.queued)
            await run(self._history[1], SEARCH)
            self._queue_due = None

    @asynccontextmanager
    async def site(self, contender: Contender, slots: int = SLOTS) -> AsyncIterator[Site]:
        """A fresh place for one contender: its schema is there, and nothing is queued."""
        redis = self.servers.redis
        if redis:
            redis.flush()
        async with self.database() as url:
            runway = self.servers.runway
            site = Site(url, redis.url if redis else "", runway.url, runway.tls_url, slots, self.log)
            await contender.prepare(site)
            yield site

    def usual(self, *, slow: bool = False) -> dict[str, Contender]:
        """By name, those over plain HTTP. `slow`: also those that are slow."""
        return {
            one.name: one
            for one in self.contenders
            if not one.tls and (slow or not one.slow) and not (self.quick and one.variant)
        }

    @property
    def optional(self) -> set[str]:
        """The peers: one that fails is named, and costs the others nothing."""
        return {one.name for one in self.contenders if not one.ours}

    @property
    def log(self) -> Path:
        """Where the contenders' processes write."""
        return self.servers.folder / "contenders.log"

    @asynccontextmanager
    async def worker(
        self, contender: Contender, site: Site, where: frozenset[int] | None = None
    ) -> AsyncIterator[subprocess.Popen[bytes]]:
        """The contender's worker process, on the worker's core, or on others."""
        with self.log.open("ab") as log:
            command = contender.worker(site)
            process = spawn(command.words, where or self.cores.worker, env=command.env, log=log)
        try:
            yield process
        finally:
            stop(process)

    async def in_rounds(
        self, names: list[str], run: Callable[[str], Coroutine[Any, Any, dict[str, float]]]
    ) -> list[dict[str, Values]]:
        """Run each in turn, round by round, each round beginning with another. By round and name: what it gave."""
        done = []
        for number in range(self.rounds):
            turn = number % len(names)
            values: dict[str, Values] = {}
            for name in names[turn:] + names[:turn]:
                try:
                    values[name] = await run(name)
                except Exception as exc:
                    if name not in self.optional:
                        raise
                    said = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
                    self.missing[name] = f"failed here: {exc} {said}"[:300]
                    self.say(f"    round {number + 1}, {name}: {self.missing[name]}")
                    continue
                self.say(
                    f"    round {number + 1}, {name}: " + ", ".join(f"{k} {v:.6g}" for k, v in values[name].items())
                )
            done.append(values)
        return done


_FILLED = """
SELECT 'VACUUM ANALYZE ' || string_agg(c.oid::regclass::text, ', ') FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
"""


async def settle(url: str) -> None:
    """Statistics are fresh, and a checkpoint has just been made.

    Tables without a row are left alone, as autovacuum leaves them: PostgreSQL would note that they are empty, and read
    a ledger or an archive whole, for each of its rows, until the next autovacuum a minute later.
    """
    vacuum = await scalar(url, _FILLED)
    await execute(url, *([vacuum] if vacuum else []), "CHECKPOINT")


@dataclass(frozen=True)
class Usage:
    """What a database has done: counters that grow."""

    transactions: int
    wal_bytes: int
    dead_rows: int

    def since(self, before: Usage, jobs: int) -> dict[str, float]:
        """By job."""
        return {
            "transactions": (self.transactions - before.transactions) / jobs,
            "wal_bytes": (self.wal_bytes - before.wal_bytes) / jobs,
            "dead_rows": (self.dead_rows - before.dead_rows) / jobs,
        }


_USAGE = """
SELECT (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()),
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
       (SELECT COALESCE(sum(n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables)
"""


async def usage(url: str) -> Usage:
    """The counters now. A backend reports what it did when it ends: read this after the worker has."""
    async with connected(url) as connection:
        row = await connection.fetchrow(_USAGE)
    assert row
    return Usage(*map(int, row))


now = time.time
