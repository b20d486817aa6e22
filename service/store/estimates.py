"""How long a video usually takes, from what the table shows."""

from __future__ import annotations

from dataclasses import dataclass

from service.store.database import Database

RECENT_ROWS = 2_000  # of all models: what bounds the statement
SAMPLE = 100  # of one model


@dataclass(frozen=True)
class Eta:
    """Seconds from being created to being finished: half of the recent videos took less, 95 % took less."""

    p50: float
    p95: float


# Of the newest completed videos, those of one model. A walk of one index, however rare the model is.
_USUAL = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS usual
FROM (
    SELECT extract(epoch FROM r.finished_at - r.created_at)::float8 AS seconds FROM (
        SELECT model, created_at, finished_at FROM taxiway.videos v WHERE v.status = 'completed'
        ORDER BY v.created_at DESC, v.id DESC LIMIT $2
    ) AS r WHERE r.model = $1 AND r.finished_at > r.created_at LIMIT $3
) AS sample
"""


async def eta(database: Database, model: str) -> Eta | None:
    """How long recent videos of this model took; None without any."""
    usual = await database.fetchval(_USUAL, model, RECENT_ROWS, SAMPLE)
    return Eta(round(usual[0], 1), round(usual[1], 1)) if usual else None
