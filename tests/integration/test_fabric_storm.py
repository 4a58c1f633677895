"""Everybody at once: a scheduler that restarts among two hundred peers; strangers who flood a listener."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nano.fabric.fabric import Fabric, PeerEvent
from nano.fabric.links.dialled import DIALS_AT_ONCE
from nano.fabric.packets.address import Address
from nano.fabric.packets.half_open import RETRY_ABOVE
from nano.fabric.peers.roster_events import News
from nano.model.peers import Peer, Role
from tests.support.echo import ROLES, EchoHandler, EchoStub
from tests.support.fabrics import Lab
from tests.support.strangers import first_packets, noise

PEERS = 200


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def _all(events: AsyncIterator[PeerEvent], news: News, count: int) -> list[News]:
    """Reads until so many peers had `news`; gives all news that were read."""
    seen: list[News] = []
    peers: set[Peer] = set()
    async for event in events:
        seen.append(event.news)
        if event.news is news:
            peers.add(event.peer)
        if len(peers) == count:
            return seen
    raise AssertionError(seen)


@contextlib.asynccontextmanager
async def _zone(lab: Lab) -> AsyncIterator[list[Fabric]]:
    async with contextlib.AsyncExitStack() as up:
        cells = []
        for number in range(PEERS):
            cell = await up.enter_async_context(lab.join(Role.CELL, f"c{number}"))
            cell.serve([EchoHandler()], ROLES)
            cells.append(cell)
        yield cells


async def test_a_scheduler_that_restarts_dials_two_hundred_peers_at_once_and_has_them_all(lab: Lab) -> None:
    """And again: the first life is killed, so that its links are still there for the peers."""
    async with asyncio.timeout(120), _zone(lab) as cells:
        for life in range(2):
            async with lab.join(Role.SCHEDULER, "s1", port=0) as scheduler:
                events = scheduler.events()
                scheduler.keep_linked(Role.CELL)
                seen = await _all(events, News.JOINED, PEERS)
                assert News.LOST not in seen
                assert News.LEFT not in seen
                stubs = [EchoStub(scheduler.channel(Role.CELL, f"c{number}")) for number in range(PEERS)]
                assert (
                    await asyncio.gather(*(stub.repeat(b"x", timeout=5) for stub in stubs)) == [b"x"] * PEERS
                )
                assert len(scheduler.links) == PEERS
                assert all(link.is_up for link in scheduler.links)
                if life == 0:
                    for link in scheduler.links:
                        link._send = lambda _: None  # killed: nothing more is said
        assert all(cell.links for cell in cells)


async def test_two_hundred_peers_dial_a_scheduler_that_is_back_and_all_get_their_answers(lab: Lab) -> None:
    """Not all at once: here they share one processor, and time. That is in tests/simulation."""
    async with asyncio.timeout(120), lab.join(Role.SCHEDULER, "s1") as scheduler:
        scheduler.serve([EchoHandler()], ROLES)
        async with _zone(lab) as cells:
            few = asyncio.Semaphore(DIALS_AT_ONCE)

            async def call(cell: Fabric) -> bytes:
                async with few:
                    return await EchoStub(cell.channel(Role.SCHEDULER, "s1")).repeat(b"x", timeout=10)

            assert await asyncio.gather(*(call(cell) for cell in cells)) == [b"x"] * PEERS
            assert len(scheduler.links) == PEERS
            assert len(scheduler._listener.half_open) == 0
            assert scheduler._listener.half_open.refused == 0


async def test_few_handshakes_are_under_way_at_once(lab: Lab) -> None:
    async with asyncio.timeout(120), _zone(lab) as cells, lab.join(Role.SCHEDULER, "s1") as scheduler:
        scheduler.keep_linked(Role.CELL)
        under_way = []
        joined = 0
        async for event in scheduler.events():
            joined += event.news is News.JOINED
            under_way.append(sum(len(cell._listener.half_open) for cell in cells))
            if joined == PEERS:
                break
        assert max(under_way) <= 2 * DIALS_AT_ONCE, "the far end is up a little later than ours"


# strangers


async def _flood(target: Address, packets: list[bytes]) -> None:
    """Sends them from ever new ports, whose owners are gone before an answer comes."""
    for number, data in enumerate(packets):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(data, target)
        if number % 50 == 0:
            await asyncio.sleep(0)  # the listener has its turn


async def test_real_peers_get_in_through_a_flood_of_forged_first_packets(lab: Lab) -> None:
    """Above a number of half-open links strangers are not remembered, and a peer proves its address."""
    packets = first_packets(300)
    async with (
        asyncio.timeout(60),
        lab.join(Role.CELL, "c1") as cell,
        lab.join(Role.SCHEDULER, "s1") as early,
    ):
        cell.serve([EchoHandler()], ROLES)
        before = EchoStub(early.channel(Role.CELL, "c1"))
        assert await before.repeat(b"before") == b"before"
        half_open = cell._listener.half_open
        await _flood(cell.address, packets)
        assert await before.repeat(b"behind all of them", timeout=5) == b"behind all of them"
        assert half_open.begun + half_open.retries == len(packets) + 1
        assert len(half_open) == RETRY_ABOVE
        assert half_open.retries >= len(packets) - RETRY_ABOVE
        for number in range(5):
            asked = half_open.retries
            async with lab.join(Role.SCHEDULER, f"late{number}") as late:
                stub = EchoStub(late.channel(Role.CELL, "c1"))
                assert await stub.repeat(b"let me in", timeout=5) == b"let me in"
            assert half_open.retries == asked + 1, "it was asked to prove its address, once"
        assert await before.repeat(b"after", timeout=5) == b"after"
        assert len(half_open) == RETRY_ABOVE


async def test_noise_that_looks_like_first_packets_leaves_nothing_behind(lab: Lab) -> None:
    packets = noise(300)
    async with (
        asyncio.timeout(60),
        lab.join(Role.CELL, "c1") as cell,
        lab.join(Role.SCHEDULER, "s1") as early,
    ):
        cell.serve([EchoHandler()], ROLES)
        before = EchoStub(early.channel(Role.CELL, "c1"))
        assert await before.repeat(b"before") == b"before"
        half_open = cell._listener.half_open
        (link,) = cell.links
        await _flood(cell.address, packets)
        assert await before.repeat(b"behind all of them", timeout=5) == b"behind all of them"
        assert half_open.noise + half_open.retries == len(packets)
        assert half_open.noise == RETRY_ABOVE, "from there on it costs a token each, and no connection"
        assert len(half_open) == 0
        assert cell.links == [link]
        assert set(cell._listener._by_id.values()) == {link}
        async with lab.join(Role.SCHEDULER, "late") as late:
            assert await EchoStub(late.channel(Role.CELL, "c1")).repeat(b"x", timeout=5) == b"x"
