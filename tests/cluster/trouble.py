"""What happens to a cluster in a soak, one act after the other, while commits are counted that were confirmed."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.errors import DatabaseUnavailable, StatementRefused
from service.store import identity
from service.store.database import Database
from service.store.url import normalise
from tests.cluster.door import Door, behind_door
from tests.cluster.nodes import PATIENCE_SECONDS, Cluster
from tests.database import connected

ACT_SECONDS = 10.0  # about the least that one takes
COMMITS = 20  # between two acts, and behind a standby that lags: so many confirmed ones show that work goes on
PAUSE_SECONDS = 0.05
LAG_SECONDS = 3.0
APART_SECONDS = 3.0  # beside its successor; after half a minute no session that a door keeps would still wait for it
ACTS = ("kill", "freeze", "switchover", "stall", "stall and kill", "freeze Patroni", "cut")
LAG = "lag and kill"  # for an asynchronous cluster: it must lose something
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Witness:
    """Commits one row after the other, and remembers those that were confirmed to it."""

    def __init__(self, url: str) -> None:
        self._database = Database(normalise(url), pool_size=1)
        self._tried = 0
        self.confirmed: set[int] = set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._tried += 1
                try:
                    await self._database.execute("CREATE TABLE IF NOT EXISTS public.witness (n int PRIMARY KEY)")
                    await self._database.execute("INSERT INTO public.witness VALUES ($1)", self._tried)
                    self.confirmed.add(self._tried)
                except (DatabaseUnavailable, StatementRefused):
                    pass
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await self._database.close()

    async def more(self, count: int = COMMITS) -> None:
        """Wait until so many more are confirmed."""
        goal = len(self.confirmed) + count
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.confirmed) < goal:  # noqa: ASYNC110  # it only grows
                await asyncio.sleep(PAUSE_SECONDS)

    async def lost(self, url: str) -> list[int]:
        """Those confirmed by now that are not there. What is confirmed while this reads may be too young to be seen."""
        confirmed = set(self.confirmed)
        async with connected(url) as connection:
            kept = {row["n"] for row in await connection.fetch("SELECT n FROM public.witness")}
        return sorted(confirmed - kept)


@dataclass
class Trouble:
    """A cluster behind its door, and the acts. `done` is set after the last one."""

    cluster: Cluster
    door: Door
    acts: Sequence[str]
    witness: Witness
    did: Counter[str] = field(default_factory=Counter)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Every act, each on a whole cluster that works."""
        for act in self.acts:
            await self.cluster.whole()
            await self.witness.more()
            await self._play(act)
            self.did[f"cluster: {act}"] += 1
        await self.cluster.whole()
        await self.witness.more()
        self.did["door: another primary"] = self.door.turns
        self.done.set()

    async def _play(self, act: str) -> None:
        primary = await self.cluster.primary()
        match act:
            case "kill":
                await self._kill()
            case "freeze" | "freeze Patroni":
                alone = act == "freeze Patroni"  # then PostgreSQL goes on beside the new primary
                primary.signal(signal.SIGSTOP, patroni_alone=alone)
                await self.cluster.another_primary(primary)
                await asyncio.sleep(APART_SECONDS)
                primary.signal(signal.SIGCONT)
            case "switchover":
                await self.cluster.switch_over()
            case "cut":
                await primary.wire.cut()
                await self._until_commits_wait()
                primary.wire.flow()
            case "stall" | "stall and kill":
                primary.wire.stall()
                await self._until_commits_wait()
                if act == "stall and kill":
                    await self._kill()
                primary.wire.flow()
            case "lag and kill":
                primary.wire.stall()
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.gather(self.witness.more(), asyncio.sleep(LAG_SECONDS))
                await self._kill()
            case _:
                raise ValueError(act)

    async def _kill(self) -> None:
        primary = await self.cluster.primary()
        await primary.kill()
        await self.cluster.another_primary(primary)
        await self.witness.more()
        primary.start()

    async def _until_commits_wait(self) -> None:
        url = (await self.cluster.primary()).url()

        async def waits() -> bool:
            async with connected(url) as connection:
                return bool(await connection.fetchval(_WAITING))

        await self.cluster.until(waits, "waiting for its standby")

    async def accept(self) -> None:
        """The operator of an asynchronous cluster resumes blindly whatever was paused as restored."""
        database = Database(normalise(self.door.url), pool_size=1)
        try:
            self.did["resumed blindly"] += await identity.accept(database, "operator")
        except (DatabaseUnavailable, StatementRefused):
            return  # he tries again
        finally:
            await database.close()


@asynccontextmanager
async def troubled(made: Cluster, acts: Sequence[str], *, keeps: bool) -> AsyncIterator[Trouble]:
    """An empty database behind a door that keeps old sessions, or drops them; its witness is at work."""
    async with behind_door(made, keeps=keeps) as door:
        witness = Witness(door.url)
        work = asyncio.create_task(witness.run())
        try:
            yield Trouble(made, door, acts, witness)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
