"""Erase: what a user wrote goes, from one video or from all of a user's; HTTP, page, command line and tick come here.

A video of which nothing is under way is erased at once. Otherwise it is cancelled and its tasks are deleted at Runway
first, by the ticks; the last of them erases it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from service.context import Context
from service.errors import NotFound
from service.logs import VIDEO, event
from service.operations.reading import check_visible
from service.store import erasure

log = logging.getLogger(__name__)

BATCH = 100
WAITS_FOR = {
    "create": "a create of it may be on its way to Runway: its outcome is waited for",
    "task": "its task is to be deleted at Runway first",
    "row": "its row of a linked table is to show its end first",
    None: "another transaction holds its row of a linked table",
}


@dataclass(frozen=True)
class Erasure:
    """How the erasure of one video stands. `waits_for`: a sentence; None once it is erased."""

    video_id: UUID
    waits_for: str | None


async def erase(ctx: Context, video_id: UUID) -> Erasure:
    """Erase one video, or say what that waits for; any number of times. Raises NotFound, and Conflict if it is held."""
    await check_visible(ctx, video_id)
    _, erased = await erasure.request(ctx.database, [video_id], ctx.actor)
    _log(erased)
    stands = await erasure.stands(ctx.database, video_id)
    if stands is None:
        raise NotFound(f"no video has the id {video_id}")
    is_erased, waits_for = stands
    return Erasure(video_id, None if is_erased else WAITS_FOR[waits_for])


async def of_user(ctx: Context, user_id: str) -> list[UUID]:
    """The videos of a user that are not erased yet."""
    return await erasure.of_user(ctx.database, user_id)


async def erase_all(ctx: Context, ids: Sequence[UUID]) -> AsyncIterator[tuple[int, int]]:
    """Erase these, a batch in a transaction: of each batch, (how many were asked for, how many are erased).

    A video that another transaction holds is left out. What a caller that is cut off has not reached is left as it was.
    """
    for start in range(0, len(ids), BATCH):
        asked, erased = await erasure.request(ctx.database, ids[start : start + BATCH], ctx.actor, pass_over=True)
        _log(erased)
        yield len(asked), len(erased)


async def finish(ctx: Context, actor: str) -> int:
    """Erase what was asked for and waits for nothing any more; how many. For ticks."""
    total = 0
    while True:
        erased = await erasure.finish(ctx.database, BATCH, actor)
        _log(erased)
        total += len(erased)
        if len(erased) < BATCH:
            return total


def _log(erased: Sequence[UUID]) -> None:
    for video_id in erased:
        event(log, VIDEO, "erased", "Erased", video=video_id)
