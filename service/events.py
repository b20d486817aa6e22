"""What an event can be: the kinds of lines in a history. Pure."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What happened. The SQL that appends an event spells these as they are."""

    ENQUEUED = "enqueued"
    ACCEPTED = "accepted"  # with its outcome, a submission closes
    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    SETTLED = "settled"  # an unknown outcome became known; `code`: what it was
    ATTACHED = "attached"
    RESUBMITTED = "resubmitted"  # sent again on the policy's consent
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    CONSENTED = "consented"  # to a create although an earlier one may have cost
    RESTORED_VIDEO = "put_back"  # SQL queued it although its task, or its consent, stood in the way
    DELETE_DUE = "delete_due"  # its task at Runway is to be deleted
    DELETED = "deleted"  # and was
    CALLBACK = "callback"  # one came, and its task is polled for it
    BULK_RETRIED = "bulk_retried"
    BULK_CANCELLED = "bulk_cancelled"
    PAUSED = "paused"  # a model
    RESUMED = "resumed"
    RESTORED = "restored"  # the database went back in time, or is a copy
    SWITCHOVER = "switchover"
    REFUSED_ROW = "refused_row"
    MIRROR_REFUSED = "mirror_refused"
    GATE_REFUSED = "gate_refused"


# What people decide, for `taxiway audit --actions`. The index events_actions names the same.
ACTIONS = (
    Kind.CANCELLED, Kind.RETRIED, Kind.CONSENTED, Kind.ATTACHED, Kind.PAUSED, Kind.RESUMED, Kind.BULK_RETRIED,
    Kind.BULK_CANCELLED,
)  # fmt: skip
