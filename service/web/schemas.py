"""The API's own shapes. The same classes validate requests and make the OpenAPI document."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AwareDatetime,
    ConfigDict,
    Field,
    RootModel,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
)

from service.operations.enqueuing import VideoSpec
from service.operations.groups import LARGEST_GROUP
from service.operations.reading import VideoList
from service.operations.reporting import CostReport
from service.operations.video_view import Credits, Schema, State, VideoView
from service.runway.catalogue import lenient as lenient_fields
from service.store.search import Wanted

MOST_CREDITS = 1_000_000  # of one video; what is meant is far less
LARGEST_METADATA_BYTES = 16_000
FIRST_YEAR, LAST_YEAR = 1970, 2199  # what is counted on from here must stay inside Python's calendar


PlainText = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class RowReference(Schema):
    """A row of a linked table."""

    model_config = ConfigDict(extra="forbid")

    link: PlainText = Field(description="the linked table, such as public.videos")
    id: PlainText = Field(description="the key of the row, as text")


class VideoRequest(Schema):
    """A video to be made."""

    model_config = ConfigDict(extra="forbid")

    operation: str | None = Field(None, description="Runway's operation; inferred from the input unless given")
    input: dict[str, Any] = Field(
        description="Runway's own request body; `model`, `ratio` and `duration` have defaults"
    )
    aspect_ratio: PlainText | None = Field(None, description="such as 16:9; sent as a ratio that the model has")
    resolution: PlainText | None = Field(None, description="such as 1280x720 or 720p; the same")
    fps: StrictInt | StrictFloat | None = Field(None, description="frames a second; a warning where a model has none")
    generate_audio: StrictBool | None = Field(None, description="with sound; a warning where a model has none")
    references: list[Any] | None = Field(
        None, min_length=1, max_length=20, description="images to go by; a warning where a model takes none"
    )
    priority: int = Field(0, ge=-100, le=100, description="higher is submitted first")
    run_after: AwareDatetime | None = Field(None, description="not submitted before this time")
    expires_at: AwareDatetime | None = Field(None, description="fails as EXPIRED if still queued by then")
    metadata: dict[str, Any] | None = Field(None, description="yours; returned as it came")
    user_id: PlainText | None = Field(None, description="whose video it is, in your words")
    webhook_url: str | None = Field(
        None,
        max_length=2000,
        description="an address to which its end is reported; see `taxiway docs webhooks`",
    )
    max_credits: float | None = Field(
        None,
        gt=0,
        le=MOST_CREDITS,
        allow_inf_nan=False,
        description="the most that each video may cost; required for a model whose price is not known, and its quote",
    )
    row: RowReference | None = Field(None, description="a row of a linked table that shows this video too")
    count: int = Field(1, ge=1, le=LARGEST_GROUP, strict=True, description="so many videos of this request: a group")

    def spec(self) -> VideoSpec:
        """The same for `operations.enqueuing`."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        lenient = {name: values.pop(name) for name in lenient_fields.NAMES}
        row = None if self.row is None else (self.row.link, self.row.id)
        most = None if self.max_credits is None else Decimal(str(self.max_credits))
        return VideoSpec(**(values | {"row": row, "lenient": lenient, "max_credits": most}))

    @field_validator("run_after", "expires_at")
    @classmethod
    def _sensible(cls, value: datetime | None) -> datetime | None:
        if value is not None and not FIRST_YEAR <= value.year <= LAST_YEAR:
            raise ValueError(f"must be a time in the years {FIRST_YEAR} to {LAST_YEAR}")
        return value

    @field_validator("metadata")
    @classmethod
    def _storable(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        text = json.dumps(value)
        if len(text) > LARGEST_METADATA_BYTES:
            raise ValueError(f"must be at most {LARGEST_METADATA_BYTES} bytes of JSON")
        if "\\u0000" in text:
            raise ValueError("must not contain the character NUL")
        return value


class RetryRequest(Schema):
    """How to retry a failed video."""

    model_config = ConfigDict(extra="forbid")

    accept_double_charge: bool = Field(
        False,
        strict=True,
        description="needed for SUBMISSION_UNKNOWN and TASK_VANISHED: Runway may charge a second time",
    )


class ListQuery(Schema):
    """Which videos to list."""

    model_config = ConfigDict(extra="forbid")

    status: list[State] | None = Field(None, description="one or more, separated by commas")
    model: PlainText | None = Field(None, description="a model of Runway's")
    error_code: PlainText | None = Field(None, description="a reason")
    q: PlainText | None = Field(None, description="an id, a Runway id, or else words of the prompt and the metadata")
    group: UUID | None = Field(None, description="of the videos of one request")
    user_id: PlainText | None = Field(None, description="of the videos of one user")
    cursor: str | None = Field(None, description="`next` of the page before")
    limit: int = Field(50, ge=1, le=200, description="videos on a page")

    def wanted(self) -> Wanted:
        """The filters, for the store."""
        return Wanted(self.status, self.model, self.error_code, self.q, group=self.group, user_id=self.user_id)

    def before(self) -> tuple[datetime, UUID] | None:
        """Where the page begins; None for the first one."""
        return position(self.cursor) if self.cursor else None

    @field_validator("status", mode="before")
    @classmethod
    def _split(cls, value: list[str]) -> list[str]:
        return [part for text in value for part in text.split(",") if part]

    @field_validator("cursor")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                position(value)
            except ValueError:
                raise ValueError("is not a cursor of this list: use `next` of the page before") from None
        return value


class FileQuery(Schema):
    """Which of a video's outputs."""

    model_config = ConfigDict(extra="forbid")

    output: int = Field(1, ge=1, le=1000, description="its number in `outputs`, counted from 1")


def cursor_of(created_at: datetime, video_id: UUID) -> str:
    """Where the page after this video begins."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}|{video_id}".encode()).decode().rstrip("=")


def position(cursor: str) -> tuple[datetime, UUID]:
    """The time (UTC) and the id that a cursor stands for. Raises ValueError."""
    text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    created_at, _, video_id = text.partition("|")
    when = datetime.fromisoformat(created_at)
    try:
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC), UUID(video_id)
    except OverflowError as exc:
        raise ValueError("the time is beyond the calendar") from exc


class GroupView(Schema):
    """The videos of one request with a count above 1. GET /videos?group= reads them."""

    group: UUID
    size: int
    videos: list[VideoView]


class Enqueued(RootModel[VideoView | GroupView]):
    """A video; with a count above 1 a group of them."""

    model_config = ConfigDict(defer_build=True)


class VideoPage(Schema):
    """Videos, newest first."""

    videos: list[VideoView]
    next: str | None = Field(description="the cursor of the next page")

    @classmethod
    def of(cls, found: VideoList) -> VideoPage:
        """The public view of a page."""
        views = [VideoView.of(video, found.waiting.get(video.id)) for video in found.videos]
        return cls(videos=views, next=cursor_of(*found.next) if found.next else None)


class SubmissionView(Schema):
    """One permitted create, and what it came to."""

    id: int
    model: str
    opened_at: datetime
    closed_at: datetime | None
    outcome: Literal["accepted", "not_sent", "rejected", "unknown"] | None
    http_status: int | None
    request_id: str | None
    error: str | None
    task_id: str | None
    task_status: str | None
    quoted_credits: Credits = None
    estimated_credits: Credits = None
    cost_credits: Credits = None
    consent: Literal["policy", "operator", "app"] | None
    cancel_due: datetime | None
    cancel_reason: str | None
    settled_at: datetime | None


class SubmissionList(Schema):
    """The ledger of one video, oldest first, and what it comes to."""

    verdict: str = Field(description="for people: paid once, paid nothing, unknown (at most so many credits), ...")
    paid_credits: float = Field(description="its cost, as Runway reports it")
    most_credits: float = Field(description="the most that it may have cost")
    twice_credits: float = Field(description="the part of that which may have been paid a second time")
    submissions: list[SubmissionView]

    @classmethod
    def of(cls, cost: CostReport) -> SubmissionList:
        """The public view of what the ledger says of a video."""
        account = cost.account
        return cls(
            verdict=account.verdict,
            paid_credits=float(account.paid),
            most_credits=float(account.most),
            twice_credits=float(account.twice),
            submissions=[SubmissionView.model_validate(row) for row in cost.submissions],
        )


class CallbackHint(Schema):
    """What a callback may say: that a task changed. Nothing else in it is believed."""

    model_config = ConfigDict(extra="ignore")

    task_id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]  # PostgreSQL has no NUL
    video_id: UUID | None = None


class TickCounts(Schema):
    """What one tick did, by step. "errors" names steps that failed."""

    model_config = ConfigDict(extra="allow")

    seconds: float


class ProblemView(Schema):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
