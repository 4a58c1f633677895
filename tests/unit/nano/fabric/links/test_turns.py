"""Who dials when, on a clock of the test's own."""

import asyncio

import pytest

from nano.fabric.links.turns import Turns
from tests.support.virtual_time import virtually


class _Dialler:
    """Takes turns; each is done when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.began: list[int] = []
        self.done: dict[int, asyncio.Event] = {}

    async def dial(self, number: int) -> None:
        self.done[number] = asyncio.Event()
        async with self._turns.turn():
            self.began.append(number)
            await self.done[number].wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@virtually
async def test_few_at_once_and_the_newest_first() -> None:
    dialler = _Dialler(Turns(2, 60))
    async with asyncio.TaskGroup() as jobs:
        for number in range(5):
            jobs.create_task(dialler.dial(number))
        await _settle()
        assert dialler.began == [0, 1]
        dialler.done[0].set()
        await _settle()
        assert dialler.began == [0, 1, 4]
        for event in dialler.done.values():
            event.set()
    assert dialler.began == [0, 1, 4, 3, 2]


@virtually
async def test_one_that_nobody_answers_gives_its_turn_on() -> None:
    dialler = _Dialler(Turns(1, 0.25))
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as jobs:
        for number in range(4):
            jobs.create_task(dialler.dial(number))
        await asyncio.sleep(0.8)
        assert sorted(dialler.began) == [0, 1, 2, 3]
        assert loop.time() == pytest.approx(0.8)
        for event in dialler.done.values():
            event.set()
    # each turn went round once and not twice
    again = _Dialler(dialler._turns)
    async with asyncio.TaskGroup() as jobs:
        for number in range(2):
            jobs.create_task(again.dial(number))
        await _settle()
        assert again.began == [0]
        again.done[0].set()
        again.done[1].set()


@virtually
async def test_who_gives_up_waiting_leaves_the_turn_to_the_others() -> None:
    dialler = _Dialler(Turns(1, 60))
    async with asyncio.TaskGroup() as jobs:
        first, waits, leaves = (jobs.create_task(dialler.dial(number)) for number in range(3))
        await _settle()
        dialler.done[0].set()
        await first  # the turn is just being given to the newest
        leaves.cancel()
        await _settle()
        assert dialler.began[-1] == 1
        dialler.done[1].set()
        await waits
