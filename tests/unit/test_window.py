"""The sliding window of calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from service.operations.window import APART_SECONDS, Window

pytestmark = pytest.mark.anyio


async def test_what_was_claimed_together_begins_one_after_the_other() -> None:
    loop, begun, saved = asyncio.get_running_loop(), [], []
    due = [["a", "b", "c", "d"]]

    async def claim(_free: int) -> Sequence[str]:
        return due.pop() if due else []

    async def call(item: str) -> str:
        begun.append((item, loop.time()))
        return item

    async def save(results: list[str]) -> None:
        saved.extend(results)

    await Window(10, claim, call, save).run(lambda: True)
    assert [item for item, _ in begun] == saved == ["a", "b", "c", "d"]
    # A loop counts milliseconds, and may wake by one of them too soon.
    assert begun[-1][1] - begun[0][1] > 3 * APART_SECONDS - 0.002
