"""Statements that retry or cancel all videos that match, one bounded batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

from service.actors import TAXIWAY
from service.store import search
from service.store.database import Database
from service.store.predicates import IS_WHOLE, NEEDS_CONSENT
from service.store.search import Arguments, Wanted
from service.store.video_rows import CANCEL, QUEUED_AGAIN
from service.videos import Event, sources


@dataclass(frozen=True)
class Bulk:
    """What one batch came to. `matched` before it; of those, `skipped` in every batch and `left` for the next."""

    matched: int
    done: int
    skipped: int
    left: int


# How many videos match, and how many of them a retry leaves out: they wait for consent, or are not whole any more.
_COUNT = f"""
SELECT count(*) AS matched, count(*) FILTER (WHERE {NEEDS_CONSENT} OR NOT ({IS_WHOLE})) AS left_out
FROM taxiway.videos v WHERE {{where}}
"""

# Retry: as for one video without consent, so that what may have cost something stays as it is. The oldest first.
_RETRY = f"""
WITH asked AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v WHERE {{where}} AND {IS_WHOLE} AND NOT {NEEDS_CONSENT}
    ORDER BY v.created_at, v.id LIMIT {{limit}} FOR UPDATE OF v SKIP LOCKED
), v AS (
    UPDATE taxiway.videos v SET {QUEUED_AGAIN.format(timeout="{timeout}")}
    FROM asked a WHERE v.id = a.id RETURNING v.id, v.quoted_credits
), bulk AS (
    INSERT INTO taxiway.events (kind, actor, credits, detail)
    SELECT 'bulk_retried', {{actor}}, sum(quoted_credits), jsonb_build_object('videos', count(*)) FROM v
    HAVING count(*) > 0
)
INSERT INTO taxiway.events (video_id, kind, actor, code, credits)
SELECT v.id, 'retried', {{actor}}, 'bulk', v.quoted_credits FROM v
"""

# Cancel: as for one video. The oldest first.
_CANCEL = CANCEL.format(
    asked="""
    SELECT v.id, v.runway_video_id, v.status FROM taxiway.videos v WHERE {where}
    ORDER BY v.created_at, v.id LIMIT {limit} FOR UPDATE OF v SKIP LOCKED""",
    columns="v.id",
    actor="{actor}",
    code="'bulk'",
    more="""
    UNION ALL SELECT NULL, 'bulk_cancelled', {actor}, NULL, jsonb_build_object('videos', count(*)) FROM v
    HAVING count(*) > 0""",
)


async def retry(
    database: Database, wanted: Wanted, *, limit: int, timeout_seconds: float, dry_run: bool, actor: str = TAXIWAY
) -> Bulk:
    """Queue at most `limit` failed videos again. Skipped are those that need consent, and those that were blanked."""
    where, arguments = await _where(database, wanted, Event.RETRY)
    matched, left_out = await _count(database, where, arguments)
    sql = _RETRY.format(
        where=where,
        limit=arguments.bind(limit),
        timeout=arguments.bind(timeout_seconds),
        actor=f"{arguments.bind(actor)}::text",
    )
    done = 0 if dry_run else await database.execute(sql, *arguments)
    return _result(matched, left_out, done, dry_run or done == limit)


async def cancel(database: Database, wanted: Wanted, *, limit: int, dry_run: bool, actor: str = TAXIWAY) -> Bulk:
    """Cancel at most `limit` queued or processing videos."""
    where, arguments = await _where(database, wanted, Event.CANCEL)
    matched, _ = await _count(database, where, arguments)
    sql = _CANCEL.format(where=where, limit=arguments.bind(limit), actor=f"{arguments.bind(actor)}::text")
    done = 0 if dry_run else await database.execute(sql, *arguments)
    return _result(matched, 0, done, dry_run or done == limit)


async def _where(database: Database, wanted: Wanted, event: Event) -> tuple[str, Arguments]:
    """The condition that a video is wanted and that `event` may happen to it."""
    arguments = Arguments()
    states = [name for name in wanted.states if name in sources(event)]
    found = [search.in_states(states), *search.conditions(wanted, arguments)]
    if wanted.user_id is not None:  # found by its index
        user = arguments.bind(wanted.user_id)
        found.append(f"v.id = ANY(ARRAY(SELECT s.video_id FROM taxiway.search s WHERE s.user_id = {user}))")
    text = (wanted.q or "").strip()
    if text and (ids := await search.named(database, text)):
        found.append(search.among(ids, arguments))
    elif text:
        words = search.tsquery(text, arguments)
        found.append(f"v.id IN (SELECT s.video_id FROM taxiway.search s WHERE s.words @@ {words})")
    return " AND ".join(found), arguments


async def _count(database: Database, where: str, arguments: Arguments) -> tuple[int, int]:
    row = await database.fetchrow(_COUNT.format(where=where), *arguments)
    return (row["matched"], row["left_out"]) if row else (0, 0)


def _result(matched: int, left_out: int, done: int, may_be_more: bool) -> Bulk:
    """A batch that was not full has left nothing: what it did not take is locked by another transaction."""
    left = max(0, matched - left_out - done) if may_be_more else 0
    return Bulk(matched=matched, done=done, skipped=max(0, matched - done - left), left=left)
