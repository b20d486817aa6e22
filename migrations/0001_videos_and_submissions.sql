-- Taxiway's schema.
--
-- `videos` may already exist: it is then the app's own table, and all that happens to it is that columns,
-- constraints and indexes are added. What the app reads and writes keeps its name and its meaning.
-- Everything else here belongs to Taxiway alone.
--
-- The runner (service/installer/migrate.py) looks for obstacles first, and runs this file in one transaction.

-- A video: what the app asked for. Its own table may stand in another schema of the search path than the one where new
-- tables go: IF NOT EXISTS would make a second one there. A table that is made here says so in its comment: only such a
-- table is given a storage of its own, and only from such a table are old rows ever removed.
--
-- A video changes four times in its life. More than half of each page is left free, so that a new version of a row
-- finds room beside the old one, and all that changes stands together behind all that does not: PostgreSQL then logs
-- the difference only, which is less than half of what it would write otherwise.
DO $$ BEGIN IF to_regclass('videos') IS NULL THEN
CREATE TABLE videos (
    id          uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id     text,
    prompt      text,
    image_url   text,
    created_at  timestamptz  NOT NULL DEFAULT now()
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON TABLE videos IS 'made by Taxiway';
END IF; END $$;

-- A submission: one permitted POST. Its commit is the permission; until it has an outcome it is the video's
-- open submission (the lease and the fence); afterwards it is an entry in the ledger. It outlives the video's row.
-- What has a fixed width stands first, so that next to nothing is lost between two columns: each is written twice.
CREATE TABLE submissions (
    video_id           uuid        NOT NULL,
    id                 bigint      GENERATED ALWAYS AS IDENTITY,  -- grows, never reused: the fence
    claim_id           bigint,                 -- the claim that permitted it, so that one without an answer is found
    opened_at          timestamptz NOT NULL DEFAULT now(),
    call_deadline      timestamptz NOT NULL,   -- the POST has ended by then, whatever happens to it
    deadline           timestamptz NOT NULL,   -- without an outcome by then, the outcome is unknown
    model              text        NOT NULL,
    quoted_credits     numeric,                -- our own price, before the call: the bound of what it may cost
    closed_at          timestamptz,
    http_status        integer,
    outcome            text,
    request_id         text,                   -- Runway's apigw-requestid, for its support
    error              text,                   -- Runway's words, or the transport's
    task_id            text,
    estimated_credits  numeric,                -- Runway's bound, from the answer
    task_status        text,                   -- the last that Runway said of the task
    cost_credits       numeric,                -- what the task did cost, from the finished task
    settled_at         timestamptz,            -- nothing more can come of it: no task, or the task has ended
    consent            text,                   -- who allowed another create although this one may have cost
    unsaved            jsonb,                  -- the answer, while the video's row was held by somebody else
    cancel_due         timestamptz,            -- the task must be deleted at Runway, at this time
    cancel_reason      text,
    -- The book of one video. Any entry in it that is not settled forbids another create, unless somebody consented.
    PRIMARY KEY (video_id, id),
    CONSTRAINT submissions_outcome_known
        CHECK (outcome IN ('accepted', 'not_sent', 'rejected', 'unknown')),
    CONSTRAINT submissions_closed_with_outcome
        CHECK ((outcome IS NULL) = (closed_at IS NULL)),
    CONSTRAINT submissions_accepted_has_task
        CHECK ((outcome IS NOT DISTINCT FROM 'accepted') = (task_id IS NOT NULL)),
    CONSTRAINT submissions_consent_known
        CHECK (consent IN ('policy', 'operator')),
    -- The lease outlasts the call, so nobody else decides about a video while its POST may still be sent.
    CONSTRAINT submissions_lease_outlasts_call
        CHECK (deadline >= call_deadline + interval '5 seconds' AND call_deadline > opened_at)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- At most one open submission for a video: two at once cannot be stored.
CREATE UNIQUE INDEX submissions_one_open ON submissions (video_id) WHERE outcome IS NULL;
-- One task, one submission.
CREATE UNIQUE INDEX submissions_task ON submissions (task_id) WHERE task_id IS NOT NULL;
-- What has cost, or may have, and is not booked to its end.
CREATE INDEX submissions_unsettled ON submissions (video_id) WHERE settled_at IS NULL AND outcome IS NOT NULL;
CREATE INDEX submissions_unsaved ON submissions (id) WHERE unsaved IS NOT NULL;
-- The day's credits are summed by time; a BRIN index costs next to nothing to keep.
CREATE INDEX submissions_opened ON submissions USING brin (opened_at);
CREATE INDEX submissions_cancel ON submissions (cancel_due) WHERE cancel_due IS NOT NULL;

-- One model's state, or 'all' for all of them. Paused until when, and why.
CREATE TABLE models (
    model         text        PRIMARY KEY,
    paused_until  timestamptz,
    reason        text,                        -- a word: daily_limit, no_credits, key_refused, ...
    detail        text,                        -- Runway's words
    paused_at     timestamptz,
    CONSTRAINT models_pause_has_reason CHECK ((paused_until IS NULL) = (reason IS NULL))
);

-- The inbox: every callback that was verified, once.
CREATE TABLE inbox (
    id           text        PRIMARY KEY,      -- the sender's webhook-id
    received_at  timestamptz NOT NULL DEFAULT now(),
    body_hash    bytea       NOT NULL,
    task_id      text        NOT NULL,
    video_id     uuid,
    handled_at   timestamptz,
    result       text
);
CREATE INDEX inbox_waiting ON inbox (task_id) WHERE handled_at IS NULL;
CREATE INDEX inbox_received ON inbox (received_at);

-- A tick: one bounded round of work.
CREATE TABLE ticks (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    counts       jsonb,
    error        text
);
CREATE INDEX ticks_started ON ticks (started_at);

-- What Taxiway adds to a video: first what was asked for, which stays as it is ...
ALTER TABLE videos
    ADD COLUMN IF NOT EXISTS user_id     text,
    ADD COLUMN IF NOT EXISTS prompt      text,
    ADD COLUMN IF NOT EXISTS image_url   text,
    ADD COLUMN IF NOT EXISTS created_at  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS model       text,  -- an app that has this column chooses its model with it
    ADD COLUMN IF NOT EXISTS metadata    jsonb, -- the app's own, returned as it came
    ADD COLUMN origin                text,      -- who wrote the request: 'api', or 'table' (the app's own INSERT)
    ADD COLUMN operation             text,
    ADD COLUMN idempotency_key       text,
    ADD COLUMN request_hash          text,
    ADD COLUMN quoted_credits        numeric,
    ADD COLUMN priority              smallint    NOT NULL DEFAULT 0,
    ADD COLUMN expires_at            timestamptz,  -- still queued by then: EXPIRED
    ADD COLUMN input                 jsonb,     -- the body of the POST, as Runway takes it
-- ... then how far it has come ...
    ADD COLUMN run_after             timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS status  text,      -- no default: old rows are not to be made, and paid for, now
    ADD COLUMN submitted_at          timestamptz,  -- when its create was permitted
    ADD COLUMN poll_after            timestamptz,
    ADD COLUMN retries              smallint    NOT NULL DEFAULT 0,  -- answers in a row that sent it back to wait
    ADD COLUMN task_retries          smallint    NOT NULL DEFAULT 0,  -- tasks that failed and were asked for anew
    ADD COLUMN resubmissions         smallint    NOT NULL DEFAULT 0,  -- creates sent on the policy's consent
    ADD COLUMN open_submission_id             bigint,    -- its open submission
    ADD COLUMN IF NOT EXISTS runway_video_id  text,
    ADD COLUMN task_status           text,
    ADD COLUMN IF NOT EXISTS progress  real,
    ADD COLUMN polled_at             timestamptz,
-- ... and how it ended.
    ADD COLUMN error_code            text,
    ADD COLUMN IF NOT EXISTS error_message  text,
    ADD COLUMN output                jsonb,
    ADD COLUMN IF NOT EXISTS video_url  text,
    ADD COLUMN video_url_expires_at  timestamptz,
    ADD COLUMN cost_credits          numeric,
    ADD COLUMN finished_at           timestamptz,
    ADD COLUMN IF NOT EXISTS updated_at  timestamptz NOT NULL DEFAULT now();

-- In a table that was made here, every row has a status, and it is one of five.
DO $$ BEGIN IF obj_description(to_regclass('videos')) = 'made by Taxiway' THEN
ALTER TABLE videos ALTER COLUMN status SET DEFAULT 'queued', ALTER COLUMN status SET NOT NULL,
    ADD CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled'));
END IF; END $$;

-- Rows that the app left stuck (here: `processing` without an id) are mended by the runner at this point.
-- taxiway: fix stuck rows

-- An open submission belongs to this very video.
ALTER TABLE videos ADD CONSTRAINT videos_open_submission_is_its_own
    FOREIGN KEY (id, open_submission_id) REFERENCES submissions (video_id, id);
-- Never stuck, as a constraint: `processing` has an open submission or a task, and never both; nothing else has an open submission.
ALTER TABLE videos ADD CONSTRAINT videos_never_stuck
    CHECK (CASE WHEN status = 'processing' THEN num_nonnulls(open_submission_id, runway_video_id) = 1
                ELSE open_submission_id IS NULL END);

-- Ready rows only, in the order in which they are claimed.
CREATE INDEX videos_ready ON videos (model, priority DESC, run_after, id)
    WHERE status = 'queued' AND input IS NOT NULL AND finished_at IS NULL;
-- Rows that the app wrote itself and that have no request yet, or that it put back in the queue manually.
CREATE INDEX videos_intake ON videos (run_after)
    WHERE status = 'queued' AND (input IS NULL OR finished_at IS NOT NULL);
CREATE INDEX videos_expiry ON videos (expires_at) WHERE status = 'queued';
-- All that is at Runway or on its way there, by when to poll of its task; a row without a time (written by the app) is
-- due at once. The claim sets the time of the first poll: an answer that comes before it changes no column that an
-- index names, so that the id is saved without writing to any of them.
CREATE INDEX videos_poll ON videos (COALESCE(poll_after, '-infinity')) WHERE status = 'processing';
CREATE INDEX videos_newest ON videos (created_at DESC, id DESC);
-- Tasks are found in the ledger. Only an adopted table has some that are in no ledger.
DO $$ BEGIN IF obj_description(to_regclass('videos')) IS DISTINCT FROM 'made by Taxiway' THEN
CREATE INDEX videos_task ON videos (runway_video_id) WHERE runway_video_id IS NOT NULL;
END IF; END $$;
CREATE UNIQUE INDEX videos_idempotency ON videos (idempotency_key) WHERE idempotency_key IS NOT NULL;
