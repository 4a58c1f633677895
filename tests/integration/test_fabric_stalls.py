"""A process that is merely busy loses nobody and is lost by nobody; one that is gone is lost in time."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nano.fabric.fabric import Fabric
from nano.fabric.links.dialled import PROOF_S
from nano.fabric.peers.announcement import Announcement, Kind
from nano.fabric.peers.roster_events import News
from nano.model.peers import Peer, Role
from tests.support.echo import ROLES, EchoHandler, EchoStub
from tests.support.elsewhere import Elsewhere, elsewhere
from tests.support.fabrics import Lab

CELL, SCHEDULER = Peer(Role.CELL, "c1"), Peer(Role.SCHEDULER, "s1")
FIVEFOLD = {"keep_alive_s": 0.2, "suspect_s": 0.6, "lost_s": 1.0}
"""Time runs five times as fast: a stall of two seconds is one of ten."""
TEN_S = 10 / 5


class World:
    """A scheduler here that dialled a cell elsewhere, a call open between them, and all news of both."""

    def __init__(self, scheduler: Fabric, cell: Elsewhere) -> None:
        self.scheduler, self.cell = scheduler, cell
        self.stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
        self.news: dict[Peer, list[News]] = {CELL: [], SCHEDULER: []}

    async def listen(self, fabric: Fabric, peer: Peer) -> None:
        async for event in fabric.events():
            if event.peer == peer:
                self.news[peer].append(event.news)

    @property
    def lost(self) -> set[Peer]:
        return {peer for peer, news in self.news.items() if News.LOST in news or News.LEFT in news}


@contextlib.asynccontextmanager
async def _world(folder: Path, **settings: Any) -> AsyncIterator[World]:
    lab = Lab(folder)
    handler = EchoHandler()

    def serve(fabric: Fabric) -> None:
        fabric.serve([handler], ROLES)

    async with (
        elsewhere(lambda: lab.join(Role.CELL, "c1", **settings), serve) as cell,
        lab.join(Role.SCHEDULER, "s1", **settings) as scheduler,
        asyncio.TaskGroup() as jobs,
    ):
        world = World(scheduler, cell)
        assert await world.stub.repeat(b"up", timeout=5) == b"up"
        ears = [
            jobs.create_task(world.listen(scheduler, CELL)),
            jobs.create_task(cell.do(world.listen(cell.fabric, SCHEDULER))),
        ]
        await scheduler.links[0].ping()  # the events of both ends are heard from here on
        yield world
        for ear in ears:
            ear.cancel()


async def _goes_on(world: World, call: AsyncIterator[bytes]) -> None:
    """The call that was open before is open still, and the link is the same."""
    (link,) = world.scheduler.links
    assert await world.stub.repeat(b"after", timeout=5) == b"after"
    assert world.lost == set()
    assert world.scheduler.links == [link]
    assert link.error is None
    await call.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("who", "settings", "stall_s"),
    [
        ("dialler", {}, 2.0),
        ("listener", {}, 2.0),
        ("both", {}, 2.0),
        ("both", FIVEFOLD, TEN_S),  # neither holds against the other what it did not listen to itself
    ],
)
async def test_a_stall_of_the_event_loop_loses_nobody(
    tmp_path: Path, who: str, settings: dict[str, float], stall_s: float
) -> None:
    async with _world(tmp_path, **settings) as world:
        call = world.stub.wait()
        assert await anext(call) == b"started"
        if who != "dialler":
            world.cell.stall(stall_s)
        if who == "listener":
            await world.cell.do(_answers())
        else:
            time.sleep(stall_s)  # noqa: ASYNC251 - that is what is tested
        await _goes_on(world, call)


async def _answers() -> None:
    """Something to wait for that the loop gets round to when it is free again."""


async def test_stalls_in_a_row_lose_nobody(tmp_path: Path) -> None:
    async with _world(tmp_path, **FIVEFOLD) as world:
        call = world.stub.wait()
        assert await anext(call) == b"started"
        for _ in range(4):
            time.sleep(FIVEFOLD["lost_s"] / 2)  # noqa: ASYNC251 - that is what is tested
            await asyncio.sleep(0)
        await _goes_on(world, call)


async def test_a_process_that_is_gone_is_lost_in_time_by_both_ends(tmp_path: Path) -> None:
    """Nothing is said; to others it is as one whose loop never turns again."""
    async with _world(tmp_path, **FIVEFOLD) as world:
        loop = asyncio.get_running_loop()
        (link,) = world.scheduler.links
        world.cell.stall(4.0)
        began = loop.time()
        await asyncio.wait_for(link.wait_closed(), 5)
        assert loop.time() - began < FIVEFOLD["lost_s"] + 0.5
        assert News.SUSPECT in world.news[CELL]


async def test_a_peer_that_died_in_our_own_stall_is_lost_once_it_had_time_to_answer(tmp_path: Path) -> None:
    async with _world(tmp_path, **FIVEFOLD) as world:
        (link,) = world.scheduler.links
        world.cell.stall(4.0)
        time.sleep(TEN_S)  # noqa: ASYNC251 - that is what is tested
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.wait_for(link.wait_closed(), 5)
        assert FIVEFOLD["keep_alive_s"] / 2 < loop.time() - began < FIVEFOLD["lost_s"] + 0.5


# announcements, which anybody can make


def _hint(fabric: Fabric, peer: Peer, port: int) -> None:
    """As if it came by multicast."""
    said = Announcement(
        kind=Kind.HERE,
        zone=fabric._directory.roster._zone,
        domain="nano",
        role=peer.role,
        id=peer.id,
        port=port,
    )
    fabric._directory._hear(said, "127.0.0.1")


async def test_a_busy_peer_that_announces_itself_keeps_its_link_and_calls(tmp_path: Path) -> None:
    """It is dialled anew as well, answers on both, and the new link is the one that goes."""
    async with _world(tmp_path) as world:
        call = world.stub.wait()
        assert await anext(call) == b"started"
        world.cell.stall(3 * PROOF_S)
        _hint(world.scheduler, CELL, world.cell.fabric.address[1])
        await world.cell.do(_answers())
        while world.scheduler._doubted:
            await world.scheduler.links[0].ping()
        await _goes_on(world, call)


async def test_a_rumour_of_a_busy_peer_harms_nobody(tmp_path: Path) -> None:
    """Somebody says that the cell is where nobody, or somebody else, is, while it does not answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with _world(tmp_path) as world:
            call = world.stub.wait()
            assert await anext(call) == b"started"
            for port in (deaf.getsockname()[1], world.scheduler.address[1]):
                world.cell.stall(3 * PROOF_S)
                _hint(world.scheduler, CELL, port)
                await world.cell.do(_answers())
            await _goes_on(world, call)
