"""A process of its own that takes what is queued in linked tables, and prints its peak of memory in MB."""

from __future__ import annotations

import asyncio
import resource
import sys

from service.context import build
from service.operations.links import Intake
from service.settings import Settings
from service.store.links import open_links


async def main(url: str) -> None:
    """Take everything."""
    ctx = build(Settings(database_url=url))
    counts = await Intake(ctx).run(await open_links(ctx.database))
    await ctx.database.close()
    sys.stdout.write(f"{counts['taken']} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
