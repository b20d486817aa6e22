"""The shapes of the API of webhooks that go out: deliveries and endpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from service.operations.redelivering import DeliveryList, Sent, attempts_of, shown_url
from service.operations.video_view import Schema
from service.operations.webhook_endpoints import Tested
from service.store.delivery_log import STATES, Delivery, WantedDeliveries
from service.store.endpoint_states import EndpointState

LARGEST_ID = 2**31 - 1

State = Literal["due", "delivered", "failed", "superseded", "disabled", "dropped"]
EndpointId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


def _known(value: str) -> str:
    if unknown := [state for state in value.split(",") if state not in STATES]:
        raise ValueError(f"names {unknown[0][:50]!r}; there are {', '.join(STATES)}")
    return value


class DeliveryQuery(Schema):
    """Which deliveries to list."""

    model_config = ConfigDict(extra="forbid")

    video: UUID | None = Field(None, description="of this video, and of its group")
    state: Annotated[str, AfterValidator(_known)] | None = Field(None, description="one or more, separated by commas")
    endpoint: int | None = Field(
        None, ge=0, le=LARGEST_ID, description="to this endpoint; 0: to addresses that came with videos"
    )
    cursor: str | None = Field(None, pattern="^[0-9]{1,18}$", description="`next` of the page before")
    limit: int = Field(50, ge=1, le=200, description="deliveries on a page")

    def wanted(self) -> WantedDeliveries:
        """The filters, for the store."""
        return WantedDeliveries(self.video, self.endpoint, tuple(self.state.split(",")) if self.state else ())

    def before(self) -> int | None:
        """The id before which the page begins; None for the first one."""
        return int(self.cursor) if self.cursor else None


class AttemptView(Schema):
    """One attempt to deliver, and what it came to."""

    at: datetime
    ms: int | None = Field(description="milliseconds until the answer")
    http_status: int | None
    error: str | None = Field(description="why there is no answer")
    answer: str | None = Field(description="its first 500 characters")


class DeliveryView(Schema):
    """One event for one address."""

    id: int
    event: str = Field(description="such as `video.completed`")
    state: State
    webhook_id: str = Field(description="the header of that name: the same for every attempt and every address")
    video_id: UUID | None
    group_id: UUID | None
    endpoint_id: int | None = Field(description="null: the address came with the video")
    url: str = Field(description="without its query, and what may be a secret in it; empty once the video is erased")
    created_at: datetime = Field(description="when the event happened")
    next_attempt_at: datetime | None
    ended_at: datetime | None
    tries: int
    last: AttemptView | None = Field(description="the newest attempt")

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryView:
        """The public view of a row."""
        return cls(**_same(delivery))


def _same(delivery: Delivery) -> dict[str, Any]:
    due = delivery.due
    attempts = attempts_of(delivery)
    names = ("id", "event", "webhook_id", "video_id", "group_id", "endpoint_id", "created_at", "tries")
    return {name: getattr(due, name) for name in names} | {
        "state": delivery.state,
        "url": shown_url(due.url),
        "next_attempt_at": delivery.due_at if delivery.state == "due" else None,
        "ended_at": delivery.ended_at,
        "last": AttemptView(**attempts[-1]) if attempts else None,
    }


class RequestView(Schema):
    """What is sent."""

    headers: dict[str, str] = Field(description="all but `webhook-signature`")
    body: str | None = Field(description="JSON, indented here; null once there is nothing left to say")


class DeliveryReport(DeliveryView):
    """One delivery with what is sent, and every attempt."""

    request: RequestView
    attempts: list[AttemptView] = Field(description="oldest first, the newest twelve")

    @classmethod
    def of_sent(cls, delivery: Delivery, sent: Sent) -> DeliveryReport:
        """The public view of a row and of what it sends."""
        request = RequestView(headers=dict(sent.headers), body=sent.body)
        attempts = [AttemptView(**one) for one in attempts_of(delivery)]
        return cls(**_same(delivery), request=request, attempts=attempts)


class DeliveryPage(Schema):
    """Deliveries, newest first."""

    deliveries: list[DeliveryView]
    next: str | None = Field(description="the cursor of the next page")

    @classmethod
    def of(cls, found: DeliveryList) -> DeliveryPage:
        """The public view of a page."""
        views = [DeliveryView.of(one) for one in found.deliveries]
        return cls(deliveries=views, next=None if found.next is None else str(found.next))


class EndpointView(Schema):
    """An address to which every event goes that it wants."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    kind: Literal["webhook", "alert", "listen"]
    url: Annotated[str, AfterValidator(shown_url)] = Field(description="without what may be a secret in it")
    events: list[str]
    state: Literal["ok", "failing", "disabled", "removed"]
    waiting: int = Field(description="deliveries that are due to it, at most 10,000")
    failures: int = Field(description="attempts in a row that came to nothing")
    failing_since: datetime | None
    last_error: str | None
    last_ok_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None

    @classmethod
    def of(cls, state: EndpointState) -> EndpointView:
        """The public view of an endpoint."""
        return cls.model_validate(state)


class EndpointList(Schema):
    """Every endpoint, the oldest first."""

    endpoints: list[EndpointView]


class TestRequest(Schema):
    """Where to send a test event."""

    model_config = ConfigDict(extra="forbid")

    endpoint_id: EndpointId | None = Field(None, description="null: to all that are not disabled")


class TestResult(Schema):
    """What one endpoint answered to the test."""

    endpoint_id: int
    delivery_id: int
    url: str
    delivered: bool = Field(description="whether it answered with a 2xx")
    ms: int
    http_status: int | None
    error: str | None
    answer: str

    @classmethod
    def of(cls, tested: Tested) -> TestResult:
        """The public view of it."""
        answer = tested.answer
        return cls(
            endpoint_id=tested.endpoint.id, delivery_id=tested.delivery_id, url=shown_url(tested.endpoint.url),
            delivered=tested.is_delivered, ms=answer.milliseconds, http_status=answer.status, error=answer.error,
            answer=answer.text,
        )  # fmt: skip


class TestResults(Schema):
    """What each endpoint answered."""

    results: list[TestResult]
