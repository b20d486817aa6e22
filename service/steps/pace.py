"""Pace: when to look at a task again. Pure.

Runway says how far a running task is. From that its end is foreseen, and the next look is put there: one video needs a
few looks, however long it takes, and is seen sooner after its end than with a fixed rhythm. Whatever Runway says, two
looks at one task are never closer than its own gap, and never further apart than a minute.
"""

from __future__ import annotations

from service.store.tasks import LEAST_GAP_SECONDS, Before

LONGEST_GAP_SECONDS = 60.0
# Without a word about progress: the share of the time that a task has taken so far.
AGE_SHARE = 0.15
# A task that waits for a place at Runway may start, and end, at any time: the share of its age, and the longest gap.
WAITING_SHARE, WAITING_GAP_SECONDS = 0.1, 15.0
WAITING = ("THROTTLED", "PENDING")
# Progress comes in hundredths. What is further away than this is approached in two steps, for progress may not be even.
HUNDREDTH = 0.01
FAR_SECONDS, FAR_SHARE = 8.0, 0.8
# Nor is what is foreseen believed for longer than this share of the time that the task has taken.
TRUST_SHARE = 0.35
# Just past the end that is foreseen: a look right before it would be one too many.
PAST_SECONDS = 0.5
# A task that seems to end any moment, and does not, is looked at less and less often.
LATE_SHARE = 0.01


def poll_delay(
    age_seconds: float, chance: float, *, status: str = "", progress: float | None = None, before: Before | None = None
) -> float:
    """Seconds to the next look at a task that is under way.

    `age_seconds`: since it was sent; `status` and `progress` (0 to 1): what it says now; `before`: what it said at
    the look before. `chance`, in [0, 1), spreads looks at tasks that began together.
    """
    if status in WAITING:
        wanted = min(age_seconds * WAITING_SHARE, WAITING_GAP_SECONDS) * (1 + chance / 5)
    elif progress is None or progress < HUNDREDTH:
        wanted = age_seconds * AGE_SHARE * (1 + chance / 5)
    else:
        left = _left_seconds(age_seconds, progress, before)
        wanted = left * FAR_SHARE if left > FAR_SECONDS else max(left + PAST_SECONDS, age_seconds * LATE_SHARE)
        wanted = min(wanted, age_seconds * TRUST_SHARE) + chance / 2
    return min(max(LEAST_GAP_SECONDS * (1 + chance / 10), wanted), LONGEST_GAP_SECONDS)


def _left_seconds(age_seconds: float, progress: float, before: Before | None) -> float:
    """The least time that is left, by what is known: it may have begun when it was made, or long after that."""
    left = (1 - progress) * age_seconds / progress
    if before is None:
        return left
    if before.status in WAITING:  # it began since then, nobody knows when: the next look will tell
        return 0.0
    if before.progress is not None and progress > before.progress:
        gained = progress - before.progress + HUNDREDTH
        return min(left, (1 - progress) * before.seconds / gained)
    return left
