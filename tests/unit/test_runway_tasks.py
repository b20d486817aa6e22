"""What Runway's API says of a video: one of six statuses, and never a failure code that invites another payment."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from service.errors import NotFound
from service.operations.runway_tasks import credits, shown
from service.operations.waiting import Reason, Waiting
from service.videos import FailureCode, Status, Video

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def video(status: Status, **changes: Any) -> Any:
    """A video whose other columns are empty."""
    given = {
        "id": UUID(int=7), "status": status, "created_at": AT, "quoted_credits": Decimal("25"), "retries": 0,
        "task_retries": 0,
    }  # fmt: skip
    return SimpleNamespace(**(dict.fromkeys(field.name for field in fields(Video)) | given | changes))


@pytest.mark.parametrize("reason", Reason)
def test_a_queued_video_is_pending_only_if_it_could_go_now(reason: Reason) -> None:
    status = "PENDING" if reason in (Reason.NEXT_TICK, Reason.NO_TICK) else "THROTTLED"
    why = Waiting(reason, "why")
    assert shown(video(Status.QUEUED), why) == {
        "id": str(UUID(int=7)), "createdAt": "2026-11-28T12:00:00.000Z", "status": status,
        "estimatedCost": {"credits": 25},
    }  # fmt: skip
    for sent_back in ({"retries": 1}, {"task_retries": 1}):
        assert shown(video(Status.QUEUED, **sent_back), why)["status"] == "THROTTLED"


@pytest.mark.parametrize(
    ("last", "status"),
    [(None, "PENDING"), ("PENDING", "PENDING"), ("THROTTLED", "THROTTLED"), ("RUNNING", "RUNNING"), ("NEW", "RUNNING")],
)
def test_a_video_at_runway_says_only_what_an_sdk_waits_on_with(last: str | None, status: str) -> None:
    said = shown(video(Status.PROCESSING, runway_video_id="a", task_status=last, progress=None), None)
    assert (said["status"], said.get("progress")) == (status, 0.0 if status == "RUNNING" else None)
    assert shown(video(Status.PROCESSING, open_submission_id=1), None)["status"] == "PENDING"


@pytest.mark.parametrize(
    ("code", "failure_code", "cost"),
    [
        ("SAFETY.INPUT.TEXT", "SAFETY.INPUT.TEXT", 0),
        ("INTERNAL", "INTERNAL", 0),
        (None, "TAXIWAY.FAILED", 0),
        *((str(code), f"TAXIWAY.{code}", 25 * (code in ("SUBMISSION_UNKNOWN", "TASK_VANISHED", "TASK_TIMEOUT")))
          for code in FailureCode),
    ],
)  # fmt: skip
def test_a_failure(code: str | None, failure_code: str, cost: int) -> None:
    said = shown(video(Status.FAILED, error_code=code, error_message=None), None)
    assert (said["status"], said["failureCode"], said["cost"]) == ("FAILED", failure_code, {"credits": cost})
    assert said["failure"]


def test_the_end() -> None:
    done = video(Status.COMPLETED, output=["https://a.test/1", "https://a.test/2"], cost_credits=Decimal("1.25"))
    said = shown(done, None)
    assert (said["status"], said["output"], said["cost"]) == ("SUCCEEDED", done.output, {"credits": 2})
    for status in (Status.CANCELLED, Status.ERASED):
        with pytest.raises(NotFound):
            shown(video(status), None)


def test_credits_are_whole_numbers_where_they_are() -> None:
    assert [repr(credits(amount)) for amount in (None, Decimal("25.00"), Decimal("2.5"))] == ["0", "25", "2.5"]
