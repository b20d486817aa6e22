"""A process of its own that takes what is queued in linked tables, and prints its peak of memory in MB."""

from __future__ import annotations

import asyncio
import re
import resource
import sys
from pathlib import Path

from service.context import build
from service.operations.linked_rows import Intake
from service.settings import Settings
from service.store.links import open_links


def peak_megabytes() -> int:
    """The most memory that this program has had. Linux counts in ru_maxrss what its parent had when it forked, too."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        assert found
        return int(found[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 // 1024  # macOS counts in bytes


async def main(url: str) -> None:
    """Take everything."""
    ctx = build(Settings(database_url=url))
    counts = await Intake(ctx).run(await open_links(ctx.database))
    await ctx.database.close()
    sys.stdout.write(f"{counts['taken']} {peak_megabytes()}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
