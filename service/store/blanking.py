"""Blanking the inputs of videos that ended long ago (INPUT_RETENTION): in whole, or only the data URIs in them.

A walk by the time of the end, a batch at a time, as in retention.py: what it has passed it does not read again. A video
that another transaction holds at that moment is remembered, and comes with a later batch.
"""

from __future__ import annotations

from service.store.database import Database
from service.store.search import WORDS

DATA_URI_DAYS = 7  # without a setting, data URIs alone go after so many
BATCH_BYTES = 16_000_000  # of inputs, as they are stored, in one batch; and one input, however large
MOST_HELD = 100  # videos that are remembered; with more, the walk waits for them
REST = "1 hour"
# A data URI that is a value on its own, wherever it stands in the input: a prompt has its own name.
_DATA_URI = r'''("(?!promptText")[^"\\]*":|[\[,]) ?"data:[^"]*"'''

# The next videos behind the place where the walk stands, and those that were held before. The walk begins again where
# the setting now asks for more than it did.
_NEXT = f"""
WITH walk AS MATERIALIZED (
    SELECT CASE WHEN is_same THEN COALESCE(taken_at, '-infinity') ELSE '-infinity' END AS at,
           CASE WHEN is_same THEN CAST(facts ->> 'after' AS uuid) END AS after,
           COALESCE(facts -> 'held', '[]') AS held, taxiway.now() - make_interval(secs => $1) AS young
    FROM (SELECT *, NOT $2::boolean OR COALESCE(CAST(facts ->> 'whole' AS boolean), true) AS is_same
          FROM taxiway.maintenance WHERE name = 'input_walk' AND due_at <= taxiway.now() FOR UPDATE SKIP LOCKED) AS w
), ahead AS MATERIALIZED (
    SELECT a.*, row_number() OVER (ORDER BY a.finished_at, a.id) AS n,
           sum(a.size) OVER (ORDER BY a.finished_at, a.id) AS bytes
    FROM walk CROSS JOIN LATERAL (
        SELECT id, finished_at, COALESCE(pg_column_size(input), 0) AS size FROM taxiway.videos
        WHERE finished_at >= walk.at AND finished_at < walk.young
          AND (finished_at > walk.at OR walk.after IS NULL OR id > walk.after)
        ORDER BY finished_at, id
        LIMIT CASE WHEN jsonb_array_length(walk.held) < {MOST_HELD} THEN $3::bigint ELSE 0 END) AS a
), passed AS MATERIALIZED (
    SELECT id, finished_at, n FROM ahead WHERE bytes <= {BATCH_BYTES} OR n = 1
), wanted AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT id FROM passed
                           UNION SELECT CAST(e.value AS uuid) FROM walk, jsonb_array_elements_text(walk.held) AS e))
      AND CASE WHEN $2 THEN num_nonnulls(v.input, v.prompt, v.image_url) > 0
               ELSE v.image_url LIKE 'data:%' OR strpos(v.input::text, '"data:') > 0 AND v.input::text ~ $4 END
), free AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT id FROM wanted)) AND v.status IN ('completed', 'failed', 'cancelled')
      AND v.finished_at < (SELECT young FROM walk)
    ORDER BY v.id FOR UPDATE SKIP LOCKED
), held AS (
    SELECT v.id FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT id FROM wanted EXCEPT SELECT id FROM free))
      AND v.status IN ('completed', 'failed', 'cancelled') AND v.finished_at < (SELECT young FROM walk)
), moved AS (
    UPDATE taxiway.maintenance w SET taken_at = COALESCE(last.finished_at, NULLIF(walk.at, '-infinity')),
        facts = jsonb_build_object('after', COALESCE(last.id, walk.after), 'whole', $2,
                                   'held', COALESCE((SELECT jsonb_agg(id) FROM held), '[]')),
        due_at = taxiway.now() + CASE WHEN reached.ahead = $3 OR reached.ahead > reached.passed THEN interval '0'
                              ELSE interval '{REST}' END
    FROM walk
    CROSS JOIN (SELECT (SELECT count(*) FROM ahead) AS ahead, (SELECT count(*) FROM passed) AS passed) AS reached
    LEFT JOIN (SELECT id, finished_at FROM passed ORDER BY n DESC LIMIT 1) AS last ON true
    WHERE w.name = 'input_walk'
)"""
# What is found by the words of a prompt is no longer found; what is found by metadata is.
_BLANK = f"""{_NEXT}, found AS (
    UPDATE taxiway.search s SET words = COALESCE({WORDS.format(prompt="NULL::text")}, '')
    FROM taxiway.videos v WHERE $2 AND s.video_id = v.id AND v.id = ANY(ARRAY(SELECT id FROM free))
), v AS (
    UPDATE taxiway.videos v SET input_blanked_at = taxiway.now(),
        input = CASE WHEN $2 THEN NULL ELSE regexp_replace(v.input::text, $4, '\\1 null', 'g')::jsonb END,
        prompt = CASE WHEN $2 THEN NULL ELSE v.prompt END,
        image_url = CASE WHEN $2 OR v.image_url LIKE 'data:%' THEN NULL ELSE v.image_url END
    WHERE v.id = ANY(ARRAY(SELECT id FROM free))
    RETURNING v.id
)
INSERT INTO taxiway.events (video_id, kind, actor, code)
SELECT v.id, 'inputs_blanked', 'prune', CASE WHEN $2 THEN 'input' ELSE 'data_uri' END FROM v
"""


async def blank(database: Database, after_seconds: float | None, limit: int) -> int:
    """Blank the inputs of videos that ended longer ago than that, of at most `limit`; how many were.

    None: of those that ended DATA_URI_DAYS ago, the data URIs alone.
    """
    is_whole = after_seconds is not None
    seconds = DATA_URI_DAYS * 86_400.0 if after_seconds is None else after_seconds
    return await database.execute(_BLANK, seconds, is_whole, limit, _DATA_URI)
