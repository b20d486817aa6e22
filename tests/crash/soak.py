"""The soak: many videos through many processes that are killed, cut off, frozen and lied to.

`python -m tests.crash.soak --videos 10000 --rows 2500 --seed 7 [--processes 4] [--minutes 20] [--window 60]
[--database-url URL]`

Beside the videos that come through the API, an app writes rows of a table of its own, which is linked, and whose
trigger charges its users and refuses what it does not like (tests/crash/linked_app.py).

Runway is reached through a proxy that gives answers twice, late, and to others (tests/crash/answers_proxy.py), and has
windows of so many seconds in which every call fails, or no task is known (tests/crash/soak_runway.py). In the end the
films are downloaded: the simulator writes the prompt into each.

With `--cluster` the database is three PostgreSQL nodes under Patroni (`pip install -e '.[dev,ha]'`) behind a door; they
are killed, frozen, cut off and switched over meanwhile (tests/cluster/trouble.py), `--rounds` times each. `--door keep`
leaves old sessions open. `--asynchronous` is the control: its primary dies while its standbys lag, so it must fail.

It ends by itself, leaves no process behind, and prints what became of every video and what the table refused. Exit
code 1 if a video was lost, got stuck or was paid for twice without consent, if a row does not show how its video ended
although the table did not refuse it, if the trigger charged a round twice, if the end of a video was not reported to
the app (tests/crash/soak_receiver.py), or if a commit is gone that was confirmed.
The simulator's ledger is the judge.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx

from service import webhooks
from service.installer.migrate import migrate
from service.local.postgres import Server
from tests.cluster import nodes
from tests.cluster.nodes import Cluster
from tests.cluster.trouble import Trouble, troubled
from tests.crash import linked_app
from tests.crash.accounts import Accounts, seconds_to_next_event, settle
from tests.crash.answers_proxy import Mischief, answers_proxy
from tests.crash.linked_app import Films
from tests.crash.processes import ForkServer, fork_server
from tests.crash.right_films import wrong_films
from tests.crash.soak_crowd import BATCH, Crowd, every
from tests.crash.soak_films import FilmStudio
from tests.crash.soak_fleet import Fleet, answering, environment
from tests.crash.soak_options import Options, parse
from tests.crash.soak_receiver import WRONGLY_SIGNED, Receiver, receiving, seconds_to_next_webhook
from tests.database import connected, later
from tests.ports import free_port

MAIN_SHARE = 0.5  # of the time: then whatever is not created stays so, and the rest is brought to its end
WEBS = 2
FEW = 20  # the main phase is over when less than one in so many is under way
LEAST_KILLS = 4
CALMER = 6  # on a cluster
# Where there is less to wait for, a leap in time has so much at most: of the leaps that may be needed, all together are
# less than a week, after which a webhook is given up.
LEAPS, LEAP_SECONDS = 40, 14_400.0
DAY_SECONDS = 86_400.0
MOST_FILMS = 1_000  # are compared with their prompts: each costs the simulator some 20 ms
FILMS_SEEN = "films compared with their prompts"
GIVEN_UP = "tasks given up as vanished that were there"
FORBIDDEN = ("answered 500", "forged callbacks taken", "time was over", GIVEN_UP, WRONGLY_SIGNED)
NOTHING_UNCONSENTED = " 0 videos of that without consent"
_UNDER_WAY = "SELECT count(*) FROM taxiway.videos WHERE status IN ('queued', 'processing')"
_UNKNOWN = (
    "SELECT id, prompt FROM taxiway.videos WHERE status = 'failed' AND error_code = 'SUBMISSION_UNKNOWN' ORDER BY id"
)
_GONE = "SELECT runway_video_id FROM taxiway.videos WHERE error_code = 'TASK_VANISHED'"
_PERMITS = "SELECT task_id FROM taxiway.submissions WHERE task_id IS NOT NULL"


@dataclass
class Result:
    """What became of it."""

    options: Options
    accounts: Accounts
    films: Films
    seconds: float
    handed_in: int
    did: dict[str, int]
    injected: dict[str, int]
    fallen: list[str]
    tracebacks: dict[str, int]
    forbidden: list[str] = field(default_factory=list)
    undelivered: list[str] = field(default_factory=list)  # ends that were not reported, or out of order
    confirmed: int = 0  # commits of the witness, on a cluster
    commits_lost: list[int] = field(default_factory=list)
    audited: str = ""  # the last line of `taxiway audit`

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing stuck, nothing paid for twice, no money unexplained, nothing fell over."""
        wrong = self.accounts.complaints or self.fallen or self.forbidden or self.commits_lost or self.undelivered
        return not wrong and self.audited.endswith(NOTHING_UNCONSENTED)

    def lines(self) -> Iterator[str]:
        """The table."""
        found = self.accounts
        yield f"videos            {self.handed_in} of {self.options.videos}, seed {self.options.seed}"
        yield f"duration          {self.seconds:.0f} s, {self.handed_in / self.seconds:.1f} videos/s"
        yield f"ended             {_listed(found.statuses)}"
        yield f"lost              {len(found.lost)}"
        yield f"stuck             {len(found.stuck)}"
        yield f"paid twice        {len(found.paid_twice)}"
        yield f"not reported      {len(self.undelivered)}"
        if self.options.cluster:
            yield f"commits lost      {len(self.commits_lost)} of {self.confirmed} that were confirmed"
            yield from (f"    number {number}" for number in self.commits_lost[:5])
        yield f"unknown           {found.outcomes['unknown']}, all accounted for: {not found.unexplained}"
        yield f"consents          {found.consents}"
        yield f"creates           {found.creates}, of which {found.tasks} made a task; {found.deleted} deleted"
        yield f"outcomes          {_listed(found.outcomes)}"
        yield f"credits           {found.booked} booked, {found.billed} billed for the same tasks"
        yield f"    of unknown    {found.unseen} billed, booked as at most {found.at_risk}"
        yield f"reasons           {_listed(found.errors)}"
        yield from self._film_lines()
        yield f"done to it        {_listed(self.did)}"
        yield f"faults injected   {sum(self.injected.values())}"
        for words, count in sorted(self.injected.items(), key=lambda item: -item[1]):
            yield f"    {count:6}  {words}"
        yield f"fell over         {len(self.fallen)}"
        yield from (f"    {words}" for words in self.fallen[:5])
        yield f"tracebacks        {sum(self.tracebacks.values())}"
        yield from (f"    {count:6}  {words}" for words, count in self.tracebacks.items())
        yield from (f"FORBIDDEN         {words}" for words in self.forbidden)
        yield from (f"WRONG             {words}" for words in [*found.complaints, *self.undelivered][:40])
        yield f"taxiway audit     {self.audited}"

    def _film_lines(self) -> Iterator[str]:
        films = self.films
        yield f"linked rows       {_listed(films.statuses)}; {films.removed} deleted"
        yield f"    queued again  {films.again} times"
        yield f"    charged       {films.charges} times by the table's trigger"
        yield f"    refused       {sum(films.refused.values())} by the table; {films.behind} do not show their end"
        for words, count in films.refused.most_common():
            yield f"    {count:6}  {words}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


@asynccontextmanager
async def server(options: Options, folder: Path) -> AsyncIterator[str]:
    """The server that was given, or one of its own, for the time."""
    if options.database_url:
        yield options.database_url
        return
    own = Server(folder / "postgres", durable=False)
    await asyncio.to_thread(own.start)
    try:
        yield own.url()
    finally:
        await asyncio.to_thread(own.remove)


class Soak:
    """One run: a fleet, a crowd around it, and the phases."""

    def __init__(
        self, options: Options, folder: Path, database_url: str, trouble: Trouble | None, forks: ForkServer
    ) -> None:
        self.options, self.url, self.trouble = options, database_url, trouble
        dice = Random(options.seed)
        secrets = {
            "RUNWAYML_API_SECRET": "key_" + dice.randbytes(64).hex(),
            "API_KEYS": dice.randbytes(24).hex(),
            "CRON_SECRET": dice.randbytes(24).hex(),
            "CALLBACK_SECRETS": webhooks.new_secret(dice.randbytes),
            "WEBHOOK_SECRETS": webhooks.new_secret(dice.randbytes),
        }
        self.receiver, self.receiver_port = Receiver(secrets["WEBHOOK_SECRETS"], Random(options.seed)), free_port()
        reports = {
            "WEBHOOK_URL": f"http://127.0.0.1:{self.receiver_port}/webhooks",
            "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        }
        ports = [free_port() for _ in range(WEBS + 1)]
        self.runway_url = f"http://127.0.0.1:{ports[0]}"
        webs = [f"http://127.0.0.1:{port}" for port in ports[1:]]
        self.mischief = Mischief(Random(options.seed))
        self.proxy_url = f"http://127.0.0.1:{free_port()}"
        self.fleet = Fleet(folder, environment(database_url, self.proxy_url, secrets | reports), forks)
        self.crowd = Crowd(self.fleet, database_url, webs, secrets, dice)
        self.studio = FilmStudio(database_url, options.rows, dice)
        self.began = time.monotonic()
        relay = (f"{webs[0]}/callbacks/runway", secrets["CALLBACK_SECRETS"])
        self.fleet.start("runway", "tests.crash.soak_runway", str(ports[0]), str(options.seed), *relay,
                         str(options.window))  # fmt: skip
        for number, port in enumerate(ports[1:]):
            self.fleet.start(f"web{number}", "service", "web", "--port", str(port))
        for number in range(options.processes):
            self.fleet.start(f"worker{number}", "service", "worker")
        self.fleet.start("poll0", "service", "poll", "--every", "1")

    def left(self, share: float) -> float:
        """Seconds until this share of the time is over."""
        return max(1.0, self.began + self.options.minutes * 60 * share - time.monotonic())

    async def run(self) -> Result:
        """Everything, and the accounts at the end of it."""
        await asyncio.gather(answering(self.runway_url), *(answering(url) for url in self.crowd.web_urls))
        proxy = answers_proxy(self.runway_url, self.mischief, port=urlsplit(self.proxy_url).port or 0)
        receiver = receiving(self.receiver, self.receiver_port)
        async with proxy, receiver, httpx.AsyncClient(trust_env=False, timeout=20) as api:
            try:
                async with asyncio.timeout(self.left(0.95)):
                    async with self._trouble(api):
                        await self._until_little_is_left(self.left(MAIN_SHARE))
                    self.crowd.did["seconds of trouble"] += round(time.monotonic() - self.began)
                    await self._show_evidence(api)
                    await self.studio.write_last()
                    await self._finish()
            except TimeoutError:
                self.crowd.did["time was over"] += 1
            return await self._result(api)

    @asynccontextmanager
    async def _trouble(self, api: httpx.AsyncClient) -> AsyncIterator[None]:
        """Everybody at once, while inside."""
        crowd, studio, dice = self.crowd, self.studio, self.crowd.dice
        prompts = (f"soak {self.options.seed} video {number}" for number in range(self.options.videos))

        async def forge() -> None:
            await crowd.call_back(api, {"task_id": "17f20503-6c24-4c16-946b-35dbbce2af2f"}, forged=True)

        async def look_after() -> None:
            self.fleet.look_after()

        works: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.6, crowd.kill), (2.0, crowd.cut), (0.5, crowd.drag), (2.0, crowd.resume), (1.0, forge),
            (1.0, look_after), (0.15, lambda: crowd.use(api)), (0.2, lambda: crowd.poll(api)),
            (0.7, lambda: crowd.cron(api)),
            (0.5, studio.queue_again), (0.6, studio.cancel), (0.8, studio.remove), (2.0, studio.hold),
            (0.1 + self.options.pause(self.options.rows / 3), studio.write),
        ]  # fmt: skip
        await crowd.kill()
        tasks = [asyncio.create_task(crowd.hand_in(api, prompts, self.options.pause(self.options.videos / BATCH)))]
        if self.trouble is not None:
            # Every process is killed less often: a failover is what is to be survived here.
            works = [(seconds * (CALMER if work in (crowd.kill, crowd.cut) else 1), work) for seconds, work in works]
            tasks.append(asyncio.create_task(self.trouble.run()))
            if self.options.asynchronous:
                works.append((1.0, self.trouble.accept))
        tasks += [asyncio.create_task(every(seconds, dice, work)) for seconds, work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
            crowd.come_back(crowd.away)

    async def _until_little_is_left(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.crowd.handed_in.wait()
                await self.studio.all_written.wait()
                if self.trouble is not None:
                    await self.trouble.done.wait()
                    return  # to what is left
                # A machine that is busy otherwise may be done before it was killed often enough to prove anything.
                while (  # noqa: ASYNC110  # others bring it about
                    self.fleet.did["kill -9"] < LEAST_KILLS or await self._ask(_UNDER_WAY) > self.options.videos // FEW
                ):
                    await asyncio.sleep(1)
        except TimeoutError:
            self.crowd.did["main phase cut short"] += 1

    async def _ask(self, sql: str) -> Any:
        """One value, although our own connections are cut as well."""
        while True:
            try:
                async with connected(self.url) as connection:
                    return await connection.fetchval(sql)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.1)

    async def _show_evidence(self, api: httpx.AsyncClient) -> None:
        """For half of the unknown submissions that did make a task, somebody finds that out and tells."""
        async with connected(self.url) as connection:
            unknown = await connection.fetch(_UNKNOWN)
            booked = {row["task_id"] for row in await connection.fetch(_PERMITS)}
        tasks = {entry["prompt"]: entry["task_id"] for entry in await self._entries(api)}
        for video in unknown[::2]:
            task_id = tasks.get(video["prompt"])
            if task_id and task_id not in booked:
                await self.crowd.call_back(api, {"task_id": task_id, "video_id": str(video["id"])})

    async def _entries(self, api: httpx.AsyncClient) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = (await api.get(f"{self.runway_url}/_simulator/ledger")).json()["entries"]
        return entries

    async def _finish(self) -> None:
        """Bring everything to its end: stop all, let time pass to the next event or beyond it, start one worker.

        Here a worker may end what it began: to kill it between a look's claim and its answer, again and again, would
        only show that nobody can work who is always killed.
        """
        for round_ in range(LEAPS):
            while await self._wait() == 0:
                self.fleet.look_after()
                await self.crowd.resume()
                await asyncio.sleep(0.1)
            if (wait := await self._wait()) is None:
                return
            await self.fleet.stop(*self.fleet.names("w"), *self.fleet.names("poll"))
            self.crowd.did["leaps in time"] += 1
            await later(self.url, seconds=min(max(wait + 1, min(8.0**round_, LEAP_SECONDS)), DAY_SECONDS))
            self.fleet.restart("worker0")

    async def _wait(self) -> float | None:
        async with connected(self.url) as connection:
            waits = [
                await seconds_to_next_event(connection),
                await linked_app.seconds_to_next(connection),
                await seconds_to_next_webhook(connection),
            ]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _result(self, api: httpx.AsyncClient) -> Result:
        entries = await self._entries(api)
        injected = (await api.get(f"{self.runway_url}/_soak/injected")).json()
        async with connected(self.url) as connection:
            films = await linked_app.settle(connection)
            accounts = await settle(connection, entries, self.crowd.prompts | films.prompts)
            gone = {row["runway_video_id"] for row in await connection.fetch(_GONE)}
            undelivered = await self.receiver.complaints(connection)
        there = [entry for entry in entries if entry["task_id"] in gone and "vanish" not in entry["fault"]]
        prompts = self.crowd.prompts | films.prompts
        seen, wrong = await wrong_films(api, self.runway_url, self.url, prompts, MOST_FILMS)
        accounts.films = films.complaints + wrong
        did = self.crowd.did + self.fleet.did + self.studio.did + self.mischief.did + self.receiver.did
        did += self.trouble.did if self.trouble else Counter()
        did += Counter({FILMS_SEEN: seen, GIVEN_UP: len(there)})
        return Result(
            options=self.options,
            accounts=accounts,
            films=films,
            seconds=time.monotonic() - self.began,
            handed_in=len(self.crowd.prompts),
            did=dict(did),
            injected=injected,
            fallen=self.fleet.fallen,
            tracebacks=dict(self.fleet.tracebacks()),
            forbidden=[f"{did[name]} {name}" for name in FORBIDDEN if did[name]],
            undelivered=undelivered,
            confirmed=len(self.trouble.witness.confirmed) if self.trouble else 0,
            commits_lost=await self.trouble.witness.lost(self.url) if self.trouble else [],
        )


async def soak(options: Options, folder: Path, database_url: str, trouble: Trouble | None = None) -> Result:
    """Run it over an empty database; every process that it started has ended when it returns."""
    await migrate(database_url)
    await linked_app.install(database_url)
    with fork_server() as forks:
        this = Soak(options, folder, database_url, trouble, forks)
        try:
            result = await this.run()
        finally:
            this.fleet.end()
    result.audited = await asyncio.to_thread(audit, database_url)
    return result


async def soak_on_cluster(options: Options, folder: Path, made: Cluster) -> Result:
    """The same on a cluster, while that is in trouble."""
    async with troubled(made, options.plan, keeps=options.door == "keep") as trouble:
        return await soak(options, folder, trouble.door.url, trouble)


async def _on_its_own_database(options: Options, folder: Path) -> Result:
    if not options.cluster:
        async with server(options, folder) as url:
            return await soak(options, folder, url)
    seconds = options.minutes * 60 + nodes.LIMIT_SECONDS
    setup = nodes.Options(synchronous=not options.asynchronous, ttl=options.ttl, limit_seconds=seconds)
    async with nodes.cluster(setup) as made:
        return await soak_on_cluster(options, folder, made)


def audit(database_url: str) -> str:
    """The last line of `taxiway audit` over this database: the service's own account, beside the judge's."""
    command = [sys.executable, "-m", "service", "audit"]
    ended = subprocess.run(
        command,
        env=os.environ | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stdout.splitlines()[-1]


async def _interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> int:
    """The command."""
    options = parse((__doc__ or "").splitlines()[0])
    with tempfile.TemporaryDirectory(prefix="taxiway-soak-") as name:
        result = asyncio.run(_interruptible(_on_its_own_database(options, Path(name))))
    sys.stdout.write("\n".join(result.lines()) + "\n")
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
