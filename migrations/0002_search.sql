-- Finding videos, and telling the story of one.

-- What can be searched of a video: the words of its prompt and of the values of its metadata. A table of its own,
-- because an index over words on `videos` would be written anew at every change of a status; this row is written once,
-- in the statement that enqueues the video or maps the app's own row. `model` does not change after that either.
-- It may outlive its video: who searches joins `videos`.
CREATE TABLE taxiway_search (
    video_id    uuid        PRIMARY KEY,
    created_at  timestamptz NOT NULL,
    model       text,
    words       tsvector    NOT NULL
);

-- The rows that are there. A prompt of any length and any metadata have room in a tsvector (1 MB) this way.
INSERT INTO taxiway_search (video_id, created_at, model, words)
SELECT id, COALESCE(created_at, now()), model,
       to_tsvector('simple', translate(left(COALESCE(input ->> 'promptText', prompt::text, ''), 10000), '</>', '   '))
       || CASE WHEN octet_length(metadata::text) < 100000
               THEN jsonb_to_tsvector('simple', metadata, '["string", "numeric", "boolean"]')
               ELSE '' END
FROM videos;

-- A rare word is found here. New entries wait in a list that is merged when it has 256 kB, not 4 MB: many short
-- merges instead of a few that one enqueue waits for.
CREATE INDEX taxiway_search_words ON taxiway_search USING gin (words) WITH (gin_pending_list_limit = 256);
-- A word that is in every other video is found by walking here, newest first.
CREATE INDEX taxiway_search_newest ON taxiway_search (created_at DESC, video_id DESC);
-- Videos of one model, however rare it is.
CREATE INDEX taxiway_search_model ON taxiway_search (model, created_at DESC, video_id DESC);

-- Lists, newest first, by status: a few failures among a million videos are next to each other. It takes the place of
-- the index over all videos by age; a list of several statuses merges their parts. The model comes last, so that others
-- are passed over in the index alone. What is processing is little, and can be sorted: it is not in here.
DROP INDEX IF EXISTS videos_newest;
CREATE INDEX videos_listed ON videos (status, created_at DESC, id DESC, model)
    WHERE status <> 'processing' OR status IS NULL;
-- Lists by reason. Only what failed, or waits with a reason, is in it: the usual life of a video never writes here.
CREATE INDEX videos_reason ON videos (error_code, status, created_at DESC, id DESC, model)
    WHERE error_code IS NOT NULL;

-- The story of a submission: how often its task was polled, and what was seen at the newest polls, each as
-- [seconds since 1970, status, progress]; when somebody consented to another create.
ALTER TABLE submissions
    ADD COLUMN polls         integer      NOT NULL DEFAULT 0,
    ADD COLUMN recent_polls  jsonb        NOT NULL DEFAULT '[]',
    ADD COLUMN consented_at  timestamptz;

-- The callbacks of one video, by its task or by its own id.
CREATE INDEX inbox_task ON inbox (task_id);
CREATE INDEX inbox_video ON inbox (video_id) WHERE video_id IS NOT NULL;
