"""Whichever comes first ends the waiting, and the rest with it."""

import asyncio

import pytest

from nano.waits import first_of

pytestmark = pytest.mark.looptime


async def _noted(seconds: float, ended: list[float]) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        ended.append(seconds)


async def test_the_first_ends_it_and_the_others_are_cancelled() -> None:
    ended: list[float] = []
    await first_of(_noted(5, ended), _noted(2, ended))
    assert asyncio.get_running_loop().time() == pytest.approx(2)
    assert sorted(ended) == [2, 5]


async def test_so_does_the_time() -> None:
    ended: list[float] = []
    await first_of(_noted(5, ended), within_s=1)
    assert asyncio.get_running_loop().time() == pytest.approx(1)
    assert ended == [5]
