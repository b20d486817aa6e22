"""What a video costs, as a list shows it: paid, a bound, or only a quote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal
from uuid import UUID

from service.context import Context
from service.store import audit
from service.store.audit import Audit
from service.videos import Video


@dataclass(frozen=True)
class Cost:
    """`paid`: as Runway reports it; `at_most`: charged, or perhaps, up to this; `quoted`: nothing was charged yet."""

    kind: Literal["paid", "at_most", "quoted"]
    credits: Decimal | None


async def costs_of(ctx: Context, videos: Sequence[Video]) -> dict[UUID, Cost]:
    """What each of these videos costs, by its id."""
    accounts = await audit.of_videos(ctx.database, [video.id for video in videos])
    return {video.id: cost_of(video, accounts.get(video.id)) for video in videos}


def cost_of(video: Video, account: Audit | None) -> Cost:
    """What this video costs; `account`: of its ledger, None without any submission."""
    if account is not None and account.most > account.paid:
        return Cost("at_most", account.most)
    if account is not None and account.paid:
        return Cost("paid", account.paid)
    return Cost("paid", Decimal(0)) if video.status.terminal else Cost("quoted", video.quoted_credits)
