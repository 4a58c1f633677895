"""Following every peer of some roles: again after each end, and never beyond its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from nano.fabric.fabric import Fabric, PeerEvent
from nano.fabric.peers.roster import Roster
from nano.fabric.peers.roster_events import LinkDown, LinkUp, News
from nano.fabric.presence import while_present
from nano.model.errors import Unreachable
from nano.model.peers import Peer, Role

CELL = Peer(Role.CELL, "c1")
CELLS = frozenset({Role.CELL})


class Hearing:
    """The part of the fabric that tells of peers."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[PeerEvent] = asyncio.Queue()
        self.peers = Roster("zone", Peer(Role.SCHEDULER, "main"))

    def look_for(self, *_roles: Role) -> None:
        """Everybody is told of anyway."""

    async def events(self) -> AsyncIterator[PeerEvent]:
        while True:
            yield await self.news.get()

    def tell(self, peer: Peer, news: News) -> None:
        """Of one that is linked to us."""
        self.peers.receive(LinkUp(peer, None), 0.0)
        self.news.put_nowait(PeerEvent(peer, news))


def following(hearing: Hearing, listen: Any) -> "asyncio.Task[None]":
    return asyncio.ensure_future(while_present(cast("Fabric", hearing), CELLS, listen))


@pytest.mark.looptime
async def test_a_stream_that_ends_is_opened_again_also_when_its_end_left_a_cancellation_behind() -> None:
    hearing, tries = Hearing(), 0
    again = asyncio.Event()

    async def listen(_peer: Peer) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            again.set()
            await asyncio.Event().wait()
        job = asyncio.current_task()
        assert job is not None
        job.cancel()  # as grpclib's Wrapper does to whoever waits on a link that ends
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Unreachable("the link is gone") from None

    job = following(hearing, listen)
    hearing.tell(CELL, News.JOINED)
    await again.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


@pytest.mark.looptime
async def test_its_own_end_stays_an_end_when_tidying_up_fails() -> None:
    hearing, started = Hearing(), asyncio.Event()

    async def listen(_peer: Peer) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise Unreachable("nobody takes the last word")

    job = following(hearing, listen)
    hearing.tell(CELL, News.FOUND)
    await started.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(60):
            await job


@pytest.mark.looptime
async def test_a_name_that_is_known_no_more_is_tried_no_more_until_it_is_heard_again() -> None:
    """Anybody may say any number of names."""
    hearing, tries = Hearing(), 0

    async def listen(_peer: Peer) -> None:
        nonlocal tries
        tries += 1
        raise Unreachable("nobody there")

    job = following(hearing, listen)
    hearing.tell(CELL, News.FOUND)
    await asyncio.sleep(60)
    before = tries
    assert before > 10
    hearing.peers.receive(LinkDown(CELL, graceful=False), 60.0)
    await asyncio.sleep(600)
    assert tries <= before + 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == f"with {CELL}"]
    hearing.tell(CELL, News.FOUND)
    await asyncio.sleep(60)
    assert tries > before + 10
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


@pytest.mark.looptime
async def test_a_defect_comes_out_and_other_roles_are_left_alone() -> None:
    hearing = Hearing()

    async def listen(peer: Peer) -> None:
        raise ZeroDivisionError(peer.id)

    job = following(hearing, listen)
    hearing.tell(Peer(Role.GATEWAY, "g"), News.JOINED)
    hearing.tell(CELL, News.JOINED)
    with pytest.raises(ExceptionGroup) as failures:
        await job
    assert [str(each) for each in failures.value.exceptions] == ["c1"]


@pytest.mark.looptime
async def test_one_that_joins_and_turns_us_away_each_time_is_tried_ever_more_slowly() -> None:
    hearing = Hearing()
    loop = asyncio.get_running_loop()
    tried_at: list[float] = []

    async def listen(peer: Peer) -> None:
        tried_at.append(loop.time())
        hearing.tell(peer, News.JOINED)
        await asyncio.sleep(0.01)
        raise Unreachable("turned away")

    job = following(hearing, listen)
    hearing.tell(CELL, News.FOUND)
    await asyncio.sleep(60)
    assert len(tried_at) < 20
    hearing.tell(CELL, News.FOUND)
    before = len(tried_at)
    await asyncio.sleep(0.005)
    assert len(tried_at) == before + 1, "news of it are worth a try at once"
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
