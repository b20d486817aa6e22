"""Asking together: what is asked while an answer is under way is asked with one statement, as soon as that has come.

So a storm of requests costs the database a statement for many, and every other request keeps its connections; one that
comes alone is asked about at once. Each caller waits until its answer has come: no handler returns before that. A
statement whose callers were all cut off is brought to its end.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.store.driver_errors import is_refusal

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Answering = Callable[[list[Question]], Awaitable[Sequence[Answer]]]

# So few that the others are worked on meanwhile, in turn: a process that waits for one statement of all does nothing.
MOST_TOGETHER = 10


@dataclass
class _Desk:
    """What waits in one event loop, each with the future of its answer, and the task that asks, while there is one."""

    waiting: list[tuple[Any, asyncio.Future[Any]]] = field(default_factory=list)
    asking: asyncio.Task[None] | None = None


class Together(Generic[Question, Answer]):
    """Questions of one kind, of one process. `most`: that are asked with one statement."""

    def __init__(self, most: int = MOST_TOGETHER) -> None:
        self._most = most
        # Some serverless hosts run every request on a loop of its own, and futures belong to their loop.
        self._desks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Desk] = weakref.WeakKeyDictionary()

    async def ask(self, question: Question, answering: Answering[Question, Answer]) -> Answer:
        """The answer to this question. `answering` answers several, in their order, and is the same for every caller.

        What it raises, each caller raises; but where PostgreSQL refuses several, each is asked alone. A caller that is
        cut off takes nothing with it.
        """
        loop = asyncio.get_running_loop()
        desk = self._desks.setdefault(loop, _Desk())
        own: asyncio.Future[Answer] = loop.create_future()
        desk.waiting.append((question, own))
        if desk.asking is None:
            desk.asking = loop.create_task(_ask(desk, answering, self._most))
        return await own


async def _ask(desk: _Desk, answering: Answering[Any, Any], most: int) -> None:
    """Ask until nothing waits."""
    try:
        while desk.waiting:
            batch, desk.waiting = desk.waiting[:most], desk.waiting[most:]
            await _answer([one for one in batch if not one[1].done()], answering)
    finally:
        desk.asking = None


async def _answer(batch: Sequence[tuple[Any, asyncio.Future[Any]]], answering: Answering[Any, Any]) -> None:
    """Answer those of them that still wait."""
    try:
        found = await answering([question for question, _ in batch]) if batch else ()
    except Exception as exc:
        if len(batch) > 1 and is_refusal(exc):
            for one in batch:
                await _answer([one], answering)
            return
        for _, own in batch:
            if not own.done():
                own.set_exception(exc)
        return
    for (_, own), answer in zip(batch, found, strict=True):
        if not own.done():
            own.set_result(answer)
