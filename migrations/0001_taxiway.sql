-- The schema of Taxiway.
--
-- Everything that Taxiway keeps is in the schema `taxiway`, and each statement names it in full: no search_path, no
-- pooler and no role setting leads elsewhere. Nothing is ever added to a table of the app, and nothing here refers to
-- one, so the app may rename, retype and migrate its tables as it likes.
--
--   videos         what the app asked for, and how far it has come
--   submissions    one permitted create each: while it is open the lease and the fence, afterwards the ledger entry
--   models         what each of Runway's models is allowed at the moment
--   inbox          every callback that was verified, once
--   events         the history: what was done to which video, by whom, appended and never rewritten
--   ticks          what each bounded round of work did
--   maintenance    when something was last counted, asked or pruned
--   search         the words by which a video is found
--   calls          which calls of Runway's SDKs made a video, so that a retry of one finds it
--   links          tables of the app whose rows are videos
--   rows           which row of a linked table is which video, and what is known of that row
--   mirror_queue   videos whose row in a linked table is behind
--   endpoints      addresses to which every event of some kind is sent
--   deliveries     what is to be sent to which address, and what came of it
--   alerts         what is wrong, and was reported to ALERT_URL
--
-- The runner (service/installer/migrate.py) runs this file in one transaction, keeps its SHA-256, and closes the schema to
-- everybody else: once applied, a file is never edited. `works with` names the oldest version that can work with the
-- schema as this file leaves it, by the number of the last file that this version has.
-- works with: 0001

-- Only if it is not there: then it needs no right on the database.
DO $$ BEGIN
    IF to_regnamespace('taxiway') IS NULL THEN CREATE SCHEMA taxiway; END IF;
END $$;
COMMENT ON SCHEMA taxiway IS 'Taxiway: the durable queue in front of Runway. Managed by `taxiway migrate` alone.';

-- The time. Every statement and every default reads it here, so that a test lets a week pass by replacing one function
-- in its database. Its body is exactly this: then PostgreSQL puts `now()` in its place wherever it is called.
CREATE FUNCTION taxiway.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT pg_catalog.now()';

-- Every script that was applied. `sha256`: of its text, with LF at the end of each line. `works_with`: the number of the
-- last script that a version must have to work with the schema as it was then.
CREATE TABLE taxiway.migrations (
    name        text        PRIMARY KEY,
    sha256      text        NOT NULL,
    works_with  text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT taxiway.now()
);

-- A table of the app whose rows are videos. No foreign key and no other object refers to that table: it is found by its
-- name, and if it is renamed, by its oid.
CREATE TABLE taxiway.links (
    id           integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schema_name  text        NOT NULL,
    table_name   text        NOT NULL,
    table_oid    oid         NOT NULL,
    mapping      jsonb       NOT NULL,            -- the link as the operator decided it (service/link_mapping.py)
    columns      jsonb       NOT NULL,            -- of the mapped columns, by key: {name, attnum, type}
    made         jsonb       NOT NULL DEFAULT '[]',  -- what was added to the table with consent: columns, an index
    state        text        NOT NULL DEFAULT 'open',
    reason       text,                            -- why it is paused, with the command that fixes it
    linked_at    timestamptz NOT NULL DEFAULT taxiway.now(),
    -- Intake: the newest row that was seen, when all rows are read again, and how long that took.
    seen_until   text,
    sweep_due    timestamptz NOT NULL DEFAULT taxiway.now(),
    sweep_seconds  double precision NOT NULL DEFAULT 0,
    look_due     timestamptz NOT NULL DEFAULT taxiway.now(),
    CONSTRAINT links_table UNIQUE (schema_name, table_name),
    -- open: works; paused: does not fit its table, or asks; closing: unlinked, shows what has ended; closed: kept for
    -- `rows`, so that a table which is linked again pays for no row twice.
    CONSTRAINT links_state_known CHECK (state IN ('open', 'paused', 'closing', 'closed')),
    CONSTRAINT links_paused_has_reason CHECK (state <> 'paused' OR reason IS NOT NULL)
);

-- PostgreSQL reads the text of every constraint and condition of a trigger again in each statement that writes to the
-- table: a quarter of a claim went there. So what takes many words is a function, which is read once in a session.
--
-- Never stuck, as a constraint: `processing` has an open submission or a task, and never both; nothing else has an open
-- submission. 'erased': all that a user wrote is gone; what is left says that there was a video, and what it cost.
CREATE FUNCTION taxiway.is_never_stuck(status text, open_submission_id bigint, runway_video_id text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN status = 'processing' THEN num_nonnulls(open_submission_id, runway_video_id) = 1
                WHEN status IN ('queued', 'completed', 'failed', 'cancelled', 'erased') THEN open_submission_id IS NULL
                ELSE false END;
END $$;

-- How a submission ended: it has an outcome once it is closed, and not before; a task if it was accepted. 'unknown' with a
-- task: it vanished, and may have been charged.
CREATE FUNCTION taxiway.is_outcome(outcome text, closed_at timestamptz, task_id text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (outcome IS NULL) = (closed_at IS NULL) AND CASE
        WHEN outcome = 'accepted' THEN task_id IS NOT NULL
        WHEN outcome = 'unknown' THEN true
        WHEN outcome IS NULL OR outcome IN ('not_sent', 'rejected') THEN task_id IS NULL
        ELSE false END;
END $$;

-- A video. First what was asked for, which stays as it is; then how far it has come; then how it ended.
--
-- A video changes four times in its life. More than half of each page is left free, so that a new version of a row
-- finds room beside the old one, and all that changes stands together behind all that does not: PostgreSQL then logs
-- the difference only, which is less than half of what it would write otherwise.
CREATE TABLE taxiway.videos (
    id                    uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id               text,
    prompt                text,                   -- of a row that was inserted with SQL; the API has it in `input`
    image_url             text,
    created_at            timestamptz  NOT NULL DEFAULT taxiway.now(),
    model                 text,
    metadata              jsonb,                  -- the app's own, returned as it came
    warnings              jsonb,                  -- what was asked for and not sent, [{type, feature, message}]
    origin                text,                   -- 'api', 'table' (inserted with SQL), or 'link' (a linked table's row)
    link_id               integer      REFERENCES taxiway.links (id),
    created_by            text,                   -- the name of the key, token or user that made it
    operation             text,
    idempotency_key       text,                   -- a hash of it: a repeat is known also once the video is erased
    request_hash          text,
    quoted_credits        numeric,
    priority              smallint     NOT NULL DEFAULT 0,
    expires_at            timestamptz,            -- still queued by then: EXPIRED
    -- From then it ages: a retry sets it, a backoff does not. Later than now where its user has others before it.
    queued_at             timestamptz  NOT NULL DEFAULT taxiway.now(),
    claim_order           timestamp    NOT NULL,  -- its place in the queue, worked out by a trigger from the three above
    input                 jsonb,                  -- the body of the POST, as Runway takes it
    group_id              uuid,                   -- of the videos that one request asked for; NULL: it was one alone
    group_size            smallint,
    webhook_url           text,                   -- where its end is reported, beside the endpoints

    run_after             timestamptz  NOT NULL DEFAULT taxiway.now(),
    status                text         NOT NULL DEFAULT 'queued',
    submitted_at          timestamptz,            -- when the create was permitted that Runway took, or may have
    poll_after            timestamptz,
    retries               smallint     NOT NULL DEFAULT 0,  -- answers in a row that sent it back to wait
    task_retries          smallint     NOT NULL DEFAULT 0,  -- tasks that failed and were requested again
    resubmissions         smallint     NOT NULL DEFAULT 0,  -- creates sent on the policy's consent
    refusals              smallint     NOT NULL DEFAULT 0,  -- by a gateway, while it let others pass
    refused_at            timestamptz,            -- the last time that a gateway refused it
    round                 integer      NOT NULL DEFAULT 1,  -- grows when it is queued again after an end
    version               integer      NOT NULL DEFAULT 0,  -- of what a linked table shows; grows with each change of it
    open_submission_id    bigint,
    runway_video_id       text,
    task_status           text,
    progress              real,
    polled_at             timestamptz,
    poll_tries            smallint     NOT NULL DEFAULT 0,  -- polls in a row without an answer

    error_code            text,
    error_message         text,
    output                jsonb,
    video_url             text,
    video_url_expires_at  timestamptz,
    cost_credits          numeric,
    finished_at           timestamptz,
    updated_at            timestamptz  NOT NULL DEFAULT taxiway.now(),

    input_blanked_at      timestamptz,            -- its input is not whole any more, so it cannot be sent again
    erase_requested_at    timestamptz,            -- it is to be erased, and waits for Runway or for its row

    CONSTRAINT videos_never_stuck CHECK (taxiway.is_never_stuck(status, open_submission_id, runway_video_id))
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02);

-- Erased is erased: no statement that comes late can write any of it again (service/store/erasure.py).
CREATE FUNCTION taxiway.is_empty(v taxiway.videos) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN num_nonnulls(v.user_id, v.prompt, v.image_url, v.metadata, v.warnings, v.input, v.error_code,
                        v.error_message, v.output, v.video_url, v.webhook_url, v.erase_requested_at) = 0;
END $$;
ALTER TABLE taxiway.videos
    ADD CONSTRAINT videos_erased_is_empty CHECK (status <> 'erased' OR taxiway.is_empty(videos));

-- A submission: one permitted POST. Its commit is the permission; until it has an outcome it is the video's lease and
-- fence; afterwards it is an entry in the ledger. It outlives the video's row.
-- What has a fixed width stands first, so that next to nothing is lost between two columns: each is written twice.
CREATE TABLE taxiway.submissions (
    video_id           uuid        NOT NULL,
    id                 bigint      GENERATED ALWAYS AS IDENTITY,  -- grows, never reused: the fence
    claim_id           bigint,                 -- the claim that permitted it, so that one without an answer is found
    opened_at          timestamptz NOT NULL DEFAULT taxiway.now(),
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
    cost_credits       numeric,                -- what the task cost, from the finished task
    settled_at         timestamptz,            -- nothing more can come of it: no task, or the task has ended
    consent            text,                   -- who allowed another create although this one may have cost
    unsaved            jsonb,                  -- the answer, while another transaction held the video's row
    cancel_due         timestamptz,            -- the task must be deleted at Runway, at this time
    cancel_reason      text,
    polls              integer,                -- how often its task was polled; NULL: never
    recent_polls       jsonb,                  -- the newest of them, each [seconds since 1970, status, progress]
    missing            integer     NOT NULL DEFAULT 0,  -- how often in a row Runway did not know its task
    missing_since      timestamptz,            -- when it said so first
    look_due           timestamptz,            -- the task vanished: when to ask for it once more; NULL after a day
    consented_at       timestamptz,
    consented_by       text,                   -- the name of the key, token or user that gave it
    user_id            text,                   -- of the video when the create was permitted, until it is erased
    -- The ledger of one video. Any entry in it that is not settled forbids another create, unless there is consent.
    PRIMARY KEY (video_id, id),
    CONSTRAINT submissions_outcome CHECK (taxiway.is_outcome(outcome, closed_at, task_id)),
    CONSTRAINT submissions_consent_known
        CHECK (consent IN ('policy', 'operator', 'app')),  -- app: it queued a linked row again
    -- The lease outlasts the call, so no other process decides about a video while its POST may still be sent.
    CONSTRAINT submissions_lease_outlasts_call
        CHECK (deadline >= call_deadline + interval '5 seconds' AND call_deadline > opened_at)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- The open submission of a video is a submission of this very video.
ALTER TABLE taxiway.videos ADD CONSTRAINT videos_open_submission
    FOREIGN KEY (id, open_submission_id) REFERENCES taxiway.submissions (video_id, id);

-- At most one open submission for a video: two permissions at once cannot be stored.
CREATE UNIQUE INDEX submissions_one_open ON taxiway.submissions (video_id) WHERE outcome IS NULL;
-- One task, one submission.
CREATE UNIQUE INDEX submissions_task ON taxiway.submissions (task_id) WHERE task_id IS NOT NULL;
-- Tasks under way: almost all that is not settled. Each video writes here once, when its id is saved, and at the end of
-- the index, because ids grow; by video, an entry is found by the primary key.
CREATE INDEX submissions_under_way ON taxiway.submissions (id) WHERE settled_at IS NULL AND outcome = 'accepted';
-- Unknown outcomes, until they are resolved: there may be more of them from month to month, and /health counts them, so
-- everything that is asked of all of them stands in the index.
CREATE INDEX submissions_unknown
    ON taxiway.submissions (video_id) INCLUDE (consent, cancel_due, estimated_credits, quoted_credits)
    WHERE settled_at IS NULL AND outcome = 'unknown';
CREATE INDEX submissions_unsaved ON taxiway.submissions (id) WHERE unsaved IS NOT NULL;
-- The day's credits are summed by time; a BRIN index costs next to nothing to keep.
CREATE INDEX submissions_opened ON taxiway.submissions USING brin (opened_at);
CREATE INDEX submissions_look ON taxiway.submissions (look_due) WHERE look_due IS NOT NULL;
CREATE INDEX submissions_cancel ON taxiway.submissions (cancel_due) WHERE cancel_due IS NOT NULL;

-- Ready videos only, in the order in which they are claimed. What waits until later is passed over in the index alone,
-- and so are thousands of a user who may have no more in flight.
CREATE INDEX videos_ready ON taxiway.videos (model, claim_order, run_after, id) INCLUDE (user_id)
    WHERE status = 'queued' AND input IS NOT NULL AND finished_at IS NULL;
-- The ready videos of one user, by their place: where the next one of his belongs. Videos without a user are not in it.
CREATE INDEX videos_of_user ON taxiway.videos (user_id, model, priority, queued_at, run_after)
    WHERE status = 'queued' AND input IS NOT NULL AND finished_at IS NULL AND user_id IS NOT NULL;
-- Videos that were inserted with SQL and have no request yet, or that were put back in the queue with SQL.
CREATE INDEX videos_intake ON taxiway.videos (run_after)
    WHERE status = 'queued' AND (input IS NULL OR finished_at IS NOT NULL);
-- What is queued again, and was sent before: what waits for a retry, and what was put back with SQL although its outcome
-- is unknown. The usual life of a video never writes here.
CREATE INDEX videos_sent_before ON taxiway.videos (id) WHERE status = 'queued' AND submitted_at IS NOT NULL;
-- What is to be erased, until it is: next to nothing.
CREATE INDEX videos_erasing ON taxiway.videos (erase_requested_at) WHERE erase_requested_at IS NOT NULL;
-- Of no use to a claim, which asks for videos without an end as well: on a small queue its plan would go this way, and
-- PostgreSQL would keep it on a large one.
CREATE INDEX videos_expiry ON taxiway.videos (expires_at) WHERE status = 'queued' AND expires_at IS NOT NULL;
-- All that is at Runway or on its way there, by when to poll its task; a video without a time is due at once. The claim
-- sets the time of the first poll: an answer that comes before it changes no column that an index names, so that the id
-- is saved without writing to any of them.
CREATE INDEX videos_poll ON taxiway.videos (COALESCE(poll_after, '-infinity')) WHERE status = 'processing';
CREATE UNIQUE INDEX videos_idempotency ON taxiway.videos (idempotency_key) WHERE idempotency_key IS NOT NULL;
-- Lists, newest first, by status: a few failures among a million videos are next to each other. A list of several
-- statuses merges their parts. The model comes last, so that others are passed over in the index alone. What is
-- processing is little, and can be sorted: it is not in here.
CREATE INDEX videos_listed ON taxiway.videos (status, created_at DESC, id DESC, model) WHERE status <> 'processing';
-- Lists by reason. Only what failed, or waits with a reason, is in it: the usual life of a video never writes here.
CREATE INDEX videos_reason ON taxiway.videos (error_code, status, created_at DESC, id DESC, model)
    WHERE error_code IS NOT NULL;
-- The videos of one group: for a video without one, nothing is written here.
CREATE INDEX videos_group ON taxiway.videos (group_id) WHERE group_id IS NOT NULL;
-- What ended when, and how long it took. It costs little: only a video that ends gets an entry, and the UPDATE that ends
-- it changes its status, which other indexes name, so that it writes to indexes anyway. With these columns inside, a
-- week of 25,000 videos a day is summed up from the index, without reading the rows themselves.
CREATE INDEX videos_finished ON taxiway.videos (finished_at) INCLUDE (status, created_at, submitted_at)
    WHERE finished_at IS NOT NULL;

-- Fairness between users. A video that becomes ready takes its place behind the last of its user, with one slot's share
-- between the two, however many come at once; with none before it, it takes its place now. So 10,000 of one user stand a
-- minute apart, and the single video of another stands before all of them whose time has not come. A share is as long
-- as one slot may be busy with one create: more would only order what waits, less would let a crowd stand at one place.
-- Each model and each priority has its own row of places: what is urgent is not behind what is not. A place is moved by
-- half of the time until the video expires at most, so that it comes to its turn. What is scheduled for later is passed.
-- A trigger, so that no way into the queue can forget it; only a statement that sets `queued_at` pays for it.
CREATE FUNCTION taxiway.take_place() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    slot_share  CONSTANT interval := '1 minute';
    due         CONSTANT timestamptz := GREATEST(NEW.queued_at, NEW.run_after);
    latest      CONSTANT timestamptz := NEW.queued_at
        + GREATEST(LEAST(NEW.expires_at - NEW.queued_at, '7 days'), '0') / 2;
    last        timestamptz;
BEGIN
    SELECT v.queued_at INTO last FROM taxiway.videos v
    WHERE v.user_id = NEW.user_id AND v.model = NEW.model AND v.priority = NEW.priority
      AND v.status = 'queued' AND v.input IS NOT NULL AND v.finished_at IS NULL AND v.run_after <= due
    ORDER BY v.queued_at DESC LIMIT 1;
    IF FOUND THEN
        NEW.queued_at := GREATEST(NEW.queued_at, LEAST(last + slot_share, latest));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER take_place BEFORE INSERT OR UPDATE OF queued_at ON taxiway.videos FOR EACH ROW
    WHEN (NEW.user_id IS NOT NULL AND NEW.status = 'queued' AND NEW.input IS NOT NULL AND NEW.finished_at IS NULL)
    EXECUTE FUNCTION taxiway.take_place();

-- A video's place in the queue: 200 steps of priority, -100 to 100, are worth half of the time until it expires, or 3.5
-- days. So a higher priority goes first among videos of about the same age, and none waits forever behind others.
-- A generated column would be worked out again in every UPDATE of the row, since the table has triggers that may change
-- it. By its name this trigger fires behind those which change what it reads.
CREATE FUNCTION taxiway.work_out_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since   CONSTANT timestamp := NEW.queued_at AT TIME ZONE 'UTC';
    until   CONSTANT timestamp := LEAST(NEW.expires_at AT TIME ZONE 'UTC', since + interval '7 days');
BEGIN
    NEW.claim_order := since - GREATEST(-100, LEAST(100, NEW.priority)) / 400.0::float8 * (GREATEST(until, since) - since);
    RETURN NEW;
END $$;
CREATE TRIGGER work_out_order BEFORE INSERT OR UPDATE OF queued_at, priority, expires_at ON taxiway.videos FOR EACH ROW
    EXECUTE FUNCTION taxiway.work_out_order();

-- A model's state, or that of 'all' of them: paused until when, and why; and how many creates may be in flight at once,
-- over all processes, which is learned (service/store/circuit_state.py).
-- 'restored' on 'all' means that this database is a copy, or went back in time: it lasts until `taxiway resume all`.
CREATE TABLE taxiway.models (
    model           text        PRIMARY KEY,
    paused_until    timestamptz,
    reason          text,                      -- a word: no_credits, key_refused, not_runway, circuit, restored, ...
    detail          text,                      -- Runway's words, or the sentence for the operator
    paused_at       timestamptz,
    last_video      uuid,                      -- whose create was the last to pause it: a probe takes another
    max_in_flight   integer     NOT NULL DEFAULT 2,
    held            integer     NOT NULL DEFAULT 2,     -- the last size that held: up to it, it grows with each create
    grown           integer     NOT NULL DEFAULT 0,     -- accepted creates towards the next growth by one
    used_at         timestamptz NOT NULL DEFAULT taxiway.now(), -- it halves with each hour that passes since
    unknown_videos  uuid[]      NOT NULL DEFAULT '{}',  -- whose outcomes were unknown, in a row
    pauses          smallint    NOT NULL DEFAULT 0,     -- by the circuit, in a row
    CONSTRAINT models_pause_has_reason CHECK ((paused_until IS NULL) = (reason IS NULL)),
    CONSTRAINT models_window_is_one_or_more CHECK (max_in_flight >= 1 AND held >= 1)
);

-- How many creates of a model may be in flight now: what it has learned, halved with each hour in which it was not used.
CREATE FUNCTION taxiway.allowed(m taxiway.models) RETURNS integer LANGUAGE sql STABLE
RETURN GREATEST(LEAST(m.max_in_flight, 2),
                m.max_in_flight >> LEAST(30, GREATEST(0, floor(
                    extract(epoch FROM taxiway.now() - m.used_at) / 3600)::integer)));

-- How many more creates of an open model may be permitted now. It locks the model's row until the caller's transaction
-- ends and counts only then, so that two claims at once never see the same room: a function, because each of its
-- statements sees what was committed by then. Another claim is waited for as long as claims take, and may have found out
-- meanwhile that nothing is to be sent; a row that is held for longer has no room.
CREATE FUNCTION taxiway.room(of_model text) RETURNS integer LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    allowed integer;
BEGIN
    SELECT taxiway.allowed(m) INTO allowed FROM taxiway.models m
    WHERE m.model = of_model AND m.reason IS NULL FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        BEGIN
            PERFORM set_config('lock_timeout', '100', true);
            SELECT taxiway.allowed(m) INTO allowed FROM taxiway.models m
            WHERE m.model = of_model AND m.reason IS NULL FOR NO KEY UPDATE;
        EXCEPTION WHEN lock_not_available THEN
            RETURN 0;
        END;
        IF allowed IS NULL OR EXISTS (SELECT FROM taxiway.models a WHERE a.model = 'all' AND a.reason IS NOT NULL) THEN
            RETURN 0;
        END IF;
    END IF;
    RETURN GREATEST(0, allowed - (SELECT count(*) FROM taxiway.submissions s
                                  WHERE s.outcome IS NULL AND s.model = of_model));
END $$;

-- The inbox: every callback that was verified, once.
CREATE TABLE taxiway.inbox (
    id           text        PRIMARY KEY,      -- the sender's webhook-id
    received_at  timestamptz NOT NULL DEFAULT taxiway.now(),
    body_hash    bytea       NOT NULL,
    task_id      text        NOT NULL,
    video_id     uuid,
    handled_at   timestamptz,
    result       text
);
CREATE INDEX inbox_waiting ON taxiway.inbox (task_id) WHERE handled_at IS NULL;
CREATE INDEX inbox_received ON taxiway.inbox (received_at);
-- The callbacks of one video, by its task or by its own id.
CREATE INDEX inbox_task ON taxiway.inbox (task_id);
CREATE INDEX inbox_video ON taxiway.inbox (video_id) WHERE video_id IS NOT NULL;

-- The history: a line for each change, appended by the statement that makes the change, and never rewritten. It holds
-- ids, codes and credits, never a user's text, so nothing has to rewrite it. What the ledger says already (a claim, that
-- Runway took it, a poll) has no line here. `actor`: the name of a key or token, a step, a linked table, a user of the
-- command line. A video has two lines in its usual life, so they are narrow: eight columns (with a ninth, each row would
-- have eight bytes more), no key of their own, and a BRIN index over time. Lines of one time stand in the order of their
-- kinds.
CREATE TABLE taxiway.events (
    at             timestamptz NOT NULL DEFAULT taxiway.now(),
    submission_id  bigint,
    video_id       uuid,                       -- NULL: of a model, of a bulk operation, of the database
    kind           text        NOT NULL,       -- service/events.py
    actor          text        NOT NULL,
    code           text,                       -- of an error, or the reason
    credits        numeric,                    -- where they change: quoted, estimated or paid
    detail         jsonb                       -- ids and numbers
);
CREATE INDEX events_video ON taxiway.events (video_id) WHERE video_id IS NOT NULL;
CREATE INDEX events_at ON taxiway.events USING brin (at) WITH (pages_per_range = 16);
-- What people decided, and what PostgreSQL or an app's table refused: few lines, asked for by time. The usual life of a
-- video never writes to either.
CREATE INDEX events_actions ON taxiway.events (at)
    WHERE kind IN ('cancelled', 'erase_requested', 'retried', 'consented', 'made_again', 'attached', 'paused', 'resumed',
                   'bulk_retried', 'bulk_cancelled');
CREATE INDEX events_refused ON taxiway.events (at) WHERE kind IN ('refused_row', 'mirror_refused', 'gate_refused');

-- What is known of a video through Runway's own door (`/v1/…`), from its first call there. `digest`: a hash of what the
-- attempts of one call of an SDK have in common (service/operations/calling.py); NULL for a video made elsewhere.
CREATE TABLE taxiway.calls (
    video_id   uuid        PRIMARY KEY REFERENCES taxiway.videos (id) ON DELETE CASCADE,
    digest     bytea,
    attempts   smallint[]  NOT NULL DEFAULT '{}',  -- those that were seen; an SDK counts them from 0
    seen_at    timestamptz NOT NULL DEFAULT taxiway.now(),  -- the last of them
    read_at    timestamptz,                    -- since then its caller knows the id, so no attempt is still to come
    hidden_at  timestamptz                     -- deleted there after its end: it is kept, and not shown there any more
);
-- Calls whose caller may not know its id yet: for seconds, most of the time.
CREATE INDEX calls_unread ON taxiway.calls (digest, video_id) WHERE digest IS NOT NULL AND read_at IS NULL;

-- Sessions of the page whose users have logged out; their cookies are signed, and valid for hours. Only a user writes here.
CREATE TABLE taxiway.sessions (
    digest     bytea       PRIMARY KEY,        -- SHA-256 of the session's nonce
    ended_at   timestamptz NOT NULL DEFAULT taxiway.now(),
    forget_at  timestamptz NOT NULL            -- its cookie is worth nothing any more
);

-- A tick: one bounded round of work. `ref` is its short name, which each line that it logs bears.
CREATE TABLE taxiway.ticks (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT taxiway.now(),
    finished_at  timestamptz,
    counts       jsonb,
    error        text,
    ref          text
);
CREATE INDEX ticks_started ON taxiway.ticks (started_at);

-- What can be searched of a video: the words of its prompt and of the values of its metadata. A table of its own,
-- because an index over words on `videos` would be written at every change of a status; this row is written once, in
-- the statement that enqueues the video. `model` and `user_id` do not change after that either. It may outlive its video: a search
-- joins `videos`.
CREATE TABLE taxiway.search (
    video_id    uuid        PRIMARY KEY,
    created_at  timestamptz NOT NULL,
    model       text,
    user_id     text,
    words       tsvector    NOT NULL
);
-- A rare word is found here. New entries wait in a list that is merged when it has 256 kB, not 4 MB: many short merges
-- instead of a few that one enqueue waits for.
CREATE INDEX search_words ON taxiway.search USING gin (words) WITH (gin_pending_list_limit = 256);
-- A word that is in every other video is found by walking here, newest first.
CREATE INDEX search_newest ON taxiway.search (created_at DESC, video_id DESC);
-- Videos of one model, however rare it is.
CREATE INDEX search_model ON taxiway.search (model, created_at DESC, video_id DESC);
-- Videos of one user.
CREATE INDEX search_user ON taxiway.search (user_id, created_at DESC, video_id DESC) WHERE user_id IS NOT NULL;

-- What is too dear to find out each time: 'counts' of videos by status, once there are too many to count for each
-- caller; 'account', credits and limits at Runway. Ticks refresh it when it is due.
-- How far the walks have come that look for what is old: through the ledger, whose detail goes, and through what is
-- searched, of which the video may be gone. They go on behind the time `taken_at`, and the key in `facts`, at `due_at`.
-- 'input_walk': how far the inputs of ended videos are blanked; `held` in its facts: those that were locked, for later.
-- 'event_walk' and 'removal' have no place to remember: it is when old videos are looked for again, if ever.
-- 'listener': when a worker last said that it hears NOTIFY. 'identity': which server and database the last tick saw.
CREATE TABLE taxiway.maintenance (
    name      text        PRIMARY KEY,
    taken_at  timestamptz,                     -- NULL: never
    due_at    timestamptz NOT NULL,            -- not to be taken again before
    facts     jsonb
);
INSERT INTO taxiway.maintenance (name, taken_at, due_at, facts) VALUES
    ('counts', taxiway.now(), taxiway.now(), '{}'),
    ('account', NULL, taxiway.now() + interval '5 minutes', NULL),
    ('ledger_walk', taxiway.now(), taxiway.now() + interval '1 hour', '{"after": 0}'),
    ('search_walk', NULL, taxiway.now() + interval '1 day', '{"after": "00000000-0000-0000-0000-000000000000"}'),
    ('event_walk', NULL, taxiway.now() + interval '1 day', NULL),
    ('input_walk', NULL, taxiway.now() + interval '1 hour', '{}'),
    ('removal', NULL, taxiway.now() + interval '10 minutes', NULL),
    ('listener', NULL, 'infinity', NULL),
    ('alerts', NULL, taxiway.now(), NULL),
    ('identity', NULL, 'infinity', NULL);

-- Which row of a linked table is which video. It is written by intake, gate and mirror only, and outlives the link:
-- forgetting a row would pay for it twice.
CREATE TABLE taxiway.rows (
    link_id           integer     NOT NULL REFERENCES taxiway.links (id),
    app_id            text        NOT NULL,    -- the row's key, as text
    video_id          uuid,                    -- NULL: said queued when the table was linked, and was left alone
    app_word          text,                    -- the status that stands in the app's row, as far as Taxiway knows
    gated_round       integer     NOT NULL DEFAULT 0,   -- the round of the video in which `processing` was written
    mirrored_version  integer     NOT NULL DEFAULT 0,
    missing_since     timestamptz,             -- first seen to be gone; only a second look counts
    -- A row that refused to show its video: when to try again, how often it refused, and PostgreSQL's words.
    due_at            timestamptz,
    tries             smallint    NOT NULL DEFAULT 0,
    sqlstate          text,
    error             text,
    refused_at        timestamptz,             -- since when
    PRIMARY KEY (link_id, app_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE UNIQUE INDEX rows_video ON taxiway.rows (video_id);
CREATE INDEX rows_due ON taxiway.rows (due_at) WHERE due_at IS NOT NULL;

-- Videos whose row in a linked table is behind. Notes are inserted and deleted, never updated: a queue of notes costs a
-- third of an index over versions.
CREATE TABLE taxiway.mirror_queue (
    id        bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    link_id   integer  NOT NULL,
    video_id  uuid     NOT NULL
);
CREATE INDEX mirror_queue_link ON taxiway.mirror_queue (link_id, id);

-- A change that a linked table shows: the video's version grows, and the mirror gets a note in the same transaction.
-- A trigger, so that no statement can forget it; its condition costs a video without a link next to nothing.
CREATE FUNCTION taxiway.note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.status, OLD.runway_video_id, OLD.error_message, OLD.video_url, OLD.progress, OLD.round, OLD.link_id)
       IS DISTINCT FROM
       (NEW.status, NEW.runway_video_id, NEW.error_message, NEW.video_url, NEW.progress, NEW.round, NEW.link_id)
    THEN
        NEW.version := NEW.version + 1;
        INSERT INTO taxiway.mirror_queue (link_id, video_id) VALUES (NEW.link_id, NEW.id);
    END IF;
    RETURN NEW;
END $$;
-- An upload at Runway dies 24 hours after it was made. When that was is not known, but it was before the video; a video
-- whose input is replaced counts from then.
CREATE FUNCTION taxiway.bound_upload() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.expires_at := LEAST(NEW.expires_at, interval '24 hours' +
        CASE WHEN TG_OP = 'UPDATE' AND NEW.input <> OLD.input THEN taxiway.now() ELSE NEW.created_at END);
    RETURN NEW;
END $$;
CREATE TRIGGER bound_upload BEFORE INSERT OR UPDATE OF expires_at ON taxiway.videos FOR EACH ROW
    WHEN (NEW.input @? '$.** ? (@ starts with "runway://")')
    EXECUTE FUNCTION taxiway.bound_upload();

CREATE TRIGGER note_change BEFORE UPDATE ON taxiway.videos FOR EACH ROW
    WHEN (NEW.link_id IS NOT NULL) EXECUTE FUNCTION taxiway.note_change();
-- A row that made no valid request is a video that has failed from the start.
CREATE TRIGGER note_refusal BEFORE INSERT ON taxiway.videos FOR EACH ROW
    WHEN (NEW.link_id IS NOT NULL AND NEW.status <> 'queued')
    EXECUTE FUNCTION taxiway.note_change();

-- An address to which every event is sent that it wants. The settings name them: `taxiway migrate` and the ticks compare
-- (service/store/endpoints.py). One that is not named any more is kept, so that what is due to it is sent if it returns.
CREATE TABLE taxiway.endpoints (
    id               integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind             text        NOT NULL,     -- 'webhook' (WEBHOOK_URL), 'alert' (ALERT_URL), 'listen' (a laptop)
    url              text        NOT NULL,
    events           text[]      NOT NULL,     -- those that it wants
    created_at       timestamptz NOT NULL DEFAULT taxiway.now(),
    removed_at       timestamptz,              -- since when the settings do not name it
    listen_until     timestamptz,              -- 'listen': until when it listens; nothing is noted after that
    disabled_at      timestamptz,              -- it said that it is gone: nothing more is sent or noted
    disabled_reason  text,
    failures         integer     NOT NULL DEFAULT 0,    -- attempts in a row that came to nothing
    failing_since    timestamptz,
    probe_after      timestamptz,              -- while it fails: when the next attempt may be made
    last_error       text,                     -- what the last of them came to
    last_ok_at       timestamptz,              -- to the minute
    CONSTRAINT endpoints_address UNIQUE (kind, url)
);

-- A delivery: one event, for one address. It is written in the transaction in which the event happens, by the triggers
-- below, so that no statement can forget it. It is due until it has ended; `leased_until`: an attempt is under way.
-- What may change later stands in `snapshot`; what a user wrote is read from the video when it is sent.
CREATE TABLE taxiway.deliveries (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- grows: the order of events of one video
    video_id      uuid,                        -- NULL: of a group, an alert or a test
    group_id      uuid,                        -- of a group; then it has no video
    endpoint_id   integer,                     -- NULL: to the address that came with the video
    round         integer,                     -- of the video
    created_at    timestamptz NOT NULL DEFAULT taxiway.now(),
    due_at        timestamptz NOT NULL DEFAULT taxiway.now(),
    leased_until  timestamptz,
    ended_at      timestamptz,
    tries         smallint    NOT NULL DEFAULT 0,
    for_ticks     boolean     NOT NULL DEFAULT false,   -- it takes longer than a request may wait for it
    state         text        NOT NULL DEFAULT 'due',
    event         text        NOT NULL,        -- 'video.completed', ...
    webhook_id    text        NOT NULL,        -- the same for every address and every attempt
    url           text        NOT NULL,        -- '' once the video is erased, if it came with that
    -- Whose slots it uses: its endpoint's; or those of the host, for addresses that came with videos.
    receiver      text        GENERATED ALWAYS AS (
        COALESCE(endpoint_id::text, substring(lower(url) FROM '^https?://[^/?#]+'), '')) STORED,
    snapshot      jsonb,                       -- of the video when it happened
    payload       jsonb,                       -- of an alert or a test: all of its data
    attempts      jsonb       NOT NULL DEFAULT '[]',    -- the newest of them
    CONSTRAINT deliveries_state_known
        CHECK (state IN ('due', 'delivered', 'failed', 'superseded', 'disabled', 'dropped'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
-- What is due, by receiver: the claim goes from one to the next. And by time: whether anything is.
CREATE INDEX deliveries_due ON taxiway.deliveries (receiver, due_at, id) WHERE state = 'due';
CREATE INDEX deliveries_next ON taxiway.deliveries (due_at) WHERE state = 'due';
CREATE INDEX deliveries_leased ON taxiway.deliveries (receiver) WHERE leased_until IS NOT NULL;
CREATE INDEX deliveries_video ON taxiway.deliveries (video_id, id) WHERE video_id IS NOT NULL;
CREATE INDEX deliveries_group ON taxiway.deliveries (group_id, id) WHERE group_id IS NOT NULL;
-- What was not delivered, for lists: what was, which is most, writes nothing here.
CREATE INDEX deliveries_undelivered ON taxiway.deliveries (id) WHERE state IN ('failed', 'superseded', 'disabled', 'dropped');

-- The id of an event that happens for the first time; `_2` and so on follow if it has happened before.
CREATE FUNCTION taxiway.webhook_id(base text, before bigint) RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'msg_' || base || CASE WHEN before > 0 THEN '_' || before + 1 ELSE '' END;

-- In these functions no table is read whole: a plan that was made while it was small stays for as long as the session.
-- The id of an event of a video, in one round. `again`: of one that has happened already, 1; otherwise 0.
CREATE FUNCTION taxiway.event_id(of_video uuid, in_round integer, happened text, again integer) RETURNS text
LANGUAGE sql STABLE SET enable_seqscan = off RETURN taxiway.webhook_id(
    concat_ws('_', replace(of_video::text, '-', ''), in_round, split_part(happened, '.', 2)),
    (SELECT count(DISTINCT d.webhook_id) FROM taxiway.deliveries d
     WHERE d.video_id = of_video AND d.round = in_round AND d.event = happened) - again);

-- Who wants to know of an event, beside the address that came with a video.
CREATE FUNCTION taxiway.wanting(happened text) RETURNS SETOF taxiway.endpoints LANGUAGE sql STABLE AS $$
    SELECT * FROM taxiway.endpoints e
    WHERE happened = ANY(e.events) AND e.removed_at IS NULL AND e.disabled_at IS NULL
      AND COALESCE(e.listen_until, 'infinity') > taxiway.now()
$$;

-- Note an event of a video for each endpoint that wants it; and its end for the address that came with it, unless that
-- waits for the end of its group. `again`: note what has happened before, for this address alone.
CREATE FUNCTION taxiway.note_event(v taxiway.videos, happened text, again text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO taxiway.deliveries (video_id, round, event, webhook_id, endpoint_id, url, snapshot)
    SELECT v.id, v.round, happened, taxiway.event_id(v.id, v.round, happened, num_nonnulls(again)), a.endpoint_id,
            a.url, jsonb_build_object(
               'status', v.status, 'error_code', v.error_code, 'error_message', v.error_message,
               'runway_video_id', v.runway_video_id, 'task_status', v.task_status, 'progress', v.progress,
               'output', v.output, 'video_url', v.video_url, 'video_url_expires_at', v.video_url_expires_at,
               'cost_credits', v.cost_credits, 'submitted_at', v.submitted_at, 'finished_at', v.finished_at,
               'updated_at', v.updated_at, 'run_after', v.run_after, 'expires_at', v.expires_at)
    FROM (SELECT e.id AS endpoint_id, e.url FROM taxiway.wanting(happened) e WHERE again IS NULL
          UNION ALL
          SELECT NULL, v.webhook_url WHERE v.webhook_url IS NOT NULL AND v.group_id IS NULL
            AND happened IN ('video.completed', 'video.failed', 'video.cancelled')) AS a;
END $$;

-- Note that a video of a group has ended, for those who want to know when all have. One row waits for all of them, for
-- each address: the claim takes it once none is under way any more.
CREATE FUNCTION taxiway.note_group(v taxiway.videos, again text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO taxiway.deliveries (group_id, event, webhook_id, endpoint_id, url)
    SELECT v.group_id, 'group.ended', taxiway.webhook_id(
               replace(v.group_id::text, '-', '') || '_ended',
               (SELECT count(DISTINCT d.webhook_id) FROM taxiway.deliveries d
                WHERE d.group_id = v.group_id AND (d.state <> 'due' OR d.leased_until IS NOT NULL OR d.tries > 0))
               - num_nonnulls(again)),
           a.endpoint_id, a.url
    FROM (SELECT e.id AS endpoint_id, e.url FROM taxiway.wanting('group.ended') e WHERE again IS NULL
          UNION ALL
          SELECT NULL, v.webhook_url WHERE v.webhook_url IS NOT NULL) AS a
    WHERE NOT EXISTS (SELECT FROM taxiway.deliveries d
                      WHERE d.group_id = v.group_id AND d.state = 'due' AND d.leased_until IS NULL AND d.tries = 0
                        AND d.url = a.url AND d.endpoint_id IS NOT DISTINCT FROM a.endpoint_id);
END $$;

-- The end of a video. The conditions of these triggers are all that anything else pays.
CREATE FUNCTION taxiway.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status NOT IN ('completed', 'failed', 'cancelled')
       OR NEW.webhook_url IS NULL AND NOT EXISTS (SELECT FROM taxiway.endpoints) THEN
        RETURN NULL;
    END IF;
    PERFORM taxiway.note_event(NEW, 'video.' || NEW.status);
    IF NEW.group_id IS NOT NULL THEN
        PERFORM taxiway.note_group(NEW);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_end AFTER UPDATE OF status ON taxiway.videos FOR EACH ROW
    WHEN (NEW.status <> OLD.status AND NEW.open_submission_id IS NULL)  -- no video that has ended has one
    EXECUTE FUNCTION taxiway.note_end();
-- A row of a linked table that made no valid request.
CREATE TRIGGER note_failed AFTER INSERT ON taxiway.videos FOR EACH ROW
    WHEN (NEW.link_id IS NOT NULL AND NEW.status = 'failed')
    EXECUTE FUNCTION taxiway.note_end();

-- What a video may have cost is known now: an unknown outcome was resolved, the task of an ended video was deleted, or
-- a create came to nothing whose video was cancelled meanwhile.
CREATE FUNCTION taxiway.note_settled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM taxiway.note_event(v, 'video.settled') FROM taxiway.videos v
    WHERE v.id = NEW.video_id AND v.status <> 'erased'
      AND (NEW.kind NOT IN ('deleted', 'rejected', 'not_sent') OR v.status IN ('completed', 'failed', 'cancelled'))
      AND (NEW.kind NOT IN ('rejected', 'not_sent') OR v.finished_at < taxiway.now());  -- it has not just ended by this
    RETURN NULL;
END $$;
CREATE TRIGGER note_settled AFTER INSERT ON taxiway.events FOR EACH ROW
    WHEN (NEW.kind IN ('settled', 'attached', 'deleted', 'rejected', 'not_sent') AND NEW.video_id IS NOT NULL)
    EXECUTE FUNCTION taxiway.note_settled();

-- What is newer says more than `processing` and `progress`: they need not be sent any more. One that is on its way ends
-- by itself, and the newer event waits for that.
CREATE FUNCTION taxiway.supersede() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE taxiway.deliveries d SET state = 'superseded', ended_at = taxiway.now()
    WHERE d.id = ANY(ARRAY(
        SELECT o.id FROM taxiway.deliveries o
        WHERE o.id = ANY(ARRAY(  -- by its video, and not by all that is due
                  SELECT b.id FROM taxiway.deliveries b WHERE b.video_id = NEW.video_id AND b.id < NEW.id))
          AND o.state = 'due' AND o.leased_until IS NULL
          AND o.event IN ('video.processing', 'video.progress')
          AND o.endpoint_id IS NOT DISTINCT FROM NEW.endpoint_id
        FOR UPDATE SKIP LOCKED));
    RETURN NULL;
END $$;
CREATE TRIGGER supersede AFTER INSERT ON taxiway.deliveries FOR EACH ROW
    WHEN (NEW.video_id IS NOT NULL AND NEW.endpoint_id IS NOT NULL)
    EXECUTE FUNCTION taxiway.supersede();

-- What is wrong, by the name of the check. It is reported when it comes, and when it is over; not meanwhile.
CREATE TABLE taxiway.alerts (
    name       text        PRIMARY KEY,
    raised_at  timestamptz NOT NULL DEFAULT taxiway.now(),
    payload    jsonb       NOT NULL            -- what was reported
);

-- For the app to read; its columns stay as they are from version to version.
CREATE VIEW taxiway.video_status WITH (security_invoker = true) AS
SELECT id, user_id, status, error_code, error_message, runway_video_id, progress, video_url, video_url_expires_at,
       created_at, updated_at, finished_at
FROM taxiway.videos;

-- Which server and which database this is: what a copy has otherwise, and what a server that went back in time has
-- otherwise (service/store/identity.py). What this role may not read, or this server does not say, is null.
CREATE FUNCTION taxiway.server_identity() RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    system   text;
    timeline text;
BEGIN
    BEGIN
        system := (SELECT system_identifier FROM pg_control_system());
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        system := NULL;
    END;
    BEGIN
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    EXCEPTION WHEN OTHERS THEN  -- a standby, and servers that keep their log elsewhere
        timeline := NULL;
    END;
    RETURN jsonb_build_object(
        'system', system, 'timeline', timeline,
        'database', (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),
        'submissions', 'taxiway.submissions'::regclass::oid::bigint);
END $$;
