"""Statements that show deliveries, and send one again: newest first, by key, so that every page costs the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from service.store.database import Database
from service.store.deliveries import LEASE_SECONDS, Due
from service.store.search import Arguments

STATES = ("due", "delivered", "failed", "superseded", "disabled", "dropped")


@dataclass(frozen=True)
class Delivery:
    """One event for one address. `attempts`: the newest, each {at, ms, http_status, error, answer}; `is_leased`: one
    is under way; `endpoint_kind`: None if the address came with the video.
    """

    due: Due
    state: str
    due_at: datetime
    ended_at: datetime | None
    is_leased: bool
    attempts: Sequence[Mapping[str, Any]]
    endpoint_kind: str | None


@dataclass(frozen=True)
class WantedDeliveries:
    """Filters of a list. `video_id`: its own, and those of its group; `endpoint_id`: 0 for addresses that came with
    videos; `states`: any of STATES, all of them if empty.
    """

    video_id: UUID | None = None
    endpoint_id: int | None = None
    states: tuple[str, ...] = field(default=())


_COLUMNS = """d.id, d.video_id, d.group_id, d.endpoint_id, d.event, d.webhook_id, d.url, d.created_at, d.tries,
    d.payload, d.state, d.due_at, d.ended_at, COALESCE(d.leased_until > taxiway.now(), false) AS is_leased, d.attempts,
    e.kind AS endpoint_kind"""
# A page of the list. Deliveries that are not due or delivered have an index of their own: a list of them names their
# states as they are.
_PAGE = f"""
SELECT {_COLUMNS} FROM taxiway.deliveries d LEFT JOIN taxiway.endpoints e ON e.id = d.endpoint_id
WHERE {{where}} ORDER BY d.id DESC LIMIT {{limit}}
"""
_ONE = f"""
SELECT {_COLUMNS} FROM taxiway.deliveries d LEFT JOIN taxiway.endpoints e ON e.id = d.endpoint_id WHERE d.id = $1
"""


async def page(database: Database, wanted: WantedDeliveries, *, before: int | None, limit: int) -> list[Delivery]:
    """At most `limit` deliveries that match, with an id less than `before`, newest first."""
    arguments = Arguments()
    conditions = ["true"]
    if before is not None:
        conditions.append(f"d.id < {arguments.bind(before)}::bigint")
    if wanted.video_id is not None:
        video = f"{arguments.bind(wanted.video_id)}::uuid"
        group = f"(SELECT v.group_id FROM taxiway.videos v WHERE v.id = {video})"
        conditions.append(f"(d.video_id = {video} OR d.group_id = {group})")
    if wanted.endpoint_id is not None:
        conditions.append(
            f"d.endpoint_id = {arguments.bind(wanted.endpoint_id)}::integer"
            if wanted.endpoint_id
            else "d.endpoint_id IS NULL"
        )
    if states := [state for state in STATES if state in wanted.states]:
        conditions.append("d.state IN ('" + "', '".join(states) + "')")
    sql = _PAGE.format(where=" AND ".join(conditions), limit=f"{arguments.bind(limit)}::integer")
    return [_delivery(dict(row)) for row in await database.fetch(sql, *arguments)]


async def one(database: Database, delivery_id: int) -> Delivery | None:
    """The delivery of this id, if there is one."""
    row = await database.fetchrow(_ONE, delivery_id)
    return None if row is None else _delivery(dict(row))


def _delivery(row: Mapping[str, Any]) -> Delivery:
    due = Due(**{name: row[name] for name in Due.__dataclass_fields__})
    rest = {name: row[name] for name in ("state", "due_at", "ended_at", "is_leased", "endpoint_kind")}
    return Delivery(due=due, attempts=json.loads(row["attempts"]), **rest)


# Make a delivery due again, from the first attempt on, and lease it to the caller. An attempt that is under way goes
# first.
_CLAIM_AGAIN = f"""
UPDATE taxiway.deliveries d SET state = 'due', ended_at = NULL, tries = 0, for_ticks = false,
    leased_until = taxiway.now() + interval '{LEASE_SECONDS} seconds',
    due_at = taxiway.now() + interval '{LEASE_SECONDS} seconds'
WHERE d.id = $1 AND d.url <> '' AND COALESCE(d.leased_until, '-infinity') <= taxiway.now()
RETURNING d.id, d.video_id, d.group_id, d.endpoint_id, d.event, d.webhook_id, d.url, d.created_at, d.tries, d.payload
"""


async def claim_again(database: Database, delivery_id: int) -> list[Due]:
    """This delivery, leased to this caller; none if an attempt is under way."""
    return [Due(**row) for row in await database.fetch(_CLAIM_AGAIN, delivery_id)]


# A test: it is written down as it ended, and never tried again.
_NOTE_TEST = """
INSERT INTO taxiway.deliveries (
    endpoint_id, event, webhook_id, url, payload, created_at, ended_at, state, tries, attempts)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, taxiway.now(), $7, 1, jsonb_build_array($8::jsonb))
RETURNING id
"""


async def note_test(database: Database, due: Due, state: str, attempt: Mapping[str, Any]) -> int:
    """Write down a test that has ended; the id of its row."""
    kept: int = await database.fetchval(
        _NOTE_TEST, due.endpoint_id, due.event, due.webhook_id, due.url, due.payload, due.created_at, state,
        json.dumps(attempt),
    )  # fmt: skip
    return kept
