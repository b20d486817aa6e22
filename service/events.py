"""What an event can be: the kinds of lines in a history, and their words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from service.videos import meaning_of


class Kind(StrEnum):
    """What happened. The SQL that appends an event spells these as they are; of one time, they stand in this order."""

    ENQUEUED = "enqueued"
    CALL_REPEATED = "call_repeated"  # an SDK sent the call that made it again; `code`: which attempt
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
    ERASE_REQUESTED = "erase_requested"
    CONSENTED = "consented"  # to a create although an earlier one may have cost
    RETRIED = "retried"
    MADE_AGAIN = "made_again"  # as another video, with consent, although this one may have cost
    PUT_BACK = "put_back"  # SQL queued it although its task, or its consent, stood in the way
    DELETE_DUE = "delete_due"  # its task at Runway is to be deleted
    DELETED = "deleted"  # and was
    INPUTS_BLANKED = "inputs_blanked"  # by INPUT_RETENTION; `code`: `input`, or `data_uri` where that alone went
    ERASED = "erased"
    HIDDEN = "hidden"  # deleted through Runway's own door after its end
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
    Kind.CANCELLED, Kind.ERASE_REQUESTED, Kind.RETRIED, Kind.CONSENTED, Kind.MADE_AGAIN, Kind.ATTACHED, Kind.PAUSED,
    Kind.RESUMED, Kind.BULK_RETRIED, Kind.BULK_CANCELLED,
)  # fmt: skip


# What a history has besides events: a permitted create, and polls of its task.
_OF_THE_LEDGER = ("submission_opened", "polled")
_POLLED_BEFORE = Kind.COMPLETED  # the poll that ends a video stands before its end
ORDER: Mapping[str, int] = {
    name: n
    for n, name in enumerate(
        name for kind in Kind for name in ((*_OF_THE_LEDGER, kind.value) if kind is _POLLED_BEFORE else (kind.value,))
    )
}

_WORDS: Mapping[str, str] = {
    Kind.ENQUEUED: "Created for {model}",
    Kind.CALL_REPEATED: "Its call came again (retry {code} of the SDK), and was answered with this video",
    Kind.ACCEPTED: "Runway took it as a task",
    Kind.NOT_SENT: "Nothing was sent",
    Kind.REJECTED: "Runway refused it: no task was made",
    Kind.UNKNOWN: "It is not known whether Runway took it",
    Kind.SETTLED: "The unknown outcome is known now: {code}",
    Kind.ATTACHED: "A task was attached: it continues with that",
    Kind.RESUBMITTED: "It is sent again, although this attempt may have cost something (UNKNOWN_POLICY)",
    Kind.COMPLETED: "Completed: the file is there",
    Kind.FAILED: "Failed: {meaning}",
    Kind.EXPIRED: "Failed: {meaning}",
    Kind.CANCELLED: "Cancelled",
    Kind.ERASE_REQUESTED: "It is to be erased, once nothing of it is under way any more",
    Kind.CONSENTED: "Another create was allowed, although this one may have cost something",
    Kind.RETRIED: "Queued again",
    Kind.MADE_AGAIN: "Made again as {video}, although this one may have cost something",
    Kind.PUT_BACK: "It was queued again with SQL, but an earlier attempt stands in the way: it was put back",
    Kind.DELETE_DUE: "Its task is to be deleted at Runway ({code})",
    Kind.DELETED: "Its task was deleted at Runway ({code})",
    Kind.INPUTS_BLANKED: "Its input was blanked (INPUT_RETENTION): it cannot be retried any more",
    Kind.ERASED: "Erased: what was asked for, and what came of it, is gone",
    Kind.HIDDEN: "Deleted through Runway's API: there it is gone, here it is kept",
    Kind.CALLBACK: "A callback came: the task is polled for it",
    Kind.BULK_RETRIED: "{videos} videos queued again",
    Kind.BULK_CANCELLED: "{videos} videos cancelled",
    Kind.PAUSED: "Model paused: {model} for {seconds} s",
    Kind.RESUMED: "Model resumed: {model}",
    Kind.RESTORED: "The database is a copy, or went back in time: everything is paused",
    Kind.SWITCHOVER: "The database is on another server",
    Kind.REFUSED_ROW: "The database refused to write this ({statement}); it is tried again",
    Kind.MIRROR_REFUSED: "{link} refused to show this in its row; it is tried again",
    Kind.GATE_REFUSED: "{link} refused to let its row say that the video is sent: nothing was sent",
}


def words_of(kind: str, code: str | None, detail: Mapping[str, Any], model: str | None) -> str:
    """An event in a sentence. `detail`: its own; `model`: of its video, if it has one."""
    if kind == Kind.REFUSED_ROW and "link" in detail:
        return f"The database cannot read or store its row of {detail['link']}"
    if kind == Kind.RETRIED and code and code != "bulk":
        return "Runway's task failed: it is requested again"
    seconds = f"{detail.get('seconds') or 0:g}"
    given = {"model": model, "video": "", "videos": 0, "statement": "", "link": ""} | dict(detail)
    given |= {"code": code or "", "meaning": meaning_of(code), "seconds": seconds}
    return _WORDS.get(kind, kind).format(**given)
