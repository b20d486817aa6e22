"""The state machine as a table, and the waits."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import product
from typing import Any
from uuid import RFC_4122, UUID

import pytest

from service.videos import (
    BACKOFF_CAP_SECONDS,
    BACKOFF_FIRST_SECONDS,
    COLUMN_NAMES,
    TRANSITIONS,
    Event,
    Status,
    Video,
    backoff,
    new_id,
    sources,
)

ALLOWED = {
    (Status.QUEUED, Event.REFUSE): Status.FAILED,
    (Status.QUEUED, Event.CLAIM): Status.PROCESSING,
    (Status.QUEUED, Event.CANCEL): Status.CANCELLED,
    (Status.QUEUED, Event.ATTACH): Status.PROCESSING,
    (Status.PROCESSING, Event.SEND_BACK): Status.QUEUED,
    (Status.PROCESSING, Event.COMPLETE): Status.COMPLETED,
    (Status.PROCESSING, Event.FAIL): Status.FAILED,
    (Status.PROCESSING, Event.CANCEL): Status.CANCELLED,
    (Status.FAILED, Event.RETRY): Status.QUEUED,
    (Status.FAILED, Event.ATTACH): Status.PROCESSING,
    (Status.COMPLETED, Event.ERASE): Status.ERASED,
    (Status.FAILED, Event.ERASE): Status.ERASED,
    (Status.CANCELLED, Event.ERASE): Status.ERASED,
}


@pytest.mark.parametrize(("status", "event"), list(product(Status, Event)))
def test_every_pair(status: Status, event: Event) -> None:
    assert TRANSITIONS.get((status, event)) == ALLOWED.get((status, event))


@pytest.mark.parametrize("status", Status)
def test_only_a_retry_late_evidence_or_an_erasure_leaves_an_end(status: Status) -> None:
    leaving = {event for (source, event) in TRANSITIONS if source is status}
    if status.terminal:
        assert leaving <= {Event.RETRY, Event.ATTACH, Event.ERASE}
    else:
        assert leaving & {Event.REFUSE, Event.FAIL}, "it must be able to end"
        assert Event.CANCEL in leaving


def test_the_ends() -> None:
    assert {status for status in Status if status.terminal} == {"completed", "failed", "cancelled", "erased"}


def test_completed_and_cancelled_are_for_ever_or_erased() -> None:
    left = {event for (status, event) in TRANSITIONS if status in (Status.COMPLETED, Status.CANCELLED)}
    assert left == {Event.ERASE}
    assert Status.ERASED not in {status for (status, _) in TRANSITIONS}


@pytest.mark.parametrize("event", Event)
def test_sources_are_what_the_table_says(event: Event) -> None:
    assert sources(event) == [status.value for (status, happening) in ALLOWED if happening is event]


class TestBackoff:
    @pytest.mark.parametrize(
        ("retries", "seconds"),
        [(0, 5), (1, 10), (2, 20), (6, 320), (7, 600), (8, 600), (50, 600), (10**9, 600)],
    )
    def test_it_doubles_up_to_a_cap(self, retries: int, seconds: float) -> None:
        assert backoff(retries, 0.0) == seconds

    @pytest.mark.parametrize(("random", "factor"), [(0.0, 1.0), (0.5, 1.25), (0.999, 1.4995)])
    def test_up_to_half_as_much_on_top(self, random: float, factor: float) -> None:
        assert backoff(0, random) == pytest.approx(BACKOFF_FIRST_SECONDS * factor)
        assert backoff(99, random) == pytest.approx(BACKOFF_CAP_SECONDS * factor)


class TestFromRow:
    ID = UUID("17f20503-6c24-4c16-946b-35dbbce2af2f")
    ZONED = datetime(2026, 11, 23, 12, 0, tzinfo=timezone(timedelta(hours=2)))

    def row(self, **changes: Any) -> dict[str, Any]:
        values = dict.fromkeys(COLUMN_NAMES) | {"id": self.ID, "status": "queued", "not_ours": 1}
        return values | {"created_at": self.ZONED, "updated_at": self.ZONED} | changes

    def test_json_arrives_as_text_or_not(self) -> None:
        video = Video.from_row(self.row(input='{"ratio": "1280:720"}', metadata='"text"', output='["a"]'))
        assert (video.input, video.metadata, video.output) == ({"ratio": "1280:720"}, "text", ["a"])
        assert Video.from_row(self.row(metadata={"a": 1})).metadata == {"a": 1}
        assert Video.from_row(self.row()).output is None

    def test_the_status_must_be_one(self) -> None:
        assert Video.from_row(self.row(status="failed")).status is Status.FAILED
        with pytest.raises(ValueError, match="lost"):
            Video.from_row(self.row(status="lost"))


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    made = new_id(1_700_000_000.123, (1 << 74) - 1)
    assert (made.version, made.variant, made.int >> 80) == (7, RFC_4122, 1_700_000_000_123)
    assert str(made) == "018bcfe5-687b-7fff-bfff-ffffffffffff"
    assert str(new_id(1_700_000_000.123, 0)) == "018bcfe5-687b-7000-8000-000000000000"
