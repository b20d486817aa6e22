"""An app with a table of its own, linked: quoted camelCase names, an enum in its own words, and a mean trigger.

The trigger takes 25 credits from the user's balance when a film leaves the queue, and raises where there are none. It
keeps some films from being shown as ready: some always, some at times, by a hash of their id. It also writes down
every change of a status, and every charge with the round of the video that it was for: the books of `accounts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from service.installer.linking import apply
from service.installer.plan import Wishes, make_plan
from service.installer.plan_answers import Answers
from tests.database import connected, execute
from tests.linked import SETTINGS

if TYPE_CHECKING:
    from tests.database import Connection

TABLE = 'studio."Film"'
PRICE = 25
RICH, POOR, BROKE = "user-rich", "user-poor", "user-broke"
WEALTH = 1_000_000
BALANCE = f"CASE u.id WHEN '{RICH}' THEN {WEALTH} WHEN '{POOR}' THEN {PRICE} ELSE 0 END"  # as it was at first
IMAGE = "https://example.com/boat.jpg"

SCHEMA = f"""
CREATE SCHEMA studio;
CREATE TYPE studio."FilmStatus" AS ENUM ('DRAFT', 'PENDING', 'RENDERING', 'READY', 'BROKEN', 'CANCELED');
CREATE TABLE studio."User" (id text PRIMARY KEY, balance integer NOT NULL);
INSERT INTO studio."User" VALUES ('{RICH}', {WEALTH}), ('{POOR}', {PRICE}), ('{BROKE}', 0);
CREATE TABLE studio."Film" (
    id             text                  PRIMARY KEY DEFAULT 'film_' || gen_random_uuid(),
    "promptText"   text                  NOT NULL,
    "imageUrl"     text,
    status         studio."FilmStatus"   NOT NULL DEFAULT 'PENDING',
    "runwayTaskId" text,
    "errorMessage" text,
    "videoUrl"     text,
    "userId"       text                  NOT NULL REFERENCES studio."User" (id),
    "isWithdrawn"  boolean               NOT NULL DEFAULT false,  -- the app cancelled it, and did not queue it again
    "isStubborn"   boolean               NOT NULL DEFAULT true,   -- the trigger may refuse to show it
    "createdAt"    timestamp(3)          NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
    "updatedAt"    timestamp(3)          NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
CREATE TABLE studio."Removed" (id text PRIMARY KEY, "promptText" text NOT NULL);
CREATE TABLE studio."Charge" (film text NOT NULL, "user" text NOT NULL, round integer);
CREATE TABLE studio."Step" (id bigint GENERATED ALWAYS AS IDENTITY, film text NOT NULL, was text, became text);

CREATE FUNCTION studio.temper(film text) RETURNS integer IMMUTABLE LANGUAGE sql AS
    $$ SELECT abs(hashtext(film) % 10) $$;
CREATE FUNCTION studio.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO "Step" (film, was, became) VALUES (NEW.id, OLD.status, NEW.status);
    IF OLD.status = 'PENDING' AND NEW.status = 'RENDERING' THEN
        UPDATE "User" SET balance = balance - {PRICE} WHERE id = NEW."userId" AND balance >= {PRICE};
        IF NOT FOUND THEN
            RAISE 'This user has no credits left.';
        END IF;
        INSERT INTO "Charge" VALUES (NEW.id, NEW."userId", (
            SELECT v.round FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id WHERE r.app_id = NEW.id));
    END IF;
    IF NEW.status = 'READY' AND NEW."isStubborn" THEN
        IF temper(NEW.id) = 0 THEN
            RAISE 'This film is never shown.';
        ELSIF temper(NEW.id) = 1 AND random() < 0.5 THEN
            RAISE 'This film is not shown right now.';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON studio."Film" FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION studio.guard();
"""
# What `taxiway link` asks of this table; all else it proposes itself.
ANSWERS = Answers(columns={"prompt": "promptText", "runway_video_id": "runwayTaskId"}, words={"failed": ("BROKEN",)})

INSERT = """
INSERT INTO studio."Film" ("promptText", "imageUrl", "userId", "isStubborn") VALUES ($1, $2, $3, $4) RETURNING id
"""
_PICK = """
SELECT id FROM studio."Film" WHERE status = ANY ($1::text[]::studio."FilmStatus"[])
ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED
"""
REQUEUE = """UPDATE studio."Film" SET status = 'PENDING', "isWithdrawn" = false, "errorMessage" = NULL WHERE id = $1"""
CANCEL = """UPDATE studio."Film" SET status = 'CANCELED', "isWithdrawn" = true WHERE id = $1"""
REMOVE = """
WITH gone AS (DELETE FROM studio."Film" WHERE id = $1 RETURNING id, "promptText")
INSERT INTO studio."Removed" SELECT * FROM gone
"""
_FORGET = 'TRUNCATE studio."Film", studio."Removed", studio."Charge", studio."Step"'
_PAY_BACK = f"""UPDATE studio."User" u SET balance = {BALANCE}"""


async def install(url: str) -> None:
    """Make the app's schema, and link its table as `taxiway link` does."""
    await execute(url, SCHEMA)
    async with connected(url) as connection:
        plan = await make_plan(connection, TABLE, ANSWERS, SETTINGS, Wishes())
        assert not plan.questions, plan.questions
        assert plan.mapping is not None
        assert plan.mapping.gate, "the trigger was not seen"
        await apply(connection, plan, SETTINGS)


@asynccontextmanager
async def as_app(url: str) -> AsyncIterator[Connection]:
    """A connection of the app's: its trigger names tables without their schema."""
    async with connected(url) as connection:
        await connection.execute("SET search_path = studio, public")
        yield connection


async def forget(url: str) -> None:
    """Empty the app's books, if there is such an app."""
    async with connected(url) as connection:
        if await is_there(connection):
            await connection.execute(_FORGET)
            await connection.execute(_PAY_BACK)


async def is_there(connection: Connection) -> bool:
    """Whether this database has such an app."""
    found: bool = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", TABLE)
    return found


async def pick(connection: Connection, *words: str) -> str | None:
    """A film with one of these statuses, held until the end of the app's transaction; None if there is none."""
    film: str | None = await connection.fetchval(_PICK, list(words))
    return film


# What is still to be done for the app's rows, as seconds until it is due: a film that is queued and not under way, a
# note for the mirror, and a row that refused and may yet give in.
_NEXT = """
SELECT extract(epoch FROM min(at) - taxiway.now())::float8 FROM (
    SELECT taxiway.now() AS at FROM studio."Film" f
    LEFT JOIN taxiway.rows r ON r.app_id = f.id LEFT JOIN taxiway.videos v ON v.id = r.video_id
    WHERE f.status = 'PENDING' AND (v.id IS NULL OR v.status NOT IN ('queued', 'processing'))
    UNION ALL SELECT taxiway.now() FROM taxiway.mirror_queue
    UNION ALL SELECT due_at FROM taxiway.rows r WHERE due_at IS NOT NULL AND NOT (
        studio.temper(app_id) = 0 AND EXISTS (SELECT FROM taxiway.videos v WHERE v.id = r.video_id
                                              AND v.status = 'completed'))
) AS events
"""


async def seconds_to_next(connection: Connection) -> float | None:
    """When the mirror or the intake has something to do; None if nothing is left, or there is no such app."""
    if not await is_there(connection):
        return None
    seconds: float | None = await connection.fetchval(_NEXT)
    return None if seconds is None else max(seconds, 0.0)


@dataclass
class Films:
    """What became of the app's rows. `complaints`: what must not be."""

    complaints: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # by the table, by SQLSTATE; each row once
    behind: int = 0  # rows that refuse to show the end of their video
    charges: int = 0
    removed: int = 0
    again: int = 0  # rounds behind the first
    prompts: dict[UUID, str] = field(default_factory=dict)  # of the videos that were made of rows


_FILMS = """
SELECT f.id, f.status::text AS word, f."promptText" AS prompt, f."runwayTaskId" AS task_id, f."errorMessage" AS error,
       f."videoUrl" AS url, f."isWithdrawn" AS is_withdrawn, r.app_word, r.error AS refusal, r.due_at, r.video_id,
       v.status, v.round, v.runway_video_id, v.error_message, v.video_url
FROM studio."Film" f LEFT JOIN taxiway.rows r ON r.app_id = f.id LEFT JOIN taxiway.videos v ON v.id = r.video_id
"""
_MADE = """
SELECT v.id, COALESCE(f."promptText", g."promptText") AS prompt FROM taxiway.videos v
JOIN taxiway.rows r ON r.video_id = v.id LEFT JOIN studio."Film" f ON f.id = r.app_id
LEFT JOIN studio."Removed" g ON g.id = r.app_id
"""
_TWICE = (
    """SELECT film, round, count(*) FROM studio."Charge" GROUP BY film, round HAVING count(*) > 1 OR round IS NULL"""
)
_BALANCES = f"""
SELECT u.id, u.balance, {BALANCE}
       - {PRICE} * (SELECT count(*) FROM studio."Charge" c WHERE c."user" = u.id) AS wanted FROM studio."User" u
"""
_UNPAID = """
SELECT r.app_id FROM taxiway.rows r JOIN taxiway.submissions s ON s.video_id = r.video_id
WHERE s.task_id IS NOT NULL AND NOT EXISTS (SELECT FROM studio."Charge" c WHERE c.film = r.app_id)
"""
_REFUSED = """
SELECT DISTINCT video_id, detail ->> 'sqlstate' AS words FROM taxiway.events
WHERE kind IN ('gate_refused', 'mirror_refused')
"""
SHOWN = {"completed": "READY", "failed": "BROKEN", "cancelled": "CANCELED"}


async def settle(connection: Connection) -> Films:
    """Hold the app's rows against the videos that were made of them, and the trigger's books against both."""
    found = Films()
    if not await is_there(connection):
        return found
    found.prompts = {row["id"]: row["prompt"] for row in await connection.fetch(_MADE)}
    found.refused.update(row["words"] for row in await connection.fetch(_REFUSED))
    for row in await connection.fetch(_FILMS):
        found.statuses[row["word"]] += 1
        found.again += (row["round"] or 1) - 1
        found.behind += row["due_at"] is not None
        _check_film(found, row)
    found.charges = await connection.fetchval('SELECT count(*) FROM studio."Charge"')
    found.removed = await connection.fetchval('SELECT count(*) FROM studio."Removed"')
    found.complaints += [
        f"film {row['film']}: charged {row['count']} times for round {row['round']}"
        for row in await connection.fetch(_TWICE)
    ]
    found.complaints += [
        f"{row['id']} has {row['balance']} credits instead of {row['wanted']}"
        for row in await connection.fetch(_BALANCES)
        if row["balance"] != row["wanted"]
    ]
    found.complaints += [f"film {row['app_id']}: sent without a charge" for row in await connection.fetch(_UNPAID)]
    return found


def _check_film(found: Films, row: Any) -> None:
    """A row shows how its video ended, but for what the table refused."""
    if row["video_id"] is None:
        if not (row["word"] == "CANCELED" and row["is_withdrawn"]):  # withdrawn before it was seen
            found.complaints.append(f"film {row['id']}: {row['word']}, and no video was made of it")
        return
    if row["due_at"] is not None:
        if not row["refusal"]:
            found.complaints.append(f"film {row['id']}: refused without words")
        return
    wanted = SHOWN.get(row["status"])
    if row["word"] == "CANCELED" and row["is_withdrawn"] and row["app_word"] != "CANCELED":
        wanted = "CANCELED"  # queued again, and withdrawn before that was seen: the word is the app's
    shown = (row["word"], row["task_id"], row["url"])
    if shown != (wanted, row["runway_video_id"], row["video_url"]):
        found.complaints.append(
            f"film {row['id']} shows {shown}, its video is {row['status']}, {row['runway_video_id']}, "
            f"{row['video_url']}; known word {row['app_word']}"
        )
    elif wanted == "BROKEN" and row["error"] != row["error_message"]:
        found.complaints.append(f"film {row['id']}: {row['error']!r} instead of {row['error_message']!r}")
