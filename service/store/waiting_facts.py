"""What is known of videos that wait: their places in the queue, their models, their users, and the last tick."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from service.store.claim import BLOCKED, PerUser
from service.store.database import Database
from service.store.predicates import READY
from service.store.spending import BUSY

MOST_AHEAD = 1_000  # videos of a model that are walked to find places in its queue: a millisecond for each who asks
MOST_ENDED = 500  # videos of the last hour that a pace is taken from
MOST_MODELS = 8  # whose queues are walked at once: the more may be walked, the sooner PostgreSQL compiles the statement

# Videos that are there, by their ids.
_GIVEN = f"""
    SELECT v.* FROM jsonb_array_elements_text($1::jsonb) AS given(id) CROSS JOIN LATERAL (
        SELECT v.id, v.model, v.user_id, v.quoted_credits, v.claim_order, v.run_after,
               {READY} AND v.run_after <= taxiway.now() AS is_due,
               v.status = 'queued' AND {BLOCKED} AS is_blocked
        FROM taxiway.videos v WHERE v.id = given.id::uuid OFFSET 0
    ) AS v"""
# Videos that the statement itself makes, in its part `v`: in the table it does not see them yet.
_NEW = """
    SELECT v.id, v.model, v.user_id, v.quoted_credits, v.claim_order, v.run_after,
           v.run_after <= taxiway.now() AS is_due, false AS is_blocked FROM v"""

# What is due before a video in the index videos_ready is ahead of it. Before the first of those asked about it is
# counted, which costs less; from there to the last the index is walked, model by model.
_WALK = f"""
    SELECT walked.id, LEAST(before.n + walked.n, {MOST_AHEAD}) AS ahead
    FROM last JOIN first USING (model) CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE v.run_after <= taxiway.now()) AS n FROM (
            SELECT v.run_after FROM taxiway.videos v
            WHERE {READY} AND v.model = last.model
              AND (v.claim_order, v.run_after, v.id) < (first.claim_order, first.run_after, first.id)
            ORDER BY v.claim_order, v.run_after, v.id LIMIT {MOST_AHEAD}
        ) AS v
    ) AS before CROSS JOIN LATERAL (
        SELECT v.id, count(*) FILTER (WHERE v.run_after <= taxiway.now()) OVER (
            ORDER BY v.claim_order, v.run_after, v.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS n
        FROM (
            (SELECT v.id, v.claim_order, v.run_after FROM taxiway.videos v
             WHERE {READY} AND v.model = last.model
               AND (v.claim_order, v.run_after, v.id) >= (first.claim_order, first.run_after, first.id)
               AND (v.claim_order, v.run_after, v.id) <= (last.claim_order, last.run_after, last.id)
             ORDER BY v.claim_order, v.run_after, v.id LIMIT {MOST_AHEAD} + 1){{and_own}}
        ) AS v
    ) AS walked"""
# One row for each video, whatever the number of them. Beside their places, `placed`, these are facts about the model,
# the user, and about all: asked for once. The pace of a model is that of its last hour.
_PARTS = f"""asked AS MATERIALIZED ({{asked}}
), last AS (
    SELECT DISTINCT ON (model) model, claim_order, run_after, id FROM asked WHERE is_due
    ORDER BY model, claim_order DESC, run_after DESC, id DESC LIMIT {MOST_MODELS}
), first AS (
    SELECT DISTINCT ON (model) model, claim_order, run_after, id FROM asked WHERE is_due
    ORDER BY model, claim_order, run_after, id
), placed AS ({{placed}}
), ticks AS (
    SELECT started_at, started_at - lag(started_at) OVER (ORDER BY id) AS gap
    FROM (SELECT id, started_at FROM taxiway.ticks WHERE kind <> 'poll' ORDER BY id DESC LIMIT 50) AS newest
), tick AS MATERIALIZED (
    SELECT extract(epoch FROM taxiway.now() - max(started_at))::float8 AS age,
           extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY gap))::float8 AS rhythm FROM ticks
), sending AS MATERIALIZED (
    SELECT s.model, count(*) AS n FROM taxiway.submissions s WHERE s.outcome IS NULL GROUP BY 1
), running AS MATERIALIZED (
    SELECT v.model, count(*) AS n FROM taxiway.videos v WHERE v.status = 'processing' GROUP BY 1
), pace AS MATERIALIZED (
    SELECT model, percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - submitted_at))::float8
               AS seconds,
           extract(epoch FROM max(submitted_at) - min(submitted_at))::float8 / NULLIF(count(*) - 1, 0) AS gap
    FROM (SELECT v.model, v.submitted_at, v.finished_at FROM taxiway.videos v
          WHERE v.finished_at > taxiway.now() - interval '1 hour' AND v.status = 'completed'
          ORDER BY v.finished_at DESC LIMIT {MOST_ENDED}) AS ended GROUP BY model
), {BUSY.format(slots=2, credits=3)}"""
COLUMNS = f"""a.is_due, a.is_blocked, taxiway.now() AS at,
       CASE WHEN a.is_due THEN COALESCE(p.ahead, {MOST_AHEAD}) END AS ahead,
       tick.age AS tick_age, tick.rhythm AS tick_rhythm,
       l.reason, l.detail, NULLIF(l.paused_until, 'infinity') AS paused_until,
       every.reason AS all_reason, every.detail AS all_detail,
       NULLIF(every.paused_until, 'infinity') AS all_paused_until,
       taxiway.allowed(l) AS allowed, COALESCE(sending.n, 0) AS busy, COALESCE(running.n, 0) AS running,
       pace.seconds, pace.gap, COALESCE(busy.in_flight, 0) AS user_in_flight,
       a.user_id IS NOT NULL AND COALESCE(busy.in_flight >= $2::integer, false) AS user_has_no_slot,
       a.user_id IS NOT NULL
           AND COALESCE(COALESCE(busy.credits, 0) + COALESCE(a.quoted_credits, 0) > $3::numeric, false)
           AS user_has_no_credits,
       date_trunc('day', taxiway.now(), 'UTC') + interval '1 day' AS day_ends_at,
       CASE WHEN jsonb_typeof(account.facts #> ARRAY['models', a.model, 'at_once']) = 'number'
            THEN (account.facts #>> ARRAY['models', a.model, 'at_once'])::numeric END AS at_once"""
FROM = """FROM asked a CROSS JOIN tick
LEFT JOIN placed p ON p.id = a.id
LEFT JOIN taxiway.models l ON l.model = a.model
LEFT JOIN taxiway.models every ON every.model = 'all'
LEFT JOIN sending ON sending.model = a.model
LEFT JOIN running ON running.model = a.model
LEFT JOIN pace ON pace.model = a.model
LEFT JOIN busy ON busy.user_id = a.user_id
LEFT JOIN taxiway.maintenance account ON account.name = 'account'
"""
_FACTS = f"WITH {_PARTS}\nSELECT a.id, {COLUMNS}\n{FROM}".format(asked=_GIVEN, placed=_WALK.format(and_own=""))
# For a statement that makes videos, `v`, and asks about them at once. Its $2 and $3: what each user may have.
OF_NEW = _PARTS.format(
    asked=_NEW,
    placed=_WALK.format(
        and_own="""
            UNION ALL
            SELECT a.id, a.claim_order, a.run_after FROM asked a WHERE a.model = last.model"""
    ),
)


async def facts(database: Database, ids: Sequence[UUID], per_user: PerUser) -> list[asyncpg.Record]:
    """For each of these videos that is there, in one statement; `per_user`: what each user may have.

    `is_due`: it could be claimed now; `ahead`: how many that are due are claimed before it, at most MOST_AHEAD;
    `is_blocked`: an earlier submission forbids another; `reason`, `detail`, `paused_until` of its model's pause, and
    `all_…` of all models' (None: it lasts until an operator ends it); `allowed` and `busy`: creates of its model that
    may be, and are, in flight; `at_once`: tasks that Runway works on at once, if known; `tick_age`, `tick_rhythm`:
    seconds since the last tick began (None: there was none) and usually between two; `at`: now.
    `running`: videos of its model at Runway or on their way there; `seconds`, `gap`: what the last hour's of its model
    took there, at the median, and the time between two of them, if there were any; `user_has_no_slot` (he has
    `user_in_flight`) and `user_has_no_credits`, until `day_ends_at`: what its user lacks for it.
    """
    given = json.dumps([str(one) for one in ids])
    return await database.fetch(_FACTS, given, per_user.in_flight, per_user.credits)
