"""Bytes go both ways, each at the pace of its reader, and both ways end together."""

import asyncio

import pytest

from nano.model.errors import Unreachable
from nano.relay import relay


class Pipe:
    """An end that a test feeds and drains; it takes no more than a piece at a time."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.taken: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.is_over = False

    async def receive(self) -> bytes:
        found = await self.coming.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def send(self, data: bytes) -> bool:
        if not self.is_over:
            await self.taken.put(data)
        return not self.is_over


async def test_what_one_end_says_the_other_hears_in_order() -> None:
    left, right = Pipe(), Pipe()
    async with asyncio.TaskGroup() as jobs:
        done = jobs.create_task(relay(left, right))
        for number in range(5):
            left.coming.put_nowait(b"l%d" % number)
            right.coming.put_nowait(b"r%d" % number)
        assert [await right.taken.get() for _ in range(5)] == [b"l0", b"l1", b"l2", b"l3", b"l4"]
        assert [await left.taken.get() for _ in range(5)] == [b"r0", b"r1", b"r2", b"r3", b"r4"]
        right.coming.put_nowait(b"")
        assert await done is right


async def test_an_end_that_takes_no_more_is_over() -> None:
    left, right = Pipe(), Pipe()
    right.is_over = True
    left.coming.put_nowait(b"too late")
    assert await relay(left, right) is right


async def test_a_reader_that_stands_still_stops_the_source() -> None:
    left, right = Pipe(), Pipe()
    for _ in range(10):
        left.coming.put_nowait(b"piece")
    async with asyncio.TaskGroup() as jobs:
        done = jobs.create_task(relay(left, right))
        for _ in range(30):  # turns of the loop: more than all ten pieces would need
            await asyncio.sleep(0)
        assert left.coming.qsize() == 8  # one taken, one in the hand
        right.coming.put_nowait(b"")
        assert await done is right


async def test_what_breaks_an_end_comes_out_as_it_is() -> None:
    left, right = Pipe(), Pipe()
    left.coming.put_nowait(Unreachable("the link is lost"))
    with pytest.raises(Unreachable, match="the link is lost"):
        await relay(left, right)


async def test_whoever_is_cancelled_leaves_no_pump_behind() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await relay(Pipe(), Pipe())
    assert asyncio.all_tasks() == before
