-- What those who run it look at: the tick that a log line belongs to, statistics of the last week, and what was seen
-- last of things that are too dear to count each time.

-- A tick's short name, made by its process when it begins: each line that it logs bears it.
ALTER TABLE ticks ADD ref text;

-- What ended when, and how long it took. It costs little: only a video that ends gets an entry, and the UPDATE that ends
-- it changes its status, which other indexes name, so that it writes to indexes anyway. With these columns inside, a
-- week of 25,000 videos a day is summed up from the index, without reading the rows themselves.
CREATE INDEX videos_finished ON videos (finished_at) INCLUDE (status, created_at, submitted_at)
    WHERE finished_at IS NOT NULL;

-- What was seen last: 'counts' of videos by status, once there are too many to count for everybody who asks;
-- 'account', credits and limits at Runway, which must not be asked each time. Ticks look again when it is due.
CREATE TABLE taxiway_maintenance (
    name      text        PRIMARY KEY,
    taken_at  timestamptz,                     -- NULL: never
    due_at    timestamptz NOT NULL,            -- not to be taken again before
    facts     jsonb
);
INSERT INTO taxiway_maintenance (name, taken_at, due_at, facts)
SELECT 'counts', now(), now(), COALESCE(jsonb_object_agg(status, n), '{}')
FROM (SELECT COALESCE(status::text, 'none') AS status, count(*) AS n FROM videos GROUP BY 1) AS s;
INSERT INTO taxiway_maintenance (name, due_at) VALUES ('account', now() + interval '5 minutes');

-- How far the walks through great tables have come that look for what is old: through the ledger, whose detail goes, and
-- through what is searched, of which the video may be gone. They go on behind the time `taken_at`, and the key in
-- `facts`, at `due_at`. 'removal' has no place to remember: it is when old videos are looked for again, if ever.
INSERT INTO taxiway_maintenance (name, taken_at, due_at, facts)
SELECT 'ledger_walk', COALESCE(min(opened_at), now()), now() + interval '1 hour', '{"after": 0}' FROM submissions;
INSERT INTO taxiway_maintenance (name, due_at, facts) VALUES
    ('search_walk', now() + interval '1 day', '{"after": "00000000-0000-0000-0000-000000000000"}'),
    ('removal', now() + interval '10 minutes', NULL);

-- When a worker last said that it hears NOTIFY: nobody else is to look at that again.
INSERT INTO taxiway_maintenance (name, due_at) VALUES ('listener', 'infinity');
