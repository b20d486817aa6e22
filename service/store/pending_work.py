"""Which steps have something to do: one statement for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from service.store.database import Database
from service.store.endpoints import DIFFERS, Configured, as_named
from service.store.predicates import FOR_INTAKE, READY, SENT_BEFORE, UNCONSENTED
from service.store.retention import DUE, KEEP_DAYS

# What each step begins with, as the question whether there is any of it. What is open in the ledger is compared with
# what its videos say.
_PENDING_WORK = """
SELECT
    EXISTS (SELECT FROM taxiway.videos v WHERE {for_intake})
    OR EXISTS (SELECT FROM taxiway.videos
               WHERE status = 'queued' AND expires_at <= taxiway.now() AND finished_at IS NULL) AS intake,
    EXISTS (SELECT FROM taxiway.links WHERE state <> 'closed') AS links,
    EXISTS (SELECT FROM taxiway.submissions WHERE outcome IS NULL AND deadline <= taxiway.now())
    OR EXISTS (SELECT FROM taxiway.submissions WHERE unsaved IS NOT NULL)
    OR EXISTS (SELECT FROM taxiway.inbox WHERE handled_at IS NULL)
    OR EXISTS (
        SELECT FROM taxiway.submissions s LEFT JOIN taxiway.videos v ON v.id = s.video_id
        WHERE s.settled_at IS NULL AND s.outcome = 'accepted' AND s.cancel_due IS NULL
          AND (v.status IS DISTINCT FROM 'processing' OR v.runway_video_id IS DISTINCT FROM s.task_id))
    OR {put_back} AS rescue,
    EXISTS (SELECT FROM taxiway.submissions WHERE cancel_due <= taxiway.now())
    OR EXISTS (SELECT FROM taxiway.videos WHERE erase_requested_at IS NOT NULL) AS cancel,
    EXISTS (SELECT FROM taxiway.videos v WHERE {ready} AND v.run_after <= taxiway.now()) AS submit,
    EXISTS (SELECT FROM taxiway.models WHERE reason IS NOT NULL AND paused_until <= taxiway.now()) AS probe,
    EXISTS (SELECT FROM taxiway.videos
            WHERE status = 'processing' AND runway_video_id IS NOT NULL
              AND COALESCE(poll_after, '-infinity') <= taxiway.now()) AS poll,
    EXISTS (SELECT FROM taxiway.submissions WHERE look_due <= taxiway.now()) AS look,
    EXISTS (SELECT FROM taxiway.deliveries WHERE state = 'due' AND due_at <= taxiway.now()) AS deliver,
    {differs} AS endpoints,
    EXISTS (SELECT FROM taxiway.ticks WHERE started_at < taxiway.now() - interval '{days} days')
    OR EXISTS (SELECT FROM taxiway.inbox WHERE received_at < taxiway.now() - interval '{days} days')
    OR (SELECT created_at FROM taxiway.deliveries ORDER BY id LIMIT 1) < taxiway.now() - interval '{days} days'
    OR {due} AS prune
"""
# That an app put a video back in the queue although its outcome is unknown. Of what is queued, next to nothing was sent
# before; of the outcomes that are unknown, thousands may be. OFFSET 0: by the ledger of each video.
_PUT_BACK = f"""EXISTS (
        SELECT FROM taxiway.videos v WHERE {SENT_BEFORE} AND EXISTS (
            SELECT FROM taxiway.submissions s WHERE s.video_id = v.id AND {UNCONSENTED} AND s.cancel_due IS NULL
            OFFSET 0))"""


@cache
def _pending_work(removes: bool, named: bool) -> str:
    """The statement; `removes`: videos are removed in time; `named`: endpoints are, as its parameter.

    Without a parameter, which is the rule, PostgreSQL plans it once, and not for each of the first ticks.
    """
    return _PENDING_WORK.format(
        for_intake=FOR_INTAKE,
        ready=READY,
        put_back=_PUT_BACK,
        differs=DIFFERS.format(given="$1::text" if named else "'[]'"),
        days=KEEP_DAYS,
        due=DUE.format(removes=str(removes).lower()),
    )


@dataclass(frozen=True)
class PendingWork:
    """The steps that have something to do. `probe`: the submit step, a paused model.

    `look`: of the poll step, tasks that had vanished; `endpoints`: the settings name others than the table.
    """

    intake: bool
    links: bool
    rescue: bool
    cancel: bool
    submit: bool
    probe: bool
    poll: bool
    look: bool
    deliver: bool
    endpoints: bool
    prune: bool


EVERYTHING = PendingWork(
    intake=True,
    links=True,
    rescue=True,
    cancel=True,
    submit=True,
    probe=True,
    poll=True,
    look=True,
    deliver=True,
    endpoints=True,
    prune=True,
)


async def pending_work(
    database: Database,
    video_retention: float | None = None,
    named: Sequence[Configured] = (),
) -> PendingWork:
    """What there is to do now. `video_retention`: seconds after which videos that ended are removed, if ever;
    `named`: the endpoints that the settings name.
    """
    values = [as_named(named)] if named else []
    row = await database.fetchrow(_pending_work(video_retention is not None, bool(named)), *values)
    assert row is not None  # noqa: S101  # a SELECT without FROM has one row
    return PendingWork(**row)
