"""GET /metrics for Prometheus: read from the database when asked, so that it is true with any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from service import version_of_package
from service.context import Context
from service.store import link_queries, maintenance, models, queue_stats, spending, throughput, ticks
from service.store.link_queries import Troubled
from service.store.throughput import Hour
from service.videos import Status

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PERCENTILES = ("50", "95")
OUTCOMES = ("accepted", "not_sent", "rejected", "unknown", "open")


@dataclass(frozen=True)
class Facts:
    """Everything that the metrics are made of, as it was read."""

    report: dict[str, Any]
    tick_age_seconds: float | None
    models: list[Mapping[str, Any]]
    linked: list[Troubled]
    hour: Hour
    spent_today: dict[str, float]
    account: tuple[dict[str, Any], datetime] | None
    now: datetime


async def show(ctx: Context, request: Request) -> Response:
    """GET /metrics, in the form that the Accept header asks for."""
    facts = await read(ctx)
    # What few processes need, and takes a while to import.
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(facts))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def read(ctx: Context) -> Facts:
    """Read all of it."""
    database = ctx.database
    last = await ticks.last(database)
    return Facts(
        report=await queue_stats.report(database),
        tick_age_seconds=last[2] if last else None,
        models=[dict(row) for row in await models.every(database)],
        linked=await link_queries.troubled(database),
        hour=await throughput.last_hour(database),
        spent_today={model: float(credits) for model, credits in (await spending.today(database)).items()},
        account=await maintenance.account(database),
        now=await database.fetchval("SELECT taxiway.now()"),
    )


class _Collector:
    """What prometheus-client asks for, and calls when it writes."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        yield from _build()
        yield from _queue(self._facts)
        yield from _machinery(self._facts)
        yield from _last_hour(self._facts.hour)
        yield from _money(self._facts)


def _gauge(name: str, words: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    gauge = GaugeMetricFamily(f"taxiway_{name}", words, labels=labels)
    for key, value in values.items():
        gauge.add_metric(key, value)
    return gauge


def _one(name: str, words: str, value: float) -> Metric:
    return _gauge(name, words, {(): value})


def _build() -> Iterator[Metric]:
    yield _gauge("build_info", "The version, as a label.", {(version_of_package(),): 1}, "version")


def _queue(facts: Facts) -> Iterator[Metric]:
    report = facts.report
    counts = dict.fromkeys((status.value for status in Status), 0) | report["counts"]
    yield _gauge("videos", "Videos by status.", {(status,): n for status, n in counts.items()}, "status")
    age = (facts.now - report["counted_at"]).total_seconds() if report["counted_at"] else 0.0
    yield _one("videos_age_seconds", "How old the counts are of videos that have ended; the others are exact.", age)
    oldest = report["oldest_queued_seconds"] or 0.0
    yield _one("queue_oldest_age_seconds", "How long the oldest queued video has been due; 0 if none is.", oldest)
    yield _one("stuck", "Videos and submissions that no tick came back to in time.", report["stuck"])
    words = "Submissions with an unknown outcome that wait for a decision."
    yield _one("unknown_submissions", words, report["unknown"])
    words = "The most that submissions with an unknown outcome may have cost, in Runway's credits."
    yield _one("unknown_credits_max", words, report["unknown_credits"])
    words = "Videos that Runway's moderation refused in the last hour; it suspends accounts for repeated ones."
    yield _one("moderated_last_hour", words, report["moderated"])


def _machinery(facts: Facts) -> Iterator[Metric]:
    if facts.tick_age_seconds is not None:  # no sample, rather than one that lies: there was no tick
        yield _one("tick_age_seconds", "How long ago the last tick ended.", facts.tick_age_seconds)
    paused: dict[tuple[str, ...], float] = {
        (model["model"], model["reason"] or ""): float(bool(model["reason"])) for model in facts.models
    }
    words = "1 where a model is paused, and why; `all` is all of them."
    yield _gauge("model_paused", words, paused, "model", "reason")
    yield _one("links_paused", "Linked tables that are paused.", sum(one.paused is not None for one in facts.linked))
    words = "Rows of linked tables that refuse to show their videos."
    yield _one("link_rows_refusing", words, sum(one.rows for one in facts.linked))
    words = "Tasks at Runway, and creates on their way there."
    models = [model for model in facts.models if model["model"] != "all"]
    yield _gauge("in_flight", words, {(model["model"],): model["in_flight"] for model in models}, "model")
    words = "How many creates of each model may be on their way at once."
    yield _gauge("model_max_in_flight", words, {(m["model"],): m["may_be_in_flight"] for m in models}, "model")
    words = "Videos that wait in each model."
    yield _gauge("model_queued", words, {(model["model"],): model["queued"] for model in models}, "model")


def _last_hour(hour: Hour) -> Iterator[Metric]:
    words = "Videos that ended in the last hour, by status."
    yield _gauge("ended_last_hour", words, {(status,): n for status, n in hour.ended.items()}, "status")
    words = "Creates that were permitted in the last hour, by what they came to."
    outcomes = dict.fromkeys(OUTCOMES, 0) | hour.submissions
    yield _gauge("submissions_last_hour", words, {(outcome,): n for outcome, n in outcomes.items()}, "outcome")
    for name, words, values in (
        ("submit_seconds", "From created until it was sent to Runway, of what ended in the last hour.", hour.submit),
        ("done_seconds", "From created until completed, of what was completed in the last hour.", hour.done),
    ):
        shares: dict[tuple[str, ...], float] = {
            (share,): value for share, value in zip(PERCENTILES, values, strict=False) if value is not None
        }
        yield _gauge(name, words, shares, "percentile")


def _money(facts: Facts) -> Iterator[Metric]:
    words = "What today's (UTC) submissions cost, or may cost, in Runway's credits."
    yield _gauge("credits_spent_today", words, {(model,): n for model, n in facts.spent_today.items()}, "model")
    if facts.account is None or facts.account[0].get("credits") is None:
        return
    seen, at = facts.account
    yield _one("credits_left", "Runway's credits left, when they were seen last.", seen["credits"])
    age = (facts.now - at).total_seconds()
    yield _one("credits_left_age_seconds", "How long ago Runway was asked for the credits left.", age)
