"""A peer that allows few streams: callers wait for a place, and giving up the wait harms nobody."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nano.fabric.calls.channel import Channel
from nano.fabric.calls.server import CallServer
from nano.fabric.identity.credentials import Credentials
from nano.fabric.links.ends import CALL_WINDOWS, Dialled, Handlers, Listener, Route
from nano.fabric.links.link import Link
from nano.fabric.packets.quic import Windows
from nano.model.errors import TimedOut, Unreachable
from nano.model.peers import Peer, Role
from tests.support.certificates import issue, make_zone, utc_now
from tests.support.echo import ROLES, BytesCodec, EchoHandler, EchoStub

PLACES = 8


@contextlib.asynccontextmanager
async def _narrow(folder: Path) -> AsyncIterator[tuple[EchoHandler, EchoStub, Link]]:
    """A stub on a link whose server allows `PLACES` calls at a time."""
    zone = make_zone(folder)
    cell, scheduler = (
        Credentials.load(issue(zone, role, "x1"), utc_now) for role in (Role.CELL, Role.SCHEDULER)
    )
    handlers, echo = Handlers(), EchoHandler()
    async with asyncio.TaskGroup() as jobs:
        calls = CallServer(jobs, BytesCodec())
        calls.add([echo], ROLES)
        handlers.request = lambda _, stream, headers: calls.accept(stream, headers)
        listener = Listener(
            "127.0.0.1",
            0,
            credentials=cell,
            route=Route(),
            handlers=handlers,
            windows=Windows(streams=PLACES),
        )
        dialled = Dialled(
            listener.address,
            Peer(Role.CELL, "x1"),
            credentials=scheduler,
            route=Route(),
            handlers=Handlers(),
            windows=CALL_WINDOWS,
        )
        link = await dialled.connect(5)

        async def connect() -> Link:
            return link

        yield echo, EchoStub(Channel("cell/x1", connect, BytesCodec())), link
        link.close()
        listener.close()


async def _hold(stub: EchoStub, begun: asyncio.Semaphore) -> None:
    async for _ in stub.wait():
        begun.release()


async def test_callers_wait_for_a_place_and_all_get_one(tmp_path: Path) -> None:
    async with _narrow(tmp_path) as (_, stub, _):
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(stub.repeat(str(n).encode()) for n in range(500)))
        assert answers == [str(n).encode() for n in range(500)]


async def test_giving_up_the_wait_for_a_place_leaves_the_link_alone(tmp_path: Path) -> None:
    """A stream that aioquic had queued beyond the limit would, when reset, end the whole connection."""
    begun = asyncio.Semaphore(0)
    async with _narrow(tmp_path) as (_, stub, link), asyncio.TaskGroup() as jobs:
        holders = [jobs.create_task(_hold(stub, begun)) for _ in range(PLACES)]
        for _ in holders:
            await begun.acquire()
        with pytest.raises((TimedOut, Unreachable)):
            await stub.repeat(b"no place", timeout=0.1)
        queue = [jobs.create_task(stub.repeat(b"waits")) for _ in range(20)]
        await asyncio.sleep(0)
        for waiting in queue[::2]:
            waiting.cancel()
        for holder in holders:
            holder.cancel()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*queue[1::2]) == [b"waits"] * 10
        assert link.error is None


async def test_those_who_wait_for_a_place_hear_of_the_links_end(tmp_path: Path) -> None:
    begun = asyncio.Semaphore(0)
    async with _narrow(tmp_path) as (_, stub, link), asyncio.TaskGroup() as jobs:

        async def lost(call: object) -> None:
            with pytest.raises(Unreachable):
                await call  # type: ignore[misc]

        holders = [jobs.create_task(lost(_hold(stub, begun))) for _ in range(PLACES)]
        for _ in holders:
            await begun.acquire()
        jobs.create_task(lost(stub.repeat(b"waits")))
        await asyncio.sleep(0)
        link.close()
