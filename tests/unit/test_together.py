"""Asking together: who is answered with whom, and what one of several costs the others."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from service.store.together import Together

pytestmark = pytest.mark.anyio


class Asked:
    """Doubles each number, when it is let; `batches`: what was asked together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.errors: dict[int, Exception] = {}
        self.begun, self.may_answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        self.begun.set()
        await self.may_answer.wait()
        for number in numbers:
            if error := self.errors.get(number):
                raise error
        return [2 * number for number in numbers]


async def begun(desk: Together[int, int], asked: Asked, *numbers: int) -> list[asyncio.Task[int]]:
    """One task for each number, of which the first is being answered."""
    tasks = [asyncio.create_task(desk.ask(number, asked)) for number in numbers[:1]]
    await asked.begun.wait()
    tasks += [asyncio.create_task(desk.ask(number, asked)) for number in numbers[1:]]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_while_one_is_answered_is_asked_together() -> None:
    asked, desk = Asked(), Together[int, int]()
    tasks = await begun(desk, asked, 1, 2, 3, 4)
    asked.may_answer.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert asked.batches == [[1], [2, 3, 4]]
    assert await desk.ask(5, asked) == 10
    assert asked.batches[2:] == [[5]]


async def test_no_more_are_asked_together_than_one_statement_is_meant_for() -> None:
    asked, desk = Asked(), Together[int, int](2)
    tasks = await begun(desk, asked, 1, 2, 3, 4)
    asked.may_answer.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert asked.batches == [[1], [2, 3], [4]]


async def test_one_that_postgresql_refuses_costs_no_other_its_answer() -> None:
    asked, desk = Asked(), Together[int, int]()
    asked.errors[3] = asyncpg.CheckViolationError()
    tasks = await begun(desk, asked, 1, 2, 3, 4)
    asked.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (found[:2], found[3:]) == ([2, 4], [8])
    assert isinstance(found[2], asyncpg.CheckViolationError)
    assert asked.batches == [[1], [2, 3, 4], [2], [3], [4]]


async def test_where_postgresql_does_not_answer_nobody_is_asked_about_again() -> None:
    asked, desk = Asked(), Together[int, int]()
    asked.errors[3] = OSError("gone")
    tasks = await begun(desk, asked, 1, 2, 3, 4)
    asked.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [int, OSError, OSError, OSError]
    assert asked.batches == [[1], [2, 3, 4]]
    assert await desk.ask(5, asked) == 10


async def test_a_caller_that_is_cut_off_takes_no_other_with_it() -> None:
    asked, desk = Asked(), Together[int, int]()
    tasks = await begun(desk, asked, 1, 2, 3)
    tasks[0].cancel()
    tasks[1].cancel()
    asked.may_answer.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [asyncio.CancelledError, asyncio.CancelledError, int]
    assert asked.batches == [[1], [3]]


def test_a_loop_that_ends_ends_all_that_waits_and_the_next_loop_asks(recwarn: pytest.WarningsRecorder) -> None:
    desk = Together[int, int]()

    async def cut_off() -> list[asyncio.Task[int]]:
        return await begun(desk, Asked(), 1, 2)

    async def one_more() -> int:
        asked = Asked()
        asked.may_answer.set()
        return await desk.ask(3, asked)

    assert all(task.cancelled() for task in asyncio.run(cut_off()))
    assert asyncio.run(one_more()) == 6
    assert not recwarn.list
