"""Back-pressure and many calls: what a slow reader and a crowd may cost."""

import asyncio
import contextlib
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nano.fabric.bulk.bodies import BulkBody, BulkInfo, BulkRequest
from nano.fabric.fabric import Fabric
from nano.fabric.http3.stream import SEND_MARK_BYTES
from nano.fabric.links.ends import BULK_WINDOWS
from nano.fabric.packets.quic import MIB, Windows
from nano.model.errors import NanoError, Unsupported
from nano.model.peers import Role
from tests.support.echo import EchoStub
from tests.support.fabrics import Lab
from tests.support.stillness import still

HELD_LIMIT_BYTES = 8 * MIB


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def _quiet(measure: Callable[[], int], stub: EchoStub, sender: Fabric) -> int:
    """The value of `measure` once it stands still, and `sender` with it, while other calls go to and fro."""
    return await still(measure, lambda: stub.repeat(b"round trip"), lambda: sender.links)


async def test_a_server_stops_producing_for_a_client_that_does_not_read(lab: Lab) -> None:
    async with lab.echo() as (handler, stub, cell, scheduler):
        tracemalloc.start()
        flood = stub.flood()
        assert len(await anext(flood)) == 100_000
        produced = await _quiet(lambda: handler.produced, stub, cell)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        most = (SEND_MARK_BYTES + Windows().stream_bytes) // 100_000 + 4
        assert produced <= most
        assert all(link.quic.held_bytes <= Windows().stream_bytes for link in scheduler.links)
        (link,) = cell.links
        (stream_id,) = link.exchanges._streams
        kept = link.quic.kept_bytes(stream_id)
        assert SEND_MARK_BYTES <= kept <= SEND_MARK_BYTES + Windows().stream_bytes + 100_005
        assert peak < HELD_LIMIT_BYTES
        assert await stub.repeat(b"others get through", timeout=5) == b"others get through"
        for _ in range(30):
            await anext(flood)
        assert handler.produced > produced
        await flood.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(handler.stopped.wait(), 5)
        assert all(link.quic.held_bytes == 0 for link in (*cell.links, *scheduler.links))


class Endless:
    """A body of a tebibyte, made as it is asked for."""

    SIZE_BYTES = 1 << 40

    def __init__(self) -> None:
        self.made_bytes = 0

    async def head(self, request: BulkRequest) -> BulkInfo:
        return BulkInfo(self.SIZE_BYTES)

    async def get(self, request: BulkRequest) -> BulkBody:
        return BulkBody(BulkInfo(self.SIZE_BYTES), self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            self.made_bytes += MIB
            yield bytes(MIB)

    async def put(self, request: BulkRequest, chunks: AsyncIterator[bytes]) -> dict[str, str]:
        raise Unsupported("nothing is taken here")


async def test_a_server_of_bodies_holds_little_for_a_client_that_does_not_read(lab: Lab) -> None:
    bodies = Endless()
    async with lab.echo() as (_, stub, cell, scheduler):
        cell.serve_bulk(bodies, {("GET", "/"): frozenset(Role)})
        body = scheduler.bulk(Role.CELL, "c1").get("/endless")
        assert await anext(body)
        made = await _quiet(lambda: bodies.made_bytes, stub, cell)
        held = max(link.quic.held_bytes for link in scheduler.links)
        kept = max(link.quic.kept_bytes(each) for link in cell.links for each in link.exchanges._streams)
        assert held <= BULK_WINDOWS.stream_bytes
        assert 0 < kept < HELD_LIMIT_BYTES
        assert made <= held + HELD_LIMIT_BYTES
        await body.aclose()  # type: ignore[attr-defined]


async def test_a_client_stops_sending_to_a_server_that_does_not_read(lab: Lab) -> None:
    sent: list[int] = []

    async def source() -> AsyncIterator[bytes]:
        for number in range(200):
            yield bytes(100_000)
            sent.append(number)

    async with lab.echo() as (handler, stub, cell, scheduler), asyncio.TaskGroup() as jobs:
        call = jobs.create_task(stub.ignore(source()))
        await handler.started.wait()
        most = (SEND_MARK_BYTES + Windows().stream_bytes) // 100_000 + 4
        assert await _quiet(lambda: len(sent), stub, scheduler) <= most
        assert sum(link.quic.held_bytes for link in cell.links) < HELD_LIMIT_BYTES
        handler.may_read.set()
        assert await call == str(199 * 100_000).encode()


async def test_five_thousand_calls_stay_open_beside_a_quick_one(lab: Lab) -> None:
    count = 5_000
    async with lab.echo() as (_, stub, cell, scheduler), contextlib.AsyncExitStack() as stack:
        begun = asyncio.Semaphore(0)

        async def hold() -> None:
            async for _ in stub.wait():
                begun.release()

        jobs = await stack.enter_async_context(asyncio.TaskGroup())
        holders = [jobs.create_task(hold()) for _ in range(count)]
        async with asyncio.timeout(60):
            for _ in range(count):
                await begun.acquire()
        (link,) = scheduler.links
        assert len(link.exchanges) == count
        took = []
        for _ in range(50):
            began = time.perf_counter()
            assert await stub.repeat(b"quick", timeout=5) == b"quick"
            took.append(time.perf_counter() - began)
        assert sorted(took)[len(took) // 2] < 0.1
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)
        assert len(link.exchanges) == 0
        assert await stub.repeat(b"the link lives", timeout=5) == b"the link lives"
        (theirs,) = cell.links
        async with asyncio.timeout(10):
            while theirs.exchanges:
                await stub.repeat(b"until the last has ended")


async def test_a_storm_of_calls_that_are_cut_short_leaves_nothing_behind(lab: Lab) -> None:
    """Every way to give a call up, at random moments: no stream, no byte on account, no broken link."""
    dice = random.Random(7)

    async def some(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(dice.randrange(60_000))

    async def read_some(messages: AsyncIterator[bytes], count: int) -> None:
        async with contextlib.aclosing(messages):  # type: ignore[type-var]
            async for _ in messages:
                count -= 1
                if count <= 0:
                    return

    async def one(stub: EchoStub) -> None:
        kinds = (
            lambda: stub.repeat(bytes(dice.randrange(200_000)), timeout=dice.choice([None, 0.001, 0.01])),
            lambda: read_some(stub.count(100), dice.randrange(200)),
            lambda: stub.total(some(dice.randrange(5))),
            lambda: read_some(stub.chat(some(3)), dice.randrange(5)),
            lambda: read_some(stub.flood(), dice.randrange(1, 8)),
            lambda: read_some(stub.wait(), 2),
        )
        with contextlib.suppress(NanoError, TimeoutError):
            async with asyncio.timeout(dice.random() * 0.2):
                await dice.choice(kinds)()

    async def storm(stub: EchoStub, until: float) -> None:
        while time.monotonic() < until:
            await one(stub)

    async with lab.echo() as (_, stub, cell, scheduler):
        async with asyncio.TaskGroup() as jobs:
            for _ in range(40):
                jobs.create_task(storm(stub, time.monotonic() + 3))
        (ours,), (theirs,) = scheduler.links, cell.links
        async with asyncio.timeout(10):
            while theirs.exchanges or ours.exchanges or theirs.quic.open_streams or ours.quic.open_streams:
                await ours.ping()
        for link in (ours, theirs):
            assert link.quic.held_bytes == 0
            assert link.exchanges._deaf == set()
            assert link.exchanges._senders == {}
            assert link.error is None
