"""Calls of Runway's SDKs: each makes one video, however often the SDK sends it.

An SDK sends a create up to three times, and says with `x-stainless-retry-count` which attempt it is; nothing names the
call. An `Idempotency-Key` decides, where a caller sends one. Otherwise attempts with the same bytes from the same
client belong together, as `store/calls.py` says: in doubt they are merged, because that never pays twice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from service.context import Context
from service.errors import OverLimit, TaxiwayError, WouldWait
from service.operations import enqueuing, limits
from service.operations.budget import REASON as DAILY_BUDGET
from service.operations.enqueuing import IdempotencyKey, VideoSpec
from service.operations.finalize import now
from service.runway.outcomes import ALL_MODELS, Reason
from service.store import calls, models, video_rows
from service.store.calls import Call
from service.store.video_rows import NewVideo
from service.videos import Video

READ_TIMEOUT_SECONDS = 60.0  # of both SDKs, unless their header says otherwise
LONGEST_READ_TIMEOUT_SECONDS = 3600.0
# Between two attempts an SDK waits for the answer, then up to 60 s as `Retry-After` says; 10 s are for the network.
PAUSES_SECONDS = 70.0
LONGEST_COUNT = 3  # digits; what has more counts no attempts
RETRY_COUNT = "x-stainless-retry-count"
READ_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")  # Python's and Node's
# Of the headers, what is the same in all attempts and may differ between callers.
_SAME = ("x-stainless-", "taxiway-")
# Pauses that a caller who wants to fail fast hears of; the others end by themselves.
FAIL_FAST = frozenset({Reason.NO_CREDITS, Reason.DAILY_LIMIT, Reason.KEY_REFUSED, DAILY_BUDGET})


def call_of(secret: str, operation: str, body: bytes, headers: Mapping[str, str]) -> Call:
    """Which call this request is an attempt of. `secret`: the API key; `headers`: with lower-case names."""
    parts = [secret.encode(), operation.encode(), hashlib.sha256(body).digest()]
    parts += [
        f"{name}:{value}".encode("utf-8", "surrogateescape")
        for name, value in sorted(headers.items())
        if name == "user-agent" or (name.startswith(_SAME) and name != RETRY_COUNT)
    ]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()[:16]
    read_timeout = next((seconds for name in READ_TIMEOUTS if (seconds := _seconds(headers.get(name)))), None)
    return Call(digest, _attempt(headers), 2 * (read_timeout or READ_TIMEOUT_SECONDS) + PAUSES_SECONDS)


def _attempt(headers: Mapping[str, str]) -> int:
    text = headers.get(RETRY_COUNT, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_COUNT else 0


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_READ_TIMEOUT_SECONDS) if math.isfinite(seconds) and seconds > 0 else None


async def enqueue(
    ctx: Context, spec: VideoSpec, call: Call | IdempotencyKey, *, fail_fast: bool = False
) -> tuple[Video, bool]:
    """Queue what a call asks for; (the video, whether it is new). A repeat adds nothing, so no limit refuses it.

    `fail_fast`: raise WouldWait where it would wait for credits, for the day's limit or for a valid key. Raises
    InvalidRequest and OverLimit too, and DatabaseUnavailable, after which the same call may be sent again.
    """
    new = enqueuing.build(ctx, spec, call if isinstance(call, IdempotencyKey) else None)
    refusal = await _refusal(ctx, new, fail_fast=fail_fast)
    if isinstance(call, Call):
        return await calls.enqueue(ctx.database, new, call, refusal)
    if refusal is None:
        return await video_rows.enqueue(ctx.database, new)
    known = await video_rows.known(ctx.database, new)
    if known is None:
        raise refusal
    return known, False


async def _refusal(ctx: Context, new: NewVideo, *, fail_fast: bool) -> TaxiwayError | None:
    """Why no new video may be queued now, if that is so."""
    try:
        await limits.check_queue(ctx)
        await limits.check_credits(ctx, new.quoted_credits)
    except OverLimit as exc:
        return exc
    for row in await models.paused(ctx.database) if fail_fast else ():
        lasts = row["paused_until"] is None or row["paused_until"] > now(ctx)
        if lasts and row["reason"] in FAIL_FAST and row["model"] in (new.model, ALL_MODELS):
            return WouldWait(row["detail"] or row["reason"], row["reason"])
    return None
