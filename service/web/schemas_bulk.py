"""More of the API's shapes: quotes, bulk, and the history of one video."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field

from service.events import ORDER
from service.operations.enqueuing import Quote
from service.operations.video_view import Credits, Schema, State, WarningView, shortened
from service.store.search import Wanted
from service.store.timeline import Entry
from service.web.schemas import PlainText


class Eta(Schema):
    """Seconds from being created to being finished, as recent videos of the model took."""

    model_config = ConfigDict(from_attributes=True)

    p50: float
    p95: float


class QuoteView(Schema):
    """What a video would cost at most, and how long it would take. Nothing was queued."""

    operation: str
    model: str
    input: dict[str, Any] = Field(description="as it would be sent, with what was assumed; data URIs are shortened")
    warnings: list[WarningView] = Field(description="what would not be sent as it is asked for")
    quoted_credits: float = Field(description="the most that it can cost, all of a count; 1 credit is $0.01")
    eta_seconds: Eta | None = Field(description="null while no video of this model was completed")

    @classmethod
    def of(cls, quote: Quote) -> QuoteView:
        """The public view of a quote."""
        request = quote.request
        return cls(
            operation=request.operation,
            model=request.model,
            input=shortened(request.input),
            warnings=[WarningView.model_validate(one) for one in request.warnings],
            quoted_credits=float(quote.credits),
            eta_seconds=Eta.model_validate(quote.eta) if quote.eta else None,
        )


class BulkFilter(Schema):
    """Which videos: every part that is given must hold."""

    model_config = ConfigDict(extra="forbid")

    ids: list[UUID] | None = Field(None, max_length=200, description="these videos, if the rest holds for them too")
    status: list[State] | State | None = Field(None, description="one or more")
    model: PlainText | None = None
    error_code: PlainText | None = None
    q: PlainText | None = Field(None, description="an id, a Runway id, or else words of the prompt and the metadata")
    group: UUID | None = Field(None, description="of the videos of one request")
    user_id: PlainText | None = Field(None, description="of the videos of one user")
    created_after: AwareDatetime | None = Field(None, description="at this time or later")
    created_before: AwareDatetime | None = None
    finished_before: AwareDatetime | None = Field(
        None, description="ended before this time; the start of a bulk retry, so that what fails again is left alone"
    )

    def wanted(self) -> Wanted:
        """The same for the store."""
        statuses = [self.status] if isinstance(self.status, str) else self.status
        return Wanted(statuses=statuses, **self.model_dump(exclude={"status"}))


class BulkRequest(Schema):
    """One batch of a retry or a cancel of all that match. Send it again until `left` is 0."""

    model_config = ConfigDict(extra="forbid")

    filter: BulkFilter
    dry_run: bool = Field(False, strict=True, description="only count")
    limit: int = Field(500, ge=1, le=500, description="videos in this batch at most")


class BulkCounts(Schema):
    """What a batch came to."""

    model_config = ConfigDict(from_attributes=True)

    matched: int = Field(description="videos that matched before, in a state that allows it")
    done: int = Field(description="changed by this batch")
    skipped: int = Field(description="left alone: they need consent, or another transaction locks them")
    left: int = Field(description="for the next batches")


class ErasureView(Schema):
    """A video that is to be erased."""

    model_config = ConfigDict(from_attributes=True)

    video_id: UUID
    waits_for: str = Field(description="what is waited for, for people; the ticks go on with it")


class EventView(Schema):
    """One line of a video's history."""

    model_config = ConfigDict(from_attributes=True)

    at: datetime
    event: str = Field(description="its kind; " + ", ".join(f"`{name}`" for name in ORDER))
    words: str = Field(description="for people")
    actor: str = Field(description="who did it: the name of a key or token, a step, `linked table`, `callback`, a user")
    seconds: float | None = Field(description="since the line before")
    until: datetime | None = Field(description="of folded polls: the time of the last")
    polls: int | None = Field(description="of folded polls: how many")
    code: str | None = Field(description="of an error, or the reason")
    submission_id: int | None
    task_id: str | None
    http_status: int | None
    request_id: str | None = Field(description="Runway's, for its support")
    task_status: str | None
    progress: float | None
    error: str | None = Field(description="in full")
    credits: Credits = Field(None, description="quoted or paid at this step; 1 credit is $0.01")


class EventList(Schema):
    """The history of one video, oldest first."""

    events: list[EventView]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> EventList:
        """The public view of a history."""
        return cls(events=[EventView.model_validate(entry) for entry in entries])
