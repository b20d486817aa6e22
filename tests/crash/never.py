"""What the promises exclude, as SQL: each statement returns rows only if one is broken."""

from __future__ import annotations

# What the promises exclude; each returns rows only if one is broken.
NEVER: dict[str, str] = {
    "stuck by what is stored": """
        SELECT id, status FROM taxiway.videos
        WHERE status = 'processing' AND num_nonnulls(open_submission_id, runway_video_id) <> 1
           OR status <> 'processing' AND open_submission_id IS NOT NULL""",
    "a row that no tick picks up": """
        SELECT v.id, v.status FROM taxiway.videos v LEFT JOIN taxiway.submissions s ON s.id = v.open_submission_id
        WHERE v.status = 'processing' AND v.open_submission_id IS NOT NULL
              AND (s.outcome IS NOT NULL AND s.unsaved IS NULL OR s.video_id <> v.id)
           OR v.status = 'queued' AND (v.run_after IS NULL OR v.input IS NOT NULL AND v.expires_at IS NULL
                                       AND v.finished_at IS NULL)""",
    "two open submissions": """
        SELECT video_id, count(*) FROM taxiway.submissions WHERE outcome IS NULL GROUP BY 1 HAVING count(*) > 1""",
    "a create while another may cost, without consent": """
        SELECT video_id, count(*) FROM taxiway.submissions WHERE settled_at IS NULL AND consent IS NULL
        GROUP BY 1 HAVING count(*) > 1""",
    "an end without a reason or a file": """
        SELECT id, status, error_code FROM taxiway.videos
        WHERE status = 'failed' AND (error_code IS NULL OR error_message IS NULL)
           OR status = 'completed' AND video_url IS NULL""",
    "one task in two videos": """
        SELECT runway_video_id, count(*) FROM taxiway.videos WHERE status = 'processing' AND runway_video_id IS NOT NULL
        GROUP BY 1 HAVING count(*) > 1""",
}
# After a tick: a task is held by its video, or is over, or is about to be deleted.
NOBODYS = """
SELECT s.id, s.task_id, s.video_id, v.status FROM taxiway.submissions s LEFT JOIN taxiway.videos v ON v.id = s.video_id
WHERE s.outcome = 'accepted' AND s.settled_at IS NULL AND s.cancel_due IS NULL AND s.unsaved IS NULL
  AND NOT (v.id IS NOT NULL AND v.status = 'processing' AND v.runway_video_id = s.task_id)
"""
