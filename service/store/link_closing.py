"""A link that was undone stays `closing` until its rows show how their videos ended; then it is `closed`."""

from __future__ import annotations

from typing import Any, Protocol


class Reader(Protocol):
    """The service's `Database`, or a connection of asyncpg's."""

    async def fetch(self, sql: str, /, *arguments: Any) -> Any: ...


# Links that have nothing under way and nothing left to show. A row that refuses to show its video is behind as well.
CLOSE_FINISHED = """
    UPDATE taxiway.links l SET state = 'closed', reason = NULL
     WHERE l.state = 'closing'
       AND NOT EXISTS (SELECT FROM taxiway.mirror_queue q WHERE q.link_id = l.id)
       AND NOT EXISTS (SELECT FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id
                        WHERE r.link_id = l.id
                          AND (v.status IN ('queued', 'processing') OR v.version > r.mirrored_version))
    RETURNING l.id
"""


async def close_finished(reader: Reader) -> list[int]:
    """Close the links that are done; their ids."""
    return [row["id"] for row in await reader.fetch(CLOSE_FINISHED)]
