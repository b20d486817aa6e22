"""Whether this database is the one that the last tick saw, and has not gone back in time: asked before a claim.

A database that was copied, or restored from a backup, holds videos as queued that have been sent since, or that the
original sends as well: claiming them pays twice. Such a database is recognised by four things, and then everything is
paused until an operator decides (`taxiway resume all`):

* another server identifier, or other oids of the database and of `taxiway.submissions`: a dump that was restored, a
  template that was copied, a new cluster;
* submissions that this process remembers are not there: it went back in time, whichever way;
* another timeline, and this process remembers nothing, and the newest tick is long ago: restored to a point in time. A
  switchover or a failover has another timeline too, and recent ticks;
* another address in DATABASE_URL, and this process remembers nothing, and the newest tick is long ago: a copy of the
  files beside the original, which has the identifier, the oids and the timeline of the original.

The limit: a copy of the files that is reached under the very address of the original by a process that remembers
nothing is not recognised, nor one that is started within five times the rhythm of the ticks. Ticks that were missing
are nothing by themselves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from service.logs import VIDEO, event
from service.store.database import Connection, Database

log = logging.getLogger(__name__)

REASON = "restored"
STALE_RHYTHMS = 5.0
# A failover takes a minute or two, in which no tick is recorded; a worker's rhythm is two seconds.
STALE_SECONDS = 120.0
# Behind a transaction pooler a connection outlives the server's: there it is asked again, in the claim's transaction.
POOLED_SECONDS = 1.0
MOST_PLACES = 8  # web, worker and command line may use different addresses

# What is known of this database, and what there is; how many of the submissions that this process remembers are not
# there, and whether its newest tick is; the age of the newest sign of life, and the rhythm of the ticks, in seconds.
# A poll alone sends nothing, so it is no tick.
_LOOK = """
WITH remembered AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS r(video_id uuid, id bigint, claim_id bigint)
), recent AS (
    SELECT started_at, started_at - lag(started_at) OVER (ORDER BY id) AS gap
    FROM (SELECT id, started_at FROM taxiway.ticks WHERE kind <> 'poll' ORDER BY id DESC LIMIT 50) AS newest
)
SELECT i.facts AS known, taxiway.server_identity() AS found,
       (SELECT count(*) FROM remembered r WHERE NOT EXISTS (
            SELECT FROM taxiway.submissions s
            WHERE s.video_id = r.video_id AND s.id = r.id AND s.claim_id IS NOT DISTINCT FROM r.claim_id)) AS missing,
       EXISTS (SELECT FROM taxiway.ticks WHERE id = $2 AND ref IS NOT DISTINCT FROM $3::text) AS has_tick,
       (SELECT extract(epoch FROM taxiway.now() - GREATEST(max(started_at), i.taken_at))::float8 FROM recent) AS age,
       (SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY gap))::float8 FROM recent) AS rhythm
FROM taxiway.maintenance i WHERE i.name = 'identity'
"""

# Write down what was found: the first time, after a switchover, or under another address.
_KEEP = """
WITH kept AS (
    UPDATE taxiway.maintenance SET facts = $1::jsonb, taken_at = taxiway.now() WHERE name = 'identity' RETURNING name
)
INSERT INTO taxiway.events (kind, actor, detail) SELECT 'switchover', 'submit', $1::jsonb FROM kept WHERE $2
"""

# Pause everything until an operator decides; nothing where it is paused for this reason.
_PAUSE = f"""
WITH paused AS (
    INSERT INTO taxiway.models AS m (model, paused_until, reason, detail, paused_at)
    VALUES ('all', 'infinity', '{REASON}', $1, taxiway.now())
    ON CONFLICT (model) DO UPDATE SET paused_until = 'infinity', reason = '{REASON}',
        detail = EXCLUDED.detail, paused_at = taxiway.now()
    WHERE m.reason IS DISTINCT FROM '{REASON}' RETURNING model
)
INSERT INTO taxiway.events (kind, actor, detail) SELECT 'restored', 'submit', $2::jsonb FROM paused
"""


@asynccontextmanager
async def recognised(database: Database) -> AsyncIterator[Connection | None]:
    """A connection, or a transaction on one, on which a claim may be made; None where none may be.

    Where none may be, all models are paused before this returns. Raises DatabaseUnavailable.
    """
    async with database.connection("claim") as connection:
        pooled = database.target is not None and database.target.pooler
        seen = connection.recognised_at
        if seen is not None and not (pooled and time.monotonic() - seen > POOLED_SECONDS):
            yield connection
            return
        connection.recognised_at = None
        async with connection.transaction() if pooled else nullcontext():
            yield connection if await _look(database, connection) else None


async def _look(database: Database, connection: Connection) -> bool:
    memory = database.memory
    made = json.dumps([{"video_id": str(one.video_id), "id": one.id, "claim_id": one.claim_id}
                       for one in memory.submissions])  # fmt: skip
    tick_id, tick_ref = memory.tick or (None, None)
    row = await connection.fetchrow(_LOOK, made, tick_id, tick_ref)
    assert row is not None  # noqa: S101  # the migration made the row, and nothing removes it
    known: dict[str, Any] = json.loads(row["known"] or "{}")
    found: dict[str, Any] = json.loads(row["found"]) | {"place": place(database)}
    accepted, missing, has_proof = known.get("accepted", 0), row["missing"], row["has_tick"]
    if memory.accepted is not None and memory.accepted < accepted:
        memory.forget()  # an operator has decided since
        missing, has_proof = 0, False
    has_proof = has_proof or len(memory.submissions) > missing
    went_back = memory.accepted is not None and memory.accepted > accepted
    why = compare(
        known, found, missing=missing + went_back, has_proof=has_proof, is_stale=is_stale(row["age"], row["rhythm"])
    )
    memory.accepted = accepted  # by the next decision of an operator, what is missing is forgotten
    if why is None:
        await _keep(connection, known, found)
        connection.recognised_at = time.monotonic()
        return True
    detail = f"{why}. Nothing is sent until you decide: `taxiway resume all` says what may be sent twice"
    if await connection.execute(_PAUSE, detail, json.dumps({"known": known, "found": found})):
        event(log, VIDEO, "restored", f"All models paused, {REASON}: {detail}", level=logging.ERROR)
    return False


def compare(
    known: Mapping[str, Any], found: Mapping[str, Any], *, missing: int, has_proof: bool, is_stale: bool
) -> str | None:
    """Why this database is taken for restored, as a sentence without its full stop; None if it is the known one.

    `known` and `found` have system, timeline, database, submissions: None or nothing where it cannot be read; `known`
    all `places` from which it was seen, `found` the `place` of this process. `missing`: how many submissions that this
    process remembers are not there; `has_proof`: it remembers something that is.
    """
    for key, name in (("system", "server"), ("database", "database"), ("submissions", "table taxiway.submissions")):
        if _differs(known, found, key):
            return f"This is not the {name} that the last tick saw: a dump that was restored, a copy, or a new server"
    if missing:
        return "Submissions that this process made are missing: the database went back in time"
    if has_proof or not is_stale:
        return None
    if _differs(known, found, "timeline"):
        return (
            "The timeline is another one and the newest tick is long ago: the database was restored to an earlier time"
        )
    if known.get("places") and found["place"] not in known["places"]:
        return (
            "DATABASE_URL names another address and the newest tick is long ago: it may be a copy beside the original"
        )
    return None


def _differs(known: Mapping[str, Any], found: Mapping[str, Any], key: str) -> bool:
    return None not in (known.get(key), found.get(key)) and known[key] != found[key]


def is_stale(age: float | None, rhythm: float | None) -> bool:
    """Whether the newest sign of life (seconds ago) is longer ago than ticks in that rhythm (seconds) can explain."""
    return age is not None and age > max(STALE_RHYTHMS * (rhythm or 0.0), STALE_SECONDS)


async def _keep(connection: Connection, known: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Write down what there is now, if it is news."""
    places = [*known.get("places", []), found["place"]]
    # What this process may not read, another one may have.
    facts = {**known, **{key: value for key, value in found.items() if key != "place" and value is not None}}
    facts |= {"places": list(dict.fromkeys(places))[-MOST_PLACES:], "accepted": known.get("accepted", 0)}
    if facts != known:
        await connection.execute(_KEEP, json.dumps(facts), _differs(known, found, "timeline"))


def place(database: Database) -> str:
    """The address of the database as this process knows it, as a short digest."""
    options = database.target.options if database.target else {}
    words = "|".join(str(options.get(name)) for name in ("host", "port", "database"))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


# Nothing is known of this database: the next look writes down what it sees.
_FORGET = "UPDATE taxiway.maintenance SET facts = NULL, taken_at = NULL WHERE name = 'identity'"


async def forget(database: Database) -> None:
    """Take this database for a new one, where nothing can be paid twice: with a simulated Runway."""
    await database.execute(_FORGET)


# What an operator should know before: how much would be sent that may have been sent elsewhere, and why.
_CONSEQUENCES = f"""
SELECT m.detail, m.paused_at,
       (SELECT count(*) FROM taxiway.videos v WHERE v.status = 'queued' AND v.created_at < m.paused_at) AS queued,
       (SELECT COALESCE(sum(v.quoted_credits), 0) FROM taxiway.videos v
         WHERE v.status = 'queued' AND v.created_at < m.paused_at) AS credits,
       (SELECT count(*) FROM taxiway.submissions s WHERE s.outcome IS NULL AND s.opened_at < m.paused_at) AS open
FROM taxiway.models m WHERE m.model = 'all' AND m.reason = '{REASON}'
"""


async def consequences(database: Database) -> str | None:
    """Why everything is paused as restored, and what may be sent twice once it is resumed; None if it is not."""
    row = await database.fetchrow(_CONSEQUENCES)
    if row is None:
        return None
    return (
        f"{row['detail'].partition('. Nothing is sent')[0]}. {row['queued']} videos were queued before that (at most "
        f"{row['credits'].normalize():f} credits): each of them that the original, or this database before it went "
        f"back, has sent or still sends, is paid twice. {row['open']} submissions are without an outcome; they end as "
        "unknown. If this is a copy, empty its queue first, or take the Runway key from it"
    )


# Accept the database as it is, and go on; one more than before, so that every process forgets what it remembers.
_ACCEPT = f"""
WITH resumed AS (
    UPDATE taxiway.models SET paused_until = NULL, reason = NULL, detail = NULL, paused_at = NULL
    WHERE model = 'all' AND reason = '{REASON}' RETURNING model
), accepted AS (
    UPDATE taxiway.maintenance SET taken_at = taxiway.now(), facts = jsonb_strip_nulls(taxiway.server_identity())
        || jsonb_build_object('places', jsonb_build_array($1::text),
                              'accepted', COALESCE((facts ->> 'accepted')::bigint, 0) + 1)
    WHERE name = 'identity' AND EXISTS (SELECT FROM resumed) RETURNING facts
)
INSERT INTO taxiway.events (kind, actor, detail) SELECT 'resumed', $2, facts || '{{"model": "all"}}' FROM accepted
"""


async def accept(database: Database, actor: str) -> bool:
    """End the pause and take this database for the right one from now on; whether it was paused as restored."""
    return await database.execute(_ACCEPT, place(database), actor) > 0
