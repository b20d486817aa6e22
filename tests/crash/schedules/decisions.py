"""The decisions of one schedule: drawn from a seed or read from a list, written down, and made fewer.

A decision is a number, and 0 is always the dull one: go on with what ran last, nothing goes wrong. So a schedule that
fails is made short by putting zeros into it and by cutting off its end, behind which there are zeros only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random


class Decisions:
    """Where a schedule takes its decisions from; `made` are those that it took."""

    def __init__(self, seed: int | str, given: Sequence[int] | None = None, most: int = 1_500) -> None:
        self._dice, self._given, self._most = Random(seed), given, most
        self.made: list[int] = []

    def one_of(self, count: int) -> int:
        """One of so many, each as likely as the others."""
        return self._take(count, lambda: self._dice.randrange(count))

    def unusual(self, probability: float, count: int = 1) -> int:
        """0, or with this probability one of 1 to `count`."""
        return self._take(count + 1, lambda: self._dice.randint(1, count) if self._dice.random() < probability else 0)

    def _take(self, count: int, draw: Callable[[], int]) -> int:
        number = len(self.made)
        if self._given is not None:
            decision = self._given[number] % count if number < len(self._given) else 0
        else:
            decision = draw() if number < self._most else 0
        self.made.append(decision)
        return decision


def shorten(decisions: Sequence[int], fails: Callable[[list[int]], bool], tries: int = 250) -> list[int]:
    """Fewer decisions that are not 0, with which it still fails; `fails` is asked at most so often."""
    best = _without_zeros_at_the_end(decisions)
    left = tries

    def better(candidate: list[int]) -> bool:
        nonlocal best, left
        candidate = _without_zeros_at_the_end(candidate)
        if candidate == best or left <= 0:
            return False
        left -= 1
        if fails(candidate):
            best = candidate
            return True
        return False

    low, high = 0, len(best)  # the least length with which it fails, if that were monotonous
    while low < high and left:
        middle = (low + high) // 2
        if better(best[:middle]):
            high = min(middle, len(best))
        else:
            low = middle + 1
    size = max(len(best) // 2, 1)
    while left and size:
        start, gained = 0, False
        while start < len(best):
            gained |= any(best[start : start + size]) and better(
                [0 if start <= place < start + size else one for place, one in enumerate(best)]
            )
            start += size
        if not gained or size > 1:
            size //= 2
    return best


def _without_zeros_at_the_end(decisions: Sequence[int]) -> list[int]:
    length = max((place + 1 for place, one in enumerate(decisions) if one), default=0)
    return list(decisions[:length])
