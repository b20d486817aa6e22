"""A video as its callers see it: the same object is answered by the API and reported by webhooks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.operations.outputs import outputs
from service.operations.waiting import Reason, Waiting
from service.store.waiting_facts import MOST_AHEAD
from service.videos import Video

Credits = Annotated[float | None, Field(description="Runway's credits; 1 credit is $0.01")]
State = Literal["queued", "processing", "completed", "failed", "cancelled"]


class Schema(BaseModel):
    """What comes in or goes out over HTTP. Built with its first use: the process starts sooner without."""

    model_config = ConfigDict(defer_build=True)


class Failure(Schema):
    """Why a video failed, or waits."""

    code: str | None = Field(description="Taxiway's reason, or Runway's failureCode")
    message: str | None = Field(description="for people")


class WaitingView(Schema):
    """What a video waits for."""

    reason: Reason = Field(description="a word for programs")
    detail: str = Field(description="a sentence for people")
    until: datetime | None = Field(description="when it goes on, if that is known")
    ahead: int | None = Field(description=f"videos of its model that are sent before it, at most {MOST_AHEAD:,}")
    starts_in: float | None = Field(description="seconds until it begins, by the model's last hour; null: unknown")
    ends_in: float | None = Field(description="seconds until it is probably done; null: unknown")


class WarningView(Schema):
    """What of a request was not sent as it was asked for, or was sent otherwise."""

    model_config = ConfigDict(from_attributes=True)

    type: Literal["unsupported", "other"] = Field(description="unsupported: the model has no such thing")
    feature: str = Field(description="the field of the request")
    message: str = Field(description="for people")


class OutputView(Schema):
    """One file that a completed video came to: a film, an image, a sound or an archive."""

    model_config = ConfigDict(from_attributes=True)

    url: str = Field(description="Runway's own address; dies at expires_at")
    media_type: str
    name: str = Field(description="a name to save it under, which ends as its type does")
    bytes: int | None = Field(description="its size, where that is known")
    expires_at: datetime | None


class VideoView(Schema):
    """A video."""

    id: UUID
    status: State
    operation: str | None
    model: str | None
    input: dict[str, Any] | None = Field(description="data URIs are shortened")
    metadata: Any
    warnings: list[WarningView] = Field(description="what is not sent as it was asked for")
    group: UUID | None = Field(description="of the videos that one request with a count asked for")
    priority: int
    run_after: datetime
    expires_at: datetime | None
    runway_video_id: str | None = Field(description="the task at Runway")
    task_status: str | None
    progress: float | None
    error: Failure | None
    waiting: WaitingView | None = Field(description="why it is still queued, or not yet begun by Runway")
    quoted_credits: Credits = None
    cost_credits: Credits = None
    outputs: list[OutputView] = Field(description="all that it came to; GET /videos/{id} renews addresses that die")
    file: str | None = Field(description="redirects to a live URL of its first output, for as long as Runway has it")
    video_url: str | None = Field(description="Runway's URL of its first output; dies at video_url_expires_at")
    video_url_expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, video: Video, waiting: Waiting | None = None) -> VideoView:
        """The public view of a row. `waiting`: what `operations.waiting` says of it."""
        has_error = video.error_code or video.error_message
        return cls(
            **{name: getattr(video, name) for name in _SAME},
            status=video.status.value,
            input=shortened(video.input),
            warnings=video.warnings or [],
            group=video.group_id,
            error=Failure(code=video.error_code, message=video.error_message) if has_error else None,
            waiting=WaitingView(**vars(waiting)) if waiting else None,
            quoted_credits=_number(video.quoted_credits),
            cost_credits=_number(video.cost_credits),
            outputs=[OutputView.model_validate(one) for one in outputs(video)],
            file=f"/videos/{video.id}/file" if video.video_url else None,
        )


_DIFFERENT = {
    "status", "input", "warnings", "group", "error", "waiting", "quoted_credits", "cost_credits", "outputs", "file",
}  # fmt: skip
_SAME = tuple(name for name in VideoView.model_fields if name not in _DIFFERENT)


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def shortened(value: Any) -> Any:
    """The same JSON value with the contents of data URIs cut out."""
    if isinstance(value, dict):
        return {key: shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shortened(inner) for inner in value]
    if isinstance(value, str) and value.startswith("data:"):
        return value.partition(",")[0][:100] + ",[…]"
    return value
