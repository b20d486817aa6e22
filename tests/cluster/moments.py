"""What tests of a failover share: a database on a cluster, videos in it, and the end of its primary."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from service.installer.migrate import migrate
from tests.cluster.door import Door
from tests.cluster.nodes import Cluster, Node
from tests.crash.soak import Result, soak_on_cluster
from tests.crash.soak_options import Options
from tests.database import execute
from tests.world import IMAGE, World

COUNT = 10
Record = Callable[[str, object], None]


@asynccontextmanager
async def database(made: Cluster, *, keeps: bool) -> AsyncIterator[str]:
    """A migrated database of this test's own, behind a door, on a whole cluster."""
    await made.whole()
    async with Door(made.nodes, keeps=keeps).open() as door:
        name = f"taxiway_{uuid4().hex[:12]}"
        await execute(door.url("postgres"), f"CREATE DATABASE {name}")
        await migrate(door.url(name))
        yield door.url(name)


async def fail_over(made: Cluster, primary: Node) -> None:
    """The primary dies with all that no standby has, and another one takes over."""
    await primary.kill()
    await made.another_primary(primary)
    primary.start()


def most_creates(w: World) -> int:
    """How often the video was sent that was sent most often."""
    return max(Counter(entry.prompt for entry in w.creates).values(), default=0)


async def enqueue(w: World, count: int = COUNT) -> None:
    """Hand in so many videos, each with a prompt of its own."""
    for _ in range(count):
        await w.enqueue(input={"promptText": f"video {uuid4()}", "promptImage": IMAGE})


async def run_soak(options: Options, folder: Path, record_property: Record) -> tuple[Result, str]:
    """The soak, and its table."""
    result = await soak_on_cluster(options, folder)
    table = "\n".join(result.lines())
    print(table)  # noqa: T201  # shown with -s, and when it fails
    record_property("soak", table)
    return result, table
