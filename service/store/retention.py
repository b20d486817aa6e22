"""Removing what is old: ticks, callbacks and the ledger's detail always, videos only where the operator asks for it.

Two tables are walked, a batch at a time, from where the batch before ended: finding what is old costs the same however
much there is, and needs no index that each write would pay for. How far a walk has come, and when it
goes on, stands in `taxiway.maintenance`; one process at a time takes a step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database

KEEP_DAYS = 7
# A submission that is not settled by then (a task that Runway neither ends nor deletes) is passed over, and keeps its
# detail: all that follow would wait for it.
WAIT_DAYS = 60
SPAN = "6 hours"  # of the ledger, for one batch: with 25,000 videos a day some ten batches
REMOVAL_REST = "10 minutes"
LEDGER_REST = "1 hour"
SEARCH_REST = EVENT_REST = "1 day"

_OLD_TICKS = f"""
    SELECT id FROM taxiway.ticks WHERE started_at < taxiway.now() - make_interval(days => $1) {ONLY}
    ORDER BY started_at LIMIT $2 FOR UPDATE SKIP LOCKED"""
_PRUNE_TICKS = Choosing(
    "prune_ticks",
    f"DELETE FROM taxiway.ticks WHERE id = ANY(ARRAY({_OLD_TICKS}))",
    f"WITH old AS MATERIALIZED ({_OLD_TICKS}) SELECT id, NULL::uuid FROM old",
    "id",
    key_type="bigint",
)
_OLD_CALLBACKS = f"""
    SELECT id FROM taxiway.inbox WHERE received_at < taxiway.now() - make_interval(days => $1) {ONLY}
    ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED"""
_PRUNE_INBOX = Choosing(
    "prune_inbox",
    f"DELETE FROM taxiway.inbox WHERE id = ANY(ARRAY({_OLD_CALLBACKS}))",
    f"WITH old AS MATERIALIZED ({_OLD_CALLBACKS}) SELECT id, NULL::uuid FROM old",
    "id",
    key_type="text",
)


# Of what is to be delivered, the oldest: what ended goes, what is due until now is given up, and goes with the next.
_OLD_DELIVERIES = f"""
    SELECT id FROM taxiway.deliveries WHERE created_at < taxiway.now() - make_interval(days => $1) {ONLY}
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED"""
_PRUNE_DELIVERIES = Choosing(
    "prune_deliveries",
    f"""
WITH old AS MATERIALIZED ({_OLD_DELIVERIES}), given_up AS (
    UPDATE taxiway.deliveries SET state = 'failed', ended_at = taxiway.now(), leased_until = NULL
    WHERE id IN (SELECT id FROM old) AND state = 'due'
)
DELETE FROM taxiway.deliveries WHERE id IN (SELECT id FROM old) AND state <> 'due'
""",
    f"WITH old AS MATERIALIZED ({_OLD_DELIVERIES}) SELECT id, NULL::uuid FROM old",
    "id",
    key_type="bigint",
)


async def prune(database: Database, limit: int, parking: Parking = RAISE) -> int:
    """Remove ticks, callbacks and deliveries older than KEEP_DAYS, at most `limit` of each; how many."""
    ticks = await batches.execute(database, _PRUNE_TICKS, KEEP_DAYS, limit, parking=parking)
    ticks += await batches.execute(database, _PRUNE_DELIVERIES, KEEP_DAYS, limit, parking=parking)
    return ticks + await batches.execute(database, _PRUNE_INBOX, KEEP_DAYS, limit, parking=parking)


# Whether any of what rests now and then is due, as a condition; videos only where {removes} says so.
DUE = """EXISTS (SELECT FROM taxiway.maintenance WHERE due_at <= taxiway.now()
                AND (name IN ('ledger_walk', 'search_walk', 'event_walk', 'input_walk')
                     OR name = 'removal' AND {removes}))"""


@dataclass(frozen=True)
class Walk:
    """A step over a batch that also says how far it came: `whole` in one statement; if that is refused, in two."""

    rows: Choosing
    whole: str
    move_on: str


async def _walk(database: Database, step: Walk, *arguments: object, parking: Parking) -> int:
    rows, is_split = step.rows, False

    async def choose(passed_over: Sequence[str]) -> list[tuple[str, UUID | None]]:
        nonlocal is_split
        is_split = True
        return await batches.choose(database, rows, arguments, passed_over)

    counts = await batches.write_chosen(
        rows.name,
        usual=lambda: database.execute(step.whole.replace(ONLY, ""), *arguments),
        choose=choose,
        these=lambda keys: database.execute(rows.these(len(arguments) + 1), *arguments, json.dumps(keys)),
        parking=parking,
    )
    if is_split:
        await database.execute(step.move_on.replace(ONLY, ""), *arguments)
    return sum(counts)


# Of the ledger, what was seen at each poll goes; every column about money, outcomes and errors stays forever. By age
# it has no index but a BRIN, so a step takes a span of time, and of that a batch: `taken_at` and the number in `facts`
# say how far the walk has come. It waits at what is under way. Locked rows are passed over, and so is what is
# unknown forever: a task that turns up for it later keeps its polls.
_PASSED = f"""
WITH walk AS MATERIALIZED (
    SELECT taken_at AS at, CAST(facts ->> 'after' AS bigint) AS after,
           GREATEST(taken_at, LEAST(taken_at + interval '{SPAN}', taxiway.now() - make_interval(days => $1))) AS until,
           taxiway.now() - make_interval(days => $1) AS young
    FROM taxiway.maintenance WHERE name = 'ledger_walk' AND due_at <= taxiway.now() FOR UPDATE SKIP LOCKED
), batch AS MATERIALIZED (
    SELECT s.place, s.id, s.opened_at, row_number() OVER (ORDER BY s.opened_at, s.id) AS n,
           s.opened_at >= taxiway.now() - interval '{WAIT_DAYS} days'
               AND (s.outcome IS NULL
                    OR s.outcome = 'accepted' AND COALESCE(s.settled_at, 'infinity') >= walk.young) AS waits
    FROM walk CROSS JOIN LATERAL (
        SELECT ctid AS place, id, opened_at, outcome, settled_at FROM taxiway.submissions
        WHERE opened_at >= walk.at AND opened_at < walk.until AND (opened_at, id) > (walk.at, walk.after)
        ORDER BY opened_at, id LIMIT $2) AS s
), passed AS MATERIALIZED (
    SELECT * FROM batch WHERE n < (SELECT COALESCE(min(n) FILTER (WHERE waits), $2 + 1) FROM batch)
)"""
_STEP = """, step AS (
    SELECT CASE WHEN (SELECT count(*) FROM passed) = $2 THEN 'full'
                WHEN (SELECT bool_or(waits) FROM batch) THEN 'waits'
                ELSE 'end' END AS came_to
)"""
_STEP_ON = f"""
    UPDATE taxiway.maintenance w SET
        taken_at = CASE came_to WHEN 'end' THEN walk.until ELSE COALESCE(last.opened_at, walk.at) END,
        facts = jsonb_build_object('after', CASE came_to WHEN 'end' THEN 0 ELSE COALESCE(last.id, walk.after) END),
        due_at = taxiway.now() + CASE WHEN came_to = 'waits' OR came_to = 'end' AND walk.until >= walk.young
                              THEN interval '{LEDGER_REST}' ELSE '0' END
    FROM walk CROSS JOIN step LEFT JOIN (SELECT * FROM passed ORDER BY n DESC LIMIT 1) AS last ON true
    WHERE w.name = 'ledger_walk'"""
_WITH_LOOKS = f"""
    SELECT {{columns}} FROM taxiway.submissions
    WHERE ctid = ANY(ARRAY(SELECT place FROM passed)) AND recent_polls <> '[]' {ONLY} FOR UPDATE SKIP LOCKED"""
_EMPTY = f"""
UPDATE taxiway.submissions SET recent_polls = NULL WHERE ctid = ANY(ARRAY({_WITH_LOOKS.format(columns="ctid")}))
"""
_EMPTY_LOOKS = Walk(
    Choosing(
        "empty_looks",
        _PASSED + _EMPTY,
        f"{_PASSED} {_WITH_LOOKS.format(columns='id, video_id')}",
        "id",
        key_type="bigint",
    ),
    whole=f"{_PASSED}{_STEP}, moved AS ({_STEP_ON}){_EMPTY}",
    move_on=f"{_PASSED}{_STEP}{_STEP_ON}",
)
# What is searched of videos that are gone: the app deletes from its own table as it likes.
_SEARCHED = """
WITH walk AS MATERIALIZED (
    SELECT CAST(facts ->> 'after' AS uuid) AS after FROM taxiway.maintenance
    WHERE name = 'search_walk' AND due_at <= taxiway.now() FOR UPDATE SKIP LOCKED
), passed AS MATERIALIZED (
    SELECT s.video_id FROM walk CROSS JOIN LATERAL (
        SELECT video_id FROM taxiway.search WHERE video_id > walk.after ORDER BY video_id LIMIT $1) AS s
)"""
_SEARCH_ON = f"""
    UPDATE taxiway.maintenance w SET taken_at = taxiway.now(), facts = jsonb_build_object('after', n.after),
        due_at = taxiway.now() + CASE WHEN n.is_end THEN interval '{SEARCH_REST}' ELSE '0' END
    FROM walk, LATERAL (
        SELECT is_end, CASE WHEN is_end THEN '{UUID(int=0)}'
                            ELSE (SELECT video_id FROM passed ORDER BY video_id DESC LIMIT 1) END AS after
        FROM (SELECT count(*) < $1 AS is_end FROM passed) AS c
    ) AS n
    WHERE w.name = 'search_walk'"""
_GONE = f"""
    SELECT p.video_id FROM passed p
    WHERE NOT EXISTS (SELECT FROM taxiway.videos v WHERE v.id = p.video_id OFFSET 0) {ONLY}"""
_FORGET = f"""
DELETE FROM taxiway.search WHERE video_id = ANY(ARRAY({_GONE}))
"""
_REMOVE_ORPHANS = Walk(
    Choosing(
        "remove_orphans",
        _SEARCHED + _FORGET,
        f"{_SEARCHED}, gone AS ({_GONE}) SELECT video_id, NULL::uuid FROM gone",
        "p.video_id",
    ),
    whole=f"{_SEARCHED}, moved AS ({_SEARCH_ON}){_FORGET}",
    move_on=_SEARCHED + _SEARCH_ON,
)


async def walk(database: Database, limit: int, parking: Parking = RAISE) -> int:
    """One step of each walk that is due, over at most `limit` rows; how many were emptied or removed.

    Each goes on with the next tick until it has come to the end, and then rests.
    """
    emptied = await _walk(database, _EMPTY_LOOKS, KEEP_DAYS, limit, parking=parking)
    return emptied + await _walk(database, _REMOVE_ORPHANS, limit, parking=parking)


# Old events. Those of a video stay while it has not ended, or ended since then, and while anything may still come of it
# at Runway: whatever a decision about it rests on is there. Idempotency keys stand in `videos`, consents in the ledger.
_FORGET_EVENTS = f"""
WITH turn AS MATERIALIZED (
    SELECT taxiway.now() - make_interval(secs => $1) AS before FROM taxiway.maintenance
    WHERE name = 'event_walk' AND due_at <= taxiway.now() FOR UPDATE SKIP LOCKED
), old AS MATERIALIZED (
    SELECT e.ctid AS place FROM turn CROSS JOIN LATERAL (
        SELECT ctid, video_id FROM taxiway.events WHERE at < turn.before) AS e
    WHERE NOT EXISTS (SELECT FROM taxiway.videos v WHERE v.id = e.video_id
                      AND (v.finished_at IS NULL OR v.finished_at >= turn.before) OFFSET 0)
      AND NOT EXISTS (SELECT FROM taxiway.submissions s WHERE s.video_id = e.video_id AND s.settled_at IS NULL OFFSET 0)
    LIMIT $2
), rested AS (
    UPDATE taxiway.maintenance SET taken_at = taxiway.now(),
        due_at = taxiway.now() + CASE WHEN (SELECT count(*) FROM old) < $2 THEN interval '{EVENT_REST}' ELSE '0' END
    WHERE name = 'event_walk' AND EXISTS (SELECT FROM turn)
)
DELETE FROM taxiway.events WHERE ctid = ANY(ARRAY(SELECT place FROM old))
"""


async def forget_events(database: Database, older_than_seconds: float, limit: int) -> int:
    """Remove events older than that, at most `limit`; how many. Once none is left, it rests for a day."""
    return await database.execute(_FORGET_EVENTS, older_than_seconds, limit)


# Videos that ended long ago, with what is searched of them. A video stays for as long as anything may still come of it
# at Runway, and while a linked table has not been shown its end; its ledger is never removed. Those that stay are
# passed over again at each step, so after the last of the others it rests.
_OLD = f"""
WITH turn AS MATERIALIZED (
    SELECT FROM taxiway.maintenance WHERE name = 'removal' AND due_at <= taxiway.now() FOR UPDATE SKIP LOCKED
), old AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v
    WHERE EXISTS (SELECT FROM turn) AND v.finished_at < taxiway.now() - make_interval(secs => $1)
      AND v.status IN ('completed', 'failed', 'cancelled', 'erased') AND v.erase_requested_at IS NULL
      AND NOT EXISTS (SELECT FROM taxiway.submissions s WHERE s.video_id = v.id AND s.settled_at IS NULL)
      AND NOT EXISTS (SELECT FROM taxiway.rows r WHERE r.video_id = v.id AND r.mirrored_version < v.version)
      AND NOT EXISTS (SELECT FROM taxiway.deliveries d WHERE d.video_id = v.id AND d.state = 'due')
      AND (v.link_id IS NULL OR NOT EXISTS (
          SELECT FROM taxiway.rows r WHERE r.video_id = v.id AND r.mirrored_version < v.version)) {ONLY}
    ORDER BY v.finished_at LIMIT $2 FOR UPDATE OF v SKIP LOCKED
)"""
_REST = f"""
    UPDATE taxiway.maintenance SET taken_at = taxiway.now(),
        due_at = taxiway.now() + CASE WHEN (SELECT count(*) FROM old) < $2 THEN interval '{REMOVAL_REST}' ELSE '0' END
    WHERE name = 'removal' AND EXISTS (SELECT FROM turn)"""
_REMOVE_OLD = """, searched AS (
    DELETE FROM taxiway.search WHERE video_id = ANY(ARRAY(SELECT id FROM old))
), webhooks AS (
    DELETE FROM taxiway.deliveries WHERE video_id = ANY(ARRAY(SELECT id FROM old))
)"""
_DELETE = """
DELETE FROM taxiway.videos WHERE id = ANY(ARRAY(SELECT id FROM old))
"""
_REMOVE = Walk(
    Choosing("remove_videos", _OLD + _REMOVE_OLD + _DELETE, f"{_OLD} SELECT id, id FROM old", "v.id"),
    whole=f"{_OLD}{_REMOVE_OLD}, rested AS ({_REST}){_DELETE}",
    move_on=_OLD + _REST,
)


async def remove_videos(database: Database, older_than_seconds: float, limit: int, parking: Parking = RAISE) -> int:
    """Remove videos that ended longer ago than that, at most `limit`; how many."""
    return await _walk(database, _REMOVE, older_than_seconds, limit, parking=parking)
