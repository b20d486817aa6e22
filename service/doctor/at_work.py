"""The cheap checks: settings, queue, models, cron and linked tables, out of one report of the database.

`/health`, the page and `taxiway status` show these very checks; `taxiway doctor` has them among all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.doctor import linked_tables, webhooks_out
from service.doctor.checks import Check, CheckStatus, missing, ranked
from service.doctor.queue import cron, paused_model, queue
from service.settings import Settings
from service.store import deliveries, doctor_queries, endpoints, link_queries, models, queue_stats
from service.store.database import Database
from service.store.endpoints import TroubledEndpoint
from service.store.link_queries import Troubled


@dataclass(frozen=True)
class Facts:
    """What the database reports of an installation at work, and what of it that installation does not use."""

    report: Mapping[str, Any]
    paused: Sequence[Mapping[str, Any]]
    recent: Sequence[Mapping[str, Any]]
    troubled: Sequence[Troubled]
    endpoints: Sequence[TroubledEndpoint]
    unused: frozenset[str]

    @property
    def under_way(self) -> int:
        """How many videos wait for the next tick."""
        counts: Mapping[str, int] = self.report["counts"]
        return counts.get("queued", 0) + counts.get("processing", 0)


async def facts(database: Database) -> Facts:
    """All of it. Raises DatabaseUnavailable and NotConfigured."""
    recent = await doctor_queries.recent_ticks(database)
    return Facts(
        report=await queue_stats.report(database),
        paused=[dict(row) for row in await models.paused(database)],
        recent=recent,
        troubled=await link_queries.troubled(database),
        endpoints=await endpoints.troubled(database, deliveries.FAILING_AT),
        unused=await unused(database, recent),
    )


async def unused(database: Database, recent: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Settings that this installation does without: the API's keys beside linked tables, the cron's beside a worker."""
    found = {"api_keys"} if await doctor_queries.has_links(database) else set()
    if recent and all(tick["kind"] == "worker" for tick in recent):
        found.add("cron_secret")
    return frozenset(found)


def checks(settings: Settings, seen: Facts, now: float) -> list[Check]:
    """Each of them, also those that are ok. `now`: seconds since 1970."""
    return [
        *(one for one in missing(settings, seen.unused) if one.status is not CheckStatus.OK),
        *cron(seen.recent, seen.under_way),
        *queue(seen.report),
        *(paused_model(row, now) for row in seen.paused),
        *linked_tables.troubles(seen.troubled, now),
        *(webhooks_out.troubled(one, now) for one in seen.endpoints),
    ]


def problems(found: Iterable[Check]) -> list[Check]:
    """Those that are not ok, the errors first."""
    return [check for check in ranked(found) if check.status is not CheckStatus.OK]
