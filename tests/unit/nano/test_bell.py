"""Waiting for something to be so."""

import asyncio

import pytest

from nano.bell import Bell

pytestmark = pytest.mark.looptime


async def test_what_is_so_already_is_not_waited_for() -> None:
    assert await Bell().until(lambda: "yes", 0.0) == "yes"


async def test_a_ring_makes_everyone_look_again() -> None:
    bell = Bell()
    found: list[str] = []
    async with asyncio.TaskGroup() as jobs:
        waiting = [jobs.create_task(bell.until(lambda: list(found), 60)) for _ in range(3)]
        await asyncio.sleep(1)
        bell.ring()  # nothing has come of it yet
        await asyncio.sleep(1)
        found.append("news")
        bell.ring()
    assert [one.result() for one in waiting] == [["news"]] * 3
    assert asyncio.get_running_loop().time() == pytest.approx(2)


async def test_the_wait_ends_with_its_time() -> None:
    assert await Bell().until(list, 7.0) == []
    assert asyncio.get_running_loop().time() == pytest.approx(7)
