"""The conditions that many statements share, each in one place: of a video `v`, or of a submission `s`.

The partial indexes of the schema have the same words, so a statement that uses one of these can use its index.
"""

from __future__ import annotations

# Ready: a queued video that has a request, so that it may be claimed once it is due. The index is videos_ready.
READY = "v.status = 'queued' AND v.input IS NOT NULL AND v.finished_at IS NULL"

# For intake: put in the queue with SQL, either without a request yet, or again after it had ended.
FOR_INTAKE = "v.status = 'queued' AND (v.input IS NULL OR v.finished_at IS NOT NULL)"

# Queued again: an attempt was sent before, or may have been. As in the index videos_sent_before.
SENT_BEFORE = "v.status = 'queued' AND v.submitted_at IS NOT NULL"

# Unsettled: Runway may have taken this create and charged it, and nothing has said yet whether it did.
UNSETTLED = "s.settled_at IS NULL AND s.outcome = 'unknown'"

# The consent rule: what is unsettled forbids another create of its video, until a consent is recorded.
UNCONSENTED = f"{UNSETTLED} AND s.consent IS NULL"

# The same of a video: that another create needs consent.
NEEDS_CONSENT = f"EXISTS (SELECT FROM taxiway.submissions s WHERE s.video_id = v.id AND {UNCONSENTED})"

# That the video `v` can be sent again: its input is whole, and it is not to be erased.
IS_WHOLE = "v.input_blanked_at IS NULL AND v.erase_requested_at IS NULL"
