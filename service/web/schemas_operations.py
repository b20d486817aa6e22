"""The shapes of the operators' API: models, ticks, statistics, the account. They validate, and make the document."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.operations.accounting import Spending
from service.operations.video_view import Schema
from service.runway.account import Account
from service.store.throughput import BUCKETS, Bucket, Span
from service.store.usage import Usage
from service.web.schemas import PlainText

LONGEST_PAUSE_SECONDS = 31 * 86_400.0
Seconds = Annotated[float | None, Field(description="seconds; null if there was nothing")]


class PauseRequest(Schema):
    """For how long a model is to be paused, and why."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    seconds: float = Field(3600, ge=1, le=LONGEST_PAUSE_SECONDS, description="of two pauses, the longer stands")
    why: PlainText = Field("paused manually", description="shown beside the pause")


class AttachRequest(Schema):
    """Which task an unknown submission made."""

    model_config = ConfigDict(extra="forbid")

    task_id: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,200}$",
        description="from Runway's Request History; it is checked with Runway first",
    )


class ModelView(Schema):
    """One model, or `all` for all of them."""

    model: str
    paused: bool
    reason: str | None = Field(
        description="a word: manual, no_credits, key_refused, not_runway, daily_limit, daily_budget, ..."
    )
    detail: str | None = Field(description="in words")
    paused_until: datetime | None = Field(description="then one video tries again; null: when it is resumed")
    paused_at: datetime | None
    queued: int
    in_flight: int = Field(description="tasks at Runway, and creates on their way there")
    may_be_in_flight: int | None = Field(
        description="how many creates may be on their way at once; null for `all`, and before the first"
    )

    @classmethod
    def of(cls, row: dict[str, Any]) -> ModelView:
        """The public view of a row of `store.models.every`."""
        return cls(model=row.pop("model"), paused=row["reason"] is not None, **row)


class ModelList(Schema):
    """Every model that was ever used, `all` first."""

    models: list[ModelView]


class TickQuery(Schema):
    """How many ticks to list."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(20, ge=1, le=200, description="how many, newest first")


class TickView(Schema):
    """One tick."""

    id: int
    ref: str | None = Field(description="each log line of this tick bears it as `tick`")
    kind: str = Field(description="tick, worker or poll")
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    counts: dict[str, Any] = Field(description="what was done, by step")
    error: str | None = Field(description="the steps that failed, in words")


class TickList(Schema):
    """The last ticks, newest first."""

    ticks: list[TickView]


class StatsQuery(Schema):
    """How far back to look."""

    model_config = ConfigDict(extra="forbid")

    window: Literal["hour", "day", "week"] = Field("hour", description="by the minute, quarter of an hour, or hour")
    user_id: PlainText | None = Field(None, description="of the videos of one user")


class BucketView(Schema):
    """One stretch of time. The times are those of the videos that ended in it, counted from when they were created."""

    at: datetime = Field(description="when it begins")
    enqueued: int
    completed: int
    failed: int
    submit_p50: Seconds
    submit_p95: Seconds
    done_p50: Seconds
    done_p95: Seconds


class Stats(Schema):
    """Statistics, oldest bucket first; the last one is still filling."""

    window: Literal["hour", "day", "week"]
    bucket_seconds: int
    buckets: list[BucketView]
    in_flight: dict[str, int] = Field(description="with Runway now, or on the way there, by model")

    @classmethod
    def of(cls, window: Span, buckets: list[Bucket], in_flight: dict[str, int]) -> Stats:
        """The public view of a series."""
        views = [BucketView(**asdict(bucket)) for bucket in buckets]
        return cls(window=window.value, bucket_seconds=BUCKETS[window][0], buckets=views, in_flight=in_flight)


class UsageQuery(Schema):
    """Whose cost, and of which days."""

    model_config = ConfigDict(extra="forbid")

    days: int = Field(7, ge=1, le=92, description="days (UTC), today included")
    user_id: PlainText | None = Field(None, description="of the videos of one user")
    model: PlainText | None = Field(None, description="of one model of Runway's")
    limit: int = Field(1_000, ge=1, le=10_000, description="rows, the newest day first")


class UsageRow(Schema):
    """What one day cost, of one model and one user."""

    model_config = ConfigDict(from_attributes=True)

    day: date
    model: str
    user_id: str | None = Field(description="null: of videos without a user, and of those that were erased")
    submissions: int = Field(description="creates that were, or may have been, accepted")
    paid: float = Field(description="credits, as Runway reports them; 1 credit is $0.01")
    credits: float = Field(description="the most: with the bound of what is not known yet")


class UsageView(Schema):
    """What was spent, by day, model and user: the newest day first, and of each day what cost the most."""

    model_config = ConfigDict(from_attributes=True)

    rows: list[UsageRow]
    total: float = Field(description="credits of all that match")
    has_more: bool = Field(description="there are more rows than `limit`")

    @classmethod
    def of(cls, found: Usage) -> UsageView:
        """The public view of it."""
        return cls.model_validate(found)


class ModelLimits(Schema):
    """What the account's tier allows for one model; null where there is no limit."""

    model: str
    at_once: float | None
    a_day: float | None
    made_today: float | None


class AccountView(Schema):
    """The account behind the key, as Runway described it just now."""

    credits: float | None = Field(description="Runway's credits left; 1 credit is $0.01")
    spent_today: float = Field(description="what today's (UTC) submissions cost, or may cost")
    max_a_day: float | None = Field(description="MAX_CREDITS_PER_DAY")
    models: list[ModelLimits]

    @classmethod
    def of(cls, seen: Account, spent: Spending) -> AccountView:
        """The public view of what Runway says of the account."""
        account = seen.model_dump(mode="json")
        models = [ModelLimits(model=model, **limits) for model, limits in account["models"].items()]
        most = None if spent.most is None else float(spent.most)
        return cls(credits=account["credits"], spent_today=float(spent.today), max_a_day=most, models=models)
