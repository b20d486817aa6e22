-- The view `public.videos`, for apps that read and write the queue with SQL (`taxiway migrate --view`, `taxiway dev`).
--
-- It is no migration: it is made again with each version, if it is there. It is security_invoker, so that it shows to
-- no role more than what it may read in the schema `taxiway`; the runner closes it to PUBLIC and to browser roles
-- in the same transaction. Its triggers run with the rights of the role that writes.

CREATE OR REPLACE VIEW public.videos WITH (security_invoker = true) AS
SELECT id, user_id, prompt, image_url, status, runway_video_id, video_url, error_message, created_at, updated_at,
       model, progress, error_code
FROM taxiway.videos;
COMMENT ON VIEW public.videos IS 'Taxiway: the queue, for SQL. `taxiway migrate --view` makes it, `--no-view` removes it.';

-- A row is a request: it is queued. What Taxiway sets cannot be given.
CREATE OR REPLACE FUNCTION taxiway.view_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF COALESCE(NEW.status, 'queued') <> 'queued' THEN
        RAISE EXCEPTION 'a video is inserted as ''queued'', not as ''%''', NEW.status
            USING ERRCODE = 'check_violation', TABLE = 'videos', COLUMN = 'status',
                  HINT = 'Leave status out. Taxiway sets every other status itself.';
    END IF;
    IF num_nonnulls(NEW.runway_video_id, NEW.video_url, NEW.error_message, NEW.progress, NEW.error_code) > 0 THEN
        RAISE EXCEPTION 'only user_id, prompt, image_url, model, status and id can be given for a new video'
            USING ERRCODE = 'check_violation', TABLE = 'videos',
                  HINT = 'Taxiway sets runway_video_id, video_url, error_message, error_code and progress itself.';
    END IF;
    -- Each column that is named is a right that the role needs: those that are rarely given are named only then.
    IF NEW.id IS NULL AND NEW.model IS NULL AND NEW.created_at IS NULL THEN
        INSERT INTO taxiway.videos (user_id, prompt, image_url, status)
        VALUES (NEW.user_id, NEW.prompt, NEW.image_url, 'queued')
        RETURNING id, status, created_at, updated_at INTO NEW.id, NEW.status, NEW.created_at, NEW.updated_at;
    ELSE
        INSERT INTO taxiway.videos (id, user_id, prompt, image_url, status, model, created_at)
        VALUES (COALESCE(NEW.id, gen_random_uuid()), NEW.user_id, NEW.prompt, NEW.image_url, 'queued', NEW.model,
                COALESCE(NEW.created_at, taxiway.now()))
        RETURNING id, status, created_at, updated_at INTO NEW.id, NEW.status, NEW.created_at, NEW.updated_at;
    END IF;
    RETURN NEW;
END $$;

-- Two things can be asked of a video: to be queued again after it has ended, and to be cancelled before. `updated_at` is
-- Taxiway's, whatever is given; an app that queues a video again may clear what the last attempt left.
CREATE OR REPLACE FUNCTION taxiway.view_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    queued_again CONSTANT boolean := NEW.status = 'queued' AND OLD.status IN ('failed', 'cancelled', 'completed');
BEGIN
    IF queued_again THEN  -- what is cleared counts as left alone
        NEW.runway_video_id := COALESCE(NEW.runway_video_id, OLD.runway_video_id);
        NEW.video_url := COALESCE(NEW.video_url, OLD.video_url);
        NEW.error_message := COALESCE(NEW.error_message, OLD.error_message);
        NEW.error_code := COALESCE(NEW.error_code, OLD.error_code);
        NEW.progress := COALESCE(NEW.progress, OLD.progress);
    END IF;
    IF (NEW.id, NEW.user_id, NEW.prompt, NEW.image_url, NEW.model, NEW.created_at, NEW.runway_video_id, NEW.video_url,
        NEW.error_message, NEW.progress, NEW.error_code)
       IS DISTINCT FROM
       (OLD.id, OLD.user_id, OLD.prompt, OLD.image_url, OLD.model, OLD.created_at, OLD.runway_video_id, OLD.video_url,
        OLD.error_message, OLD.progress, OLD.error_code)
    THEN
        RAISE EXCEPTION 'only the status of a video can be changed'
            USING ERRCODE = 'check_violation', TABLE = 'videos',
                  HINT = 'A video stays what was asked for: insert another. What became of it is Taxiway''s to write.';
    END IF;
    IF NEW.status IS NOT DISTINCT FROM OLD.status THEN
        RETURN NEW;
    ELSIF queued_again THEN
        -- `finished_at` stays: by that, the next tick sees that it was put back, and whether that needs consent.
        UPDATE taxiway.videos v SET status = 'queued', updated_at = taxiway.now()
        WHERE v.id = OLD.id AND v.status = OLD.status;
    ELSIF NEW.status = 'cancelled' AND OLD.status IN ('queued', 'processing') THEN
        UPDATE taxiway.videos v SET status = 'cancelled', open_submission_id = NULL, finished_at = taxiway.now(),
            error_code = NULL, error_message = NULL, updated_at = taxiway.now()
        WHERE v.id = OLD.id AND v.status IN ('queued', 'processing');
    ELSE
        RAISE EXCEPTION 'a video that is ''%'' cannot be set to ''%''', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', TABLE = 'videos', COLUMN = 'status',
                  HINT = 'Set ''queued'' to send one again that has ended, ''cancelled'' to cancel one that has not.';
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the video % has changed meanwhile', OLD.id
            USING ERRCODE = 'serialization_failure', HINT = 'Read it again, and decide again.';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION taxiway.view_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM taxiway.videos v WHERE v.id = OLD.id;
    RETURN OLD;
END $$;

CREATE OR REPLACE TRIGGER view_insert INSTEAD OF INSERT ON public.videos
    FOR EACH ROW EXECUTE FUNCTION taxiway.view_insert();
CREATE OR REPLACE TRIGGER view_update INSTEAD OF UPDATE ON public.videos
    FOR EACH ROW EXECUTE FUNCTION taxiway.view_update();
CREATE OR REPLACE TRIGGER view_delete INSTEAD OF DELETE ON public.videos
    FOR EACH ROW EXECUTE FUNCTION taxiway.view_delete();
