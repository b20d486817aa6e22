"""Taxiway itself, as a user runs it: `taxiway worker`, with 50 slots and the log at WARNING."""

from __future__ import annotations

import subprocess
import sys

from service import context as contexts
from service.context import Context
from service.installer.migrate import migrate
from service.operations import enqueuing
from service.settings import Settings
from service.store.database import Database
from service.store.url import normalise
from service.store.video_rows import NewVideo, enqueue
from service.web.schemas import VideoRequest
from tests.benchmarks.contenders.base import KEY, PAYLOAD, Command, Contender, Enqueuer, Site, scalar
from tests.benchmarks.processes import cores, listening, spawn, stop, until
from tests.benchmarks.watching import SqlWatcher, Watcher
from tests.database import connected, execute
from tests.ports import free_port
from tests.wire import CERTIFICATE
from tests.world import API_KEY, CRON_SECRET

STORED = "SELECT count(*) FROM taxiway.submissions WHERE task_id IS NOT NULL"
# A later poll of the task writes the row once more: how long it took is then not seen any more.
DELAYS = """
SELECT s.id, CASE WHEN s.polls IS NULL
                  THEN extract(epoch FROM pg_xact_commit_timestamp(s.xmin) - v.created_at)::float8 END
FROM taxiway.submissions s JOIN taxiway.videos v ON v.id = s.video_id
WHERE s.outcome = 'accepted' ORDER BY s.id
"""
REQUEST = {"operation": "image_to_video", "input": PAYLOAD}


def environment(database: str, runway: str, slots: int = 50, **others: str) -> dict[str, str]:
    """What a user sets: the URL, the key, the secrets, the slots; and the mock instead of Runway."""
    return {
        "DATABASE_URL": database,
        "RUNWAYML_API_SECRET": KEY,
        "RUNWAYML_BASE_URL": runway,
        "API_KEYS": API_KEY,
        "CRON_SECRET": CRON_SECRET,
        "SUBMIT_CONCURRENCY": str(slots),
        "LOG_LEVEL": "WARNING",
    } | others


# A steady state is measured, in which Taxiway has learned how many creates Runway takes at once: it begins at two.
LEARNED = """
INSERT INTO taxiway.models AS m (model, max_in_flight, held) VALUES ('{model}', 200, 200)
ON CONFLICT (model) DO UPDATE SET max_in_flight = EXCLUDED.max_in_flight, held = EXCLUDED.held, used_at = now()
"""
# An older revision that this one is compared with learns nothing.
_LEARNS = """
SELECT EXISTS (SELECT FROM information_schema.columns
               WHERE table_schema = 'taxiway' AND table_name = 'models' AND column_name = 'max_in_flight')
"""
_MAX_IN_FLIGHT = "SELECT COALESCE(max(max_in_flight), 0) FROM taxiway.models"
_CLEAR = "TRUNCATE taxiway.videos, taxiway.submissions, taxiway.search, taxiway.events CASCADE"


async def learn(url: str) -> None:
    """Let as many creates be in flight as all slots of all workers."""
    if await scalar(url, _LEARNS):
        await execute(url, LEARNED.format(model=_new().model))


async def enqueue_one(url: str) -> None:
    """One video, by the code that POST /videos runs."""
    database = Database(normalise(url))
    try:
        await enqueue(database, _new())
    finally:
        await database.close()


def _new(ctx: Context | None = None) -> NewVideo:
    return enqueuing.build(ctx or contexts.build(Settings()), VideoRequest.model_validate(REQUEST).spec())


_COLUMNS = """
SELECT quote_ident(column_name) FROM information_schema.columns
WHERE table_schema = 'taxiway' AND table_name = 'videos' ORDER BY ordinal_position
"""


# As POST /videos makes them: the time first, then random bits.
_ID = """
encode(overlay(uuid_send(gen_random_uuid()) PLACING
               substring(int8send((extract(epoch FROM now()) * 1000)::bigint + n - {count}) FROM 3) FROM 1 FOR 6),
       'hex')::uuid
"""
# Created one after the other.
QUEUED = dict.fromkeys(("run_after", "queued_at", "created_at"), "clock_timestamp()") | {
    "prompt": "'a boat, number ' || n"
}


async def multiply(url: str, count: int, changes: dict[str, str], *, source: str = "taxiway.videos") -> None:
    """So many more videos like one in `source`. `changes`: SQL for the columns that differ, by the number `n`."""
    async with connected(url) as connection:
        names = [row[0] for row in await connection.fetch(_COLUMNS)]
        changed = {"id": _ID.format(count=count)} | changes
        chosen = [f"({changed[name]})" if name in changed else f"t.{name}" for name in names]
        await connection.execute(
            f"INSERT INTO taxiway.videos ({', '.join(names)}) SELECT {', '.join(chosen)} "
            f"FROM (SELECT * FROM {source} ORDER BY id LIMIT 1) AS t CROSS JOIN generate_series(1, {count}) AS n",
            timeout=900,
        )


class Taxiway(Contender):
    """The product. `settings`: what differs from one connection for each create, over plain HTTP."""

    store = "postgres"
    client = "its own"
    ours = True

    def __init__(self, variant: str = "", *, tls: bool = False, **settings: str) -> None:
        self.name = f"Taxiway{variant}"  # type: ignore[misc]  # each instance has its own
        self.tls, self.settings, self.variant = tls, settings, bool(settings)

    @property
    def configuration(self) -> str:  # type: ignore[override]  # a constant elsewhere
        own = {"SUBMIT_CONCURRENCY": "50", "LOG_LEVEL": "WARNING"} | self.settings
        words = " ".join(f"{name}={value}" for name, value in own.items())
        return f"`taxiway worker` with {words}{', over TLS' if self.tls else ''}"

    def worker(self, site: Site) -> Command:
        env = environment(site.database, site.runway, site.slots) | self.settings
        if self.tls:
            certificate = site.log.with_name("certificate.pem")
            certificate.write_text(CERTIFICATE, encoding="ascii")
            env |= {"RUNWAYML_BASE_URL": site.runway_tls, "SSL_CERT_FILE": str(certificate)}
        return Command([sys.executable, "-m", "service", "worker"], env)

    async def prepare(self, site: Site) -> None:
        await migrate(site.database)

    async def fill(self, site: Site, count: int) -> None:
        await enqueue_one(site.database)
        await multiply(site.database, count - 1, QUEUED)

    async def is_trained(self, site: Site) -> bool:
        learned: int = await scalar(site.database, _MAX_IN_FLIGHT)
        return learned >= site.slots

    async def clear(self, site: Site) -> None:
        await execute(site.database, _CLEAR)

    def watcher(self, site: Site) -> Watcher:
        return SqlWatcher(site, STORED, DELAYS)

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


DEFAULT = Taxiway()
KEPT = Taxiway(", kept connections", SUBMIT_KEEPALIVE="true")
TLS = Taxiway(", kept connections, TLS", tls=True, SUBMIT_KEEPALIVE="true")


class Web:
    """`taxiway web` on one of the cores."""

    def __init__(self, env: dict[str, str], where: frozenset[int] | None = None) -> None:
        self.port = free_port()
        self._env, self._where = env, cores().servers if where is None else where
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Web:
        self.start()
        await until(lambda: listening(self.port), "taxiway web starts")
        return self

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, and wait for nothing."""
        command = [sys.executable, "-m", "service", "web", "--port", str(self.port)]
        self.process = spawn(command, self._where, env=self._env)
        return self.process

    async def __aexit__(self, *exc: object) -> None:
        if self.process:
            stop(self.process)


class _Enqueuer(Enqueuer):
    """What POST /videos runs, called as the peers' users call theirs: from Python, on a kept connection."""

    async def __aenter__(self) -> Enqueuer:
        self.database = Database(normalise(self.site.database))
        self.ctx = contexts.build(Settings())  # once, as a process does
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.database.close()

    async def one(self) -> None:
        await enqueue(self.database, _new(self.ctx))
