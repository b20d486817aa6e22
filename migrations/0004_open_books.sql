-- What is open in the ledger, in two indexes instead of one.

-- Tasks under way: almost all that is open. Each video writes here once, when its id is saved, and now at the end of the
-- index, because ids grow; by video, an entry is found by the primary key.
CREATE INDEX submissions_under_way ON submissions (id) WHERE settled_at IS NULL AND outcome = 'accepted';
-- Unknown outcomes, until somebody says what became of them: there may be more of them from month to month, and /health
-- counts them, so everything that is asked of all of them stands in the index.
CREATE INDEX submissions_unknown ON submissions (video_id) INCLUDE (consent, cancel_due, estimated_credits, quoted_credits)
    WHERE settled_at IS NULL AND outcome = 'unknown';
DROP INDEX IF EXISTS submissions_unsettled;

-- A submission begins without polls of its task: nothing is written for them until there is one.
ALTER TABLE submissions
    ALTER COLUMN polls DROP NOT NULL, ALTER COLUMN polls DROP DEFAULT,
    ALTER COLUMN recent_polls DROP NOT NULL, ALTER COLUMN recent_polls DROP DEFAULT;
