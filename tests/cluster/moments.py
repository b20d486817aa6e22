"""What tests of a failover share: a database on a cluster, videos in it, and the end of its primary."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import asyncpg

from service.installer.migrate import migrate
from tests.cluster.door import behind_door
from tests.cluster.nodes import Cluster, Node
from tests.crash.soak import Result, soak_on_cluster
from tests.crash.soak_options import Options
from tests.database import connected
from tests.world import IMAGE, World

COUNT = 10
WRITE = "SELECT pg_current_xact_id()"  # a standby refuses to give out a transaction's number
Record = Callable[[str, object], None]


@asynccontextmanager
async def database(made: Cluster, *, keeps: bool) -> AsyncIterator[str]:
    """A migrated database of this test's own, behind a door, on a whole cluster."""
    async with behind_door(made, keeps=keeps) as door:
        await migrate(door.url)
        yield door.url


async def fail_over(made: Cluster, primary: Node, *worlds: World) -> None:
    """The primary dies with all that no standby has, another one takes over, and the doors of these worlds lead to it.

    Their connections are closed: which of them are dead, and which of those are noticed, would depend on the time.
    """
    await primary.kill()
    await made.another_primary(primary)
    primary.start()
    await made.whole()

    for w in worlds:
        await made.until(partial(_takes_writes, w), "open to writes behind the door")
        await w.ctx.database.close()


async def _takes_writes(w: World) -> bool:
    with suppress(OSError, asyncpg.PostgresError):
        async with connected(w.url) as connection:
            await connection.execute(WRITE)
            return True
    return False


def most_creates(w: World) -> int:
    """How often the video was sent that was sent most often."""
    return max(Counter(entry.prompt for entry in w.creates).values(), default=0)


async def enqueue(w: World, count: int = COUNT) -> None:
    """Hand in so many videos, each with a prompt of its own."""
    for _ in range(count):
        await w.enqueue(input={"promptText": f"video {uuid4()}", "promptImage": IMAGE})


async def run_soak(made: Cluster, options: Options, folder: Path, record: Record) -> tuple[Result, str]:
    """The soak on this cluster, and its table."""
    result = await soak_on_cluster(options, folder, made)
    table = "\n".join(result.lines())
    print(table)  # noqa: T201  # shown with -s, and when it fails
    record("soak", table)
    return result, table
