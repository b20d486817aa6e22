"""Deliver: what is due to receivers is sent to them, each in its own slots, and what came of it is written down.

A delivery is claimed, which leases it; then it is sent; then it is recorded. A process that dies in between leaves it
to the next one: it is delivered at least once, always under the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from service.context import Context, Counts
from service.deadline import Share
from service.logs import VIDEO, event
from service.operations.delivery_rules import iso, result_of
from service.operations.finalize import now
from service.operations.sending import Answer, Sender, body_of, data_of, sending, shown
from service.settings import Settings
from service.store import audit, deliveries, endpoints
from service.store.audit import Audit, Until
from service.store.deliveries import AttemptRow, Due
from service.store.endpoints import Configured
from service.videos import Video

log = logging.getLogger(__name__)

NOTHING: Counts = {"delivered": 0, "refused": 0, "given_up": 0}
ALERTS = ("alert.raised", "alert.cleared")
SLOTS = 50  # attempts at once, in one process
TIMEOUT_SECONDS = 15.0  # of one attempt
CLAIM_AGAIN_SECONDS = 1.0  # a slow receiver keeps no other waiting for longer
GATHER_SECONDS = 0.01
REQUEST_SECONDS = 2.0  # that a request may wait for what it delivers beside its own work
Claim = Callable[[int], Awaitable[list[Due]]]  # leases at most so many deliveries to the caller
Reported = Sequence[tuple[Video, Audit]]  # videos as they were then, each with what it has cost
_COUNTED = {"delivered": "delivered", "retry": "refused", "failed": "given_up", "disabled": "given_up"}


def configured(settings: Settings) -> list[Configured]:
    """The endpoints that the settings name."""
    webhooks = [Configured("webhook", url, settings.webhook_events) for url in dict.fromkeys(settings.webhook_url)]
    return webhooks + [Configured("alert", url, ALERTS) for url in dict.fromkeys(settings.alert_url)]


async def configure(ctx: Context) -> None:
    """Let the database say which endpoints the settings name, before anything can end: once in a process."""
    if ctx.outbox.is_configured or not (ctx.settings.webhook_url or ctx.settings.alert_url):
        return
    named = configured(ctx.settings)
    if await endpoints.differ(ctx.database, named):
        await endpoints.configure(ctx.database, named)
    ctx.outbox.is_configured = True


async def run(ctx: Context, share: Share, *, in_request: bool = False) -> Counts:
    """Deliver what is due until nothing is, or the time is over; then what was begun is waited for.

    `in_request`: a request waits for it. What that cuts off is left to the ticks.
    """
    if not ctx.settings.webhook_secrets:
        return dict(NOTHING)
    if not share.may_ask:
        return dict(NOTHING)

    async def claim(most: int) -> list[Due]:
        return await deliveries.claim(ctx.database, most, for_ticks=not in_request)

    return await attempt(ctx, share, await claim(SLOTS), claim, in_request=in_request)


async def nothing_more(_most: int) -> list[Due]:
    """A `Claim` that claims nothing."""
    return []


async def attempt(
    ctx: Context,
    share: Share,
    first: list[Due],
    more: Claim = nothing_more,
    *,
    in_request: bool = False,
    on_done: Callable[[Due, AttemptRow], None] | None = None,
) -> Counts:
    """Attempt what the caller has claimed, and what `more` claims while there are slots. `on_done` hears of each."""
    if not first:
        return dict(NOTHING)
    async with sending(ctx, SLOTS) as sender:
        window = _Window(ctx, sender, share, more, in_request=in_request, on_done=on_done)
        await window.run(first)
    return NOTHING | window.counts


async def reported(ctx: Context, dues: Sequence[Due], *, ended: bool = False) -> dict[int, Reported]:
    """By id, the videos that each delivery reports, and what each has cost. `ended`: also of one that is not due."""
    videos = await deliveries.videos_of(ctx.database, [due.id for due in dues], ended=ended)
    wanted = [
        Until(due.id, video.id, due.created_at if due.group_id is None else now(ctx))
        for due in dues
        for video in videos.get(due.id, ())
    ]
    accounts = await audit.until(ctx.database, wanted) if wanted else {}
    return {due.id: [(video, accounts[due.id, video.id]) for video in videos.get(due.id, ())] for due in dues}


def sent_body(due: Due, videos: Reported) -> bytes | None:
    """What a delivery sends; None where there is nothing to say: its video is gone, or erased."""
    data = data_of(due, [shown(video, account) for video, account in videos])
    return None if data is None else body_of(due, data)


def attempt_of(answer: Answer, began: str) -> dict[str, Any]:
    """What is kept of an attempt; `began`: when, as the API writes it."""
    kept = {"at": began, "ms": answer.milliseconds, "http_status": answer.status, "error": answer.error}
    return kept | {"answer": answer.text}


class _Window:
    """Attempts under way, as many as there are slots."""

    def __init__(
        self,
        ctx: Context,
        sender: Sender,
        share: Share,
        claim: Claim,
        *,
        in_request: bool,
        on_done: Callable[[Due, AttemptRow], None] | None,
    ) -> None:
        self.ctx, self.sender, self.share, self.claim = ctx, sender, share, claim
        self.in_request, self.on_done = in_request, on_done
        self.calls: set[asyncio.Task[AttemptRow]] = set()
        self.counts: Counter[str] = Counter()

    async def run(self, claimed: list[Due]) -> None:
        try:
            await self._begin(claimed)
            while self.calls:
                done, self.calls = await asyncio.wait(
                    self.calls, timeout=CLAIM_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if done and self.calls:  # those that come together are recorded together
                    more, self.calls = await asyncio.wait(self.calls, timeout=GATHER_SECONDS)
                    done |= more
                await self._record([call.result() for call in done])
                free = SLOTS - len(self.calls)
                if free and self.share() and self.share.may_ask:
                    await self._begin(await self.claim(free))
        finally:
            for call in self.calls:  # nothing is left running, whatever went wrong
                call.cancel()
            if self.calls:
                await asyncio.wait(self.calls)

    async def _begin(self, claimed: list[Due]) -> None:
        if not claimed:
            return
        found = await reported(self.ctx, claimed)
        for due in claimed:
            self.calls.add(asyncio.create_task(self._done(due, found[due.id])))

    async def _done(self, due: Due, videos: Reported) -> AttemptRow:
        row = await self._attempt(due, videos)
        if self.on_done is not None:
            self.on_done(due, row)
        return row

    async def _attempt(self, due: Due, videos: Reported) -> AttemptRow:
        """One attempt, and what it came to; whatever goes wrong costs this delivery alone a try."""
        began = iso(now(self.ctx))
        seconds = self.share.ask_seconds(TIMEOUT_SECONDS)
        if seconds <= 0:
            return AttemptRow(
                due.id, due.endpoint_id, "unsent", 0.0, {"at": began, "error": "not sent: the time was over"}
            )
        try:
            body = sent_body(due, videos)
            if body is None:
                return AttemptRow(due.id, None, "dropped", 0.0, {"at": began, "error": "the video is gone, or erased"})
            answer = await self.sender.post(due, body, seconds)
        except Exception as exc:
            event(
                log, VIDEO, "delivery_broke", "A delivery failed in an unforeseen way", level=logging.ERROR, trace=True
            )
            answer = Answer(0, error=type(exc).__name__)
        return self._judged(due, answer, began)

    def _judged(self, due: Due, answer: Answer, began: str) -> AttemptRow:
        attempt = attempt_of(answer, began)
        if answer.timed_out and self.in_request:
            return AttemptRow(due.id, due.endpoint_id, "cut", 0.0, attempt)
        is_own = due.endpoint_id is None
        result, delay = result_of(
            answer.status, tries=due.tries, is_own=is_own, retry_after=answer.retry_after, random=self.ctx.random()
        )
        self.counts[_COUNTED[result]] += 1
        if result != "delivered":
            came_to = answer.error or f"HTTP {answer.status}"
            words = f"Webhook {due.event} not delivered ({came_to}): {_WORDS[result].format(delay=delay)}"
            level = logging.WARNING if result != "retry" and not is_own else logging.INFO
            event(log, VIDEO, "webhook_" + result, words, level=level, video=due.video_id)
        return AttemptRow(due.id, due.endpoint_id, result, delay, attempt)

    async def _record(self, rows: list[AttemptRow]) -> None:
        if rows:
            await deliveries.record(self.ctx.database, rows)


_WORDS = {
    "retry": "the next attempt is in {delay:.0f} s",
    "failed": "that was the last attempt",
    "disabled": "the address is gone, and gets nothing any more until it is enabled again",
}


async def within_request(ctx: Context) -> None:
    """Deliver what is due inside a request, before it is answered. Whatever fails is logged: the answer stands.

    A process asks once a second at most, but at once where its own request ended a video.
    """
    if not ctx.settings.webhook_secrets or not ctx.outbox.take(ctx.monotonic()):
        return
    ends = ctx.monotonic() + REQUEST_SECONDS
    try:
        async with asyncio.timeout(REQUEST_SECONDS + 1):  # the database has its own share of trouble
            await run(ctx, Share(ctx.monotonic, ends, ends), in_request=True)
    except Exception as exc:
        words = f"What is due was not delivered in this request ({type(exc).__name__}): the next one, or a tick, does"
        event(log, VIDEO, "delivery_failed", words, level=logging.WARNING)
