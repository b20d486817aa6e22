"""A video as a task of Runway's: what its `GET` and `DELETE /v1/tasks/{id}` say of it, for Runway's own SDKs.

An SDK knows six statuses; any other ends its wait, and so does FAILED: a video that will be tried again never shows it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from service.context import Context
from service.deadline import Deadline
from service.errors import Conflict, Gone, NotFound, NotInLedger
from service.operations import changing, reading
from service.operations.waiting import Reason, Waiting, waiting
from service.store import calls
from service.videos import FailureCode, Status, Video

PENDING, THROTTLED, RUNNING, SUCCEEDED, FAILED = "PENDING", "THROTTLED", "RUNNING", "SUCCEEDED", "FAILED"
OWN_CODE = "TAXIWAY."  # before our own failure codes: no client takes one for a code that it may try again
WITHOUT_CODE = f"{OWN_CODE}FAILED"  # an absent code, too, would invite another payment
# What a queued video waits for that passes with the next call.
ABOUT_TO_GO = (Reason.NEXT_TICK, Reason.NO_TICK)
# These may have cost as much as was quoted, and Runway has not said what.
MAY_HAVE_COST = (FailureCode.SUBMISSION_UNKNOWN, FailureCode.TASK_VANISHED, FailureCode.TASK_TIMEOUT)


async def retrieve(ctx: Context, video_id: UUID, deadline: Deadline | None) -> dict[str, Any]:
    """The task as Runway would show it. `deadline`: of a request that may submit the video in its turn.

    Raises NotFound, and NotInLedger for an id that may be a task which Taxiway did not make.
    """
    await _check_shown(ctx, video_id)
    try:
        video = await reading.read_with_outputs(ctx, video_id, deadline)
    except Gone as exc:
        raise _no_task(video_id) from exc
    return shown(video, (await waiting(ctx, [video])).get(video.id))


async def discard(ctx: Context, video_id: UUID) -> None:
    """Cancel a video that has not ended; one that has is kept, and shown here no more. Raises NotFound."""
    await _check_shown(ctx, video_id)
    try:
        await changing.cancel(ctx, video_id)
    except Gone as exc:
        raise _no_task(video_id) from exc
    except Conflict as exc:
        match exc.extra.get("video_status"):
            case None:  # locked at the moment
                raise
            case Status.CANCELLED:
                raise _no_task(video_id) from exc
        await calls.hide(ctx.database, video_id, ctx.actor)


async def _check_shown(ctx: Context, video_id: UUID) -> None:
    """From now on its caller is known to have its id. Raises NotFound and NotInLedger."""
    state = await calls.state(ctx.database, video_id)
    if state is None and not await calls.has_task(ctx.database, str(video_id)):
        raise NotInLedger(f"nothing in the ledger has the id {video_id}")
    if state is None or state["is_hidden"]:
        raise _no_task(video_id)
    await reading.check_visible(ctx, video_id)
    if state["is_unread"]:
        await calls.note_read(ctx.database, video_id)


def _no_task(video_id: UUID) -> NotFound:
    return NotFound(f"no video has the id {video_id}")


def shown(video: Video, why: Waiting | None) -> dict[str, Any]:
    """The body of the answer. `why`: what it waits for. Raises NotFound for one that was cancelled."""
    head: dict[str, Any] = {"id": str(video.id), "createdAt": _time(video.created_at)}
    match video.status:
        case Status.QUEUED | Status.PROCESSING:
            status = _queued_status(video, why) if video.status is Status.QUEUED else _status_at_runway(video)
            head |= {"status": status, "estimatedCost": {"credits": credits(video.quoted_credits)}}
            return head | ({"progress": video.progress or 0.0} if status == RUNNING else {})
        case Status.COMPLETED:
            output = video.output or [video.video_url or ""]
            return head | {"status": SUCCEEDED, "output": output, "cost": {"credits": _cost(video)}}
        case Status.FAILED:
            words = video.error_message or "no reason is known"
            failure = {"failure": words, "failureCode": failure_code(video.error_code)}
            return head | {"status": FAILED, **failure, "cost": {"credits": _cost(video)}}
    raise _no_task(video.id)


def _queued_status(video: Video, why: Waiting | None) -> str:
    is_sent_back = video.retries or video.task_retries
    return PENDING if why is not None and why.reason in ABOUT_TO_GO and not is_sent_back else THROTTLED


def _status_at_runway(video: Video) -> str:
    """Runway's last word, if it is one of those that an SDK goes on waiting with."""
    if not video.runway_video_id or video.task_status in (None, PENDING):
        return PENDING
    return THROTTLED if video.task_status == THROTTLED else RUNNING


def failure_code(code: str | None) -> str:
    """Runway's own code as it is, ours with a prefix."""
    if code is None:
        return WITHOUT_CODE
    return f"{OWN_CODE}{code}" if code in FailureCode.__members__ else code


def credits(amount: Decimal | None) -> float:
    """An amount as a JSON number, whole where it is."""
    amount = amount or Decimal(0)
    return int(amount) if amount == amount.to_integral_value() else float(amount)


def _cost(video: Video) -> int:
    """What it has cost, rounded up; the most that it may have cost where Runway has not said."""
    cost = video.cost_credits
    if cost is None and (video.status is Status.COMPLETED or video.error_code in MAY_HAVE_COST):
        cost = video.quoted_credits
    return math.ceil(cost or 0)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
