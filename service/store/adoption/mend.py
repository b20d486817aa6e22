"""Rows that the app left at `processing`: each gets an owner and an entry in the ledger.

Runs in the middle of the first migration, when Taxiway's columns are there and its constraints are not yet.
"""

from __future__ import annotations

from service.store.adoption.table import Connection

STUCK = "status::text = 'processing' AND COALESCE(btrim({id}::text), '') = ''"

EXPLANATION = (
    "This video stood at processing without a Runway id when Taxiway took over the table. Nobody recorded "
    "whether the request was sent to Runway: the video may have been made and paid for. To have it made "
    "again, retry it with accept_double_charge, which accepts that it may be paid for twice."
)
LEDGER_NOTE = "found at processing without a task id when the table was taken over"

# The app's clock may be ahead, and its times may have no zone; a submission opens before it closes.
_SINCE = "LEAST(COALESCE(created_at, updated_at), now() - interval '1 second')"
_SENT = "LEAST(COALESCE(updated_at, created_at), now())"
_STUCK = STUCK.format(id="runway_video_id")
_MODEL = "COALESCE(NULLIF(btrim(model), ''), 'unknown')"

# What the takeover is about to write over, for the way back.
KEEP = f"""
    INSERT INTO taxiway_adopted_rows (video_id, stuck, was)
    SELECT id, {_STUCK}, jsonb_build_object('status', status, 'error_message', error_message,
                                            'runway_video_id', runway_video_id, 'updated_at', updated_at)
      FROM videos WHERE status::text = 'processing'
"""

# Stuck rows fail, or wait again. The ledger says that they may have cost, and who allows another create ($2).
# The window in which such a task can have been made reaches from the row's own birth to now.
_LEDGER = f"""
    INSERT INTO submissions
           (video_id, model, opened_at, call_deadline, deadline, outcome, closed_at, error, consent)
    SELECT id, {_MODEL}, {_SINCE}, now(), now() + interval '5 seconds', 'unknown', now(), $1, $2
      FROM mended
"""
FAIL = f"""
    WITH mended AS (
        UPDATE videos
           SET status = 'failed', error_code = 'SUBMISSION_UNKNOWN', error_message = $3,
               runway_video_id = NULL, finished_at = now(), updated_at = now()
         WHERE {_STUCK}
        RETURNING id, model, created_at, updated_at)
    {_LEDGER}
"""
REQUEUE = f"""
    WITH mended AS (
        UPDATE videos SET status = 'queued', runway_video_id = NULL, updated_at = now()
         WHERE {_STUCK}
        RETURNING id, model, created_at, updated_at)
    {_LEDGER}
"""

# Rows with a task go on from where they are: looked at once, then polled like any other, with all of the patience
# that a new task has.
GO_ON = f"""
    WITH under_way AS MATERIALIZED (
        SELECT id, model, runway_video_id, {_SENT} AS sent_at FROM videos WHERE status = 'processing'
    ), looked_at AS (
        UPDATE videos SET submitted_at = now(), poll_after = now() WHERE status = 'processing')
    INSERT INTO submissions (video_id, model, opened_at, call_deadline, deadline, outcome, closed_at, task_id)
    SELECT DISTINCT ON (runway_video_id)
           id, {_MODEL}, sent_at, sent_at + interval '60 seconds', sent_at + interval '90 seconds',
           'accepted', sent_at, runway_video_id
      FROM under_way
     ORDER BY runway_video_id, sent_at, id
"""


async def mend(connection: Connection, *, requeue_stuck: bool) -> tuple[int, int]:
    """Give every row at `processing` what it needs to end. Returns the counts of (stuck, under way).

    With `requeue_stuck` the operator accepts that a stuck row may be paid for twice: it is queued again.
    """
    await connection.execute(KEEP)
    if requeue_stuck:
        done = await connection.execute(REQUEUE, LEDGER_NOTE, "operator")
    else:
        done = await connection.execute(FAIL, LEDGER_NOTE, None, EXPLANATION)
    going = await connection.execute(GO_ON)
    # The app's deferred triggers fire here: with any of them pending the table cannot be altered any further.
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return _count(done), _count(going)


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
