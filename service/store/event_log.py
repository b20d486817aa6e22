"""Statements on `events`: who did what.

A change appends its events itself, in its own statement (`INSERT INTO taxiway.events` stands in each of them), so that
none is lost and none is there without its change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from service.events import ACTIONS, words_of
from service.store.database import Database

# What was decided, newest first: of a bulk operation one line. The kinds are those of the index events_actions.
_ACTIONS = f"""
SELECT at, video_id, kind, actor, code, credits, detail FROM taxiway.events
WHERE kind IN ({", ".join(repr(kind.value) for kind in ACTIONS)}) AND code IS DISTINCT FROM 'bulk'
  AND ($1::text IS NULL OR actor = $1) AND ($2::timestamptz IS NULL OR at < $2)
ORDER BY at DESC, kind LIMIT $3
"""


@dataclass(frozen=True)
class Action:
    """Something that was decided, and by whom. `words`: for people."""

    at: datetime
    actor: str
    kind: str
    words: str
    video_id: UUID | None
    code: str | None
    credits: Decimal | None


async def actions(
    database: Database, *, actor: str | None = None, before: datetime | None = None, limit: int = 100
) -> list[Action]:
    """Decisions, newest first; of one actor, and older than a time, if they are given."""
    rows = await database.fetch(_ACTIONS, actor, before, limit)
    return [_action(row, json.loads(row["detail"] or "{}")) for row in rows]


def _action(row: Any, detail: dict[str, Any]) -> Action:
    words = words_of(row["kind"], row["code"], detail, None)
    return Action(row["at"], row["actor"], row["kind"], words, row["video_id"], row["code"], row["credits"])


# Those who decided something lately, by name.
_ACTORS = f"""
SELECT DISTINCT actor FROM taxiway.events
WHERE kind IN ({", ".join(repr(kind.value) for kind in ACTIONS)}) AND at > taxiway.now() - interval '90 days'
ORDER BY 1 LIMIT 200
"""


async def actors(database: Database) -> list[str]:
    """Those who decided something within 90 days, in order."""
    return [row["actor"] for row in await database.fetch(_ACTORS)]
