"""What an attempt to deliver a webhook means: delivered, to be tried again, or over. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

GONE, NOT_FOUND = 410, 404
# Seconds from one attempt to the next: ten attempts over about 75 hours, as Standard Webhooks proposes.
DELAYS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# At the address of one video, 404 and 410 say that what waited there has ended: two more tries, in case it has yet to
# begin.
QUICK_DELAYS = (5, 30)
JITTER = 0.1  # of a delay, up or down
LONGEST_RETRY_AFTER_SECONDS = 86_400.0
REQUEST_WAIT = re.compile(r"[0-9]{1,9}")


def result_of(
    status: int | None, *, tries: int, is_own: bool, retry_after: float | None, random: float
) -> tuple[str, float]:
    """What becomes of a delivery: (its result, seconds until the next attempt).

    `status`: of the answer, None without one; `tries`: the attempts before; `is_own`: the address came with the video;
    `retry_after`: seconds that the answer asked for; `random`, in [0, 1), spreads attempts that failed together.
    """
    if status is not None and 200 <= status < 300:
        return "delivered", 0.0
    if status == GONE and not is_own:
        return "disabled", 0.0
    delays = QUICK_DELAYS if is_own and status in (NOT_FOUND, GONE) else DELAYS
    if tries >= len(delays):
        return "failed", 0.0
    delay = delays[tries] * (1 - JITTER + 2 * JITTER * random)
    return "retry", max(delay, retry_after or 0.0)


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """The header Retry-After as seconds from `now` (Unix), at most a day; None for what is none of its two forms."""
    if value is None:
        return None
    if REQUEST_WAIT.fullmatch(value):
        seconds = float(value)
    else:
        try:
            when = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def iso(when: datetime) -> str:
    """A time as the API writes it."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
