"""Who comes, falls silent, moves and goes; samples between them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nano.fabric.fabric import Fabric, PeerEvent
from nano.fabric.identity.credentials import Credentials
from nano.fabric.links.ends import CALL_WINDOWS, Dialled, Handlers, Route
from nano.fabric.links.link import Link
from nano.fabric.peers.roster_events import News
from nano.model.errors import Corrupt, Unreachable
from nano.model.peers import Peer, Role
from tests.support.certificates import utc_now
from tests.support.echo import ROLES, EchoHandler, EchoStub
from tests.support.fabrics import Lab
from tests.support.udp_relay import Relay

CELL = Peer(Role.CELL, "c1")
IMPATIENT = {"keep_alive_s": 0.1, "suspect_s": 0.3, "lost_s": 0.6}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def _until(events: AsyncIterator[PeerEvent], news: News, peer: Peer = CELL) -> list[News]:
    """The news of `peer` up to and including `news`."""
    seen: list[News] = []
    async with asyncio.timeout(10):
        async for event in events:
            if event.peer == peer:
                seen.append(event.news)
                if event.news is news:
                    return seen
    raise AssertionError(seen)


@contextlib.asynccontextmanager
async def _through_a_relay(lab: Lab, **settings: float) -> AsyncIterator[tuple[Relay, EchoStub, Fabric]]:
    async with lab.join(Role.CELL, "c1") as cell, Relay.to(cell.address) as relay:
        cell.serve([EchoHandler()], ROLES)
        lab.addresses["cell/c1"] = relay.address
        async with lab.join(Role.SCHEDULER, "s1", **settings) as scheduler:
            yield relay, EchoStub(scheduler.channel(Role.CELL, "c1")), scheduler


async def test_a_silent_peer_is_suspected_then_lost_and_joins_again_when_it_is_heard(lab: Lab) -> None:
    async with _through_a_relay(lab, **IMPATIENT) as (relay, _, scheduler):
        events = scheduler.events()
        scheduler.keep_linked(Role.CELL)
        assert News.JOINED in await _until(events, News.JOINED)
        relay.cut = True
        assert await _until(events, News.LOST) == [News.SUSPECT, News.LOST]
        relay.cut = False
        assert News.LOST not in await _until(events, News.JOINED)


async def test_a_link_that_comes_up_as_its_dialler_gives_up_is_nobodys_and_closed(lab: Lab) -> None:
    async with lab.join(Role.CELL, "c1") as cell:
        handlers = Handlers()
        credentials = Credentials.load(lab.identity(Role.SCHEDULER, "s1"), utc_now)
        dialled = Dialled(
            cell.address,
            CELL,
            credentials=credentials,
            route=Route(),
            handlers=handlers,
            windows=CALL_WINDOWS,
        )
        job = asyncio.ensure_future(dialled.connect(3.0))

        def gives_up(_: Link) -> None:
            job.cancel()

        handlers.up = gives_up
        with pytest.raises(asyncio.CancelledError):
            await job
        assert dialled.link.error is not None


async def test_a_short_silence_is_only_a_suspicion(lab: Lab) -> None:
    async with _through_a_relay(lab, keep_alive_s=0.1, suspect_s=0.3, lost_s=30) as (relay, _, scheduler):
        events = scheduler.events()
        scheduler.keep_linked(Role.CELL)
        await _until(events, News.JOINED)
        link = await scheduler.channel(Role.CELL, "c1").__connect__()
        relay.cut = True
        await _until(events, News.SUSPECT)
        relay.cut = False
        assert await _until(events, News.JOINED) == [News.JOINED]
        assert scheduler.links == [link]


async def test_a_peer_that_leaves_in_good_order_is_not_called_lost(lab: Lab) -> None:
    stack = contextlib.AsyncExitStack()
    cell = await stack.enter_async_context(lab.join(Role.CELL, "c1"))
    cell.serve([EchoHandler()], ROLES)
    async with lab.join(Role.SCHEDULER, "s1") as scheduler:
        events = scheduler.events()
        assert await EchoStub(scheduler.channel(Role.CELL, "c1")).repeat(b"x") == b"x"
        await stack.aclose()
        seen = await _until(events, News.LEFT)
        assert News.LOST not in seen
        assert News.SUSPECT not in seen


async def test_a_link_survives_a_change_of_the_senders_port(lab: Lab) -> None:
    async with _through_a_relay(lab) as (relay, stub, scheduler):
        assert await stub.repeat(b"before") == b"before"
        (link,) = scheduler.links
        await relay.rebind()
        assert await stub.repeat(b"after", timeout=2) == b"after"
        assert scheduler.links == [link]


async def test_an_idle_link_is_pinged_by_the_one_who_dialled_and_rarely(lab: Lab) -> None:
    """One ping and one answer for each interval of silence: nothing else keeps a link awake."""
    async with _through_a_relay(lab, keep_alive_s=0.2, suspect_s=3, lost_s=5) as (relay, stub, _):
        await stub.repeat(b"x")
        before, window_s = relay.passed, 2.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(window_s):
                await asyncio.Event().wait()
        assert 2 <= relay.passed - before <= 2 * window_s / 0.2 + 6


async def test_samples_reach_the_scheduler_that_dialled_and_bad_ones_hurt_nobody(lab: Lab) -> None:
    async with lab.echo() as (_, stub, cell, scheduler):
        got: asyncio.Queue[tuple[Peer, bytes]] = asyncio.Queue()

        def take(peer: Peer, data: bytes) -> None:
            if data == b"bad":
                raise Corrupt("not a sample")
            if data == b"worse":
                raise ValueError("a decoder with a defect")
            got.put_nowait((peer, data))

        scheduler.on_sample(take)
        assert cell.send_sample(b"nobody dialled yet") == 0
        await stub.repeat(b"x")
        assert cell.send_sample(b"bad") == 1
        assert cell.send_sample(b"worse") == 1
        assert cell.send_sample(b"cpu 7") == 1
        assert await asyncio.wait_for(got.get(), 5) == (CELL, b"cpu 7")
        assert cell.send_sample(bytes(100_000)) == 0
        assert cell.send_sample(b"") == 1
        assert await asyncio.wait_for(got.get(), 5) == (CELL, b"")


async def test_calls_to_a_restarted_peer_find_it_at_its_new_address_long_before_the_old_one_is_lost(
    lab: Lab,
) -> None:
    """The old process vanishes without a word; the new one says by multicast that it is here."""
    group = {"multicast": True, "group_port": 15599, "interfaces": ("127.0.0.1",), "peers": {}}
    async with lab.join(Role.SCHEDULER, "s1", **group) as scheduler:
        stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
        async with lab.join(Role.CELL, "c1", **group) as cell, Relay.to(cell.address) as relay:
            cell.serve([EchoHandler()], ROLES)
            assert await stub.repeat(b"first life", timeout=5) == b"first life"
            (old,) = scheduler.links
            cell._listener._endpoint.close()  # as kill -9 does: the socket is gone, nothing was said
            del relay
            async with lab.join(Role.CELL, "c1", **group) as again:
                again.serve([EchoHandler()], ROLES)
                await asyncio.wait_for(old.wait_closed(), 2)
                assert await stub.repeat(b"second life", timeout=2) == b"second life"


async def test_a_call_waits_for_a_peer_that_is_just_starting(lab: Lab) -> None:
    group = {"multicast": True, "group_port": 15598, "interfaces": ("127.0.0.1",), "peers": {}}
    async with lab.join(Role.SCHEDULER, "s1", **group) as scheduler, asyncio.TaskGroup() as jobs:
        stub = EchoStub(scheduler.channel(Role.CELL))
        call = jobs.create_task(stub.repeat(b"early", timeout=5))
        async with lab.join(Role.CELL, "c1", **group) as cell:
            cell.serve([EchoHandler()], ROLES)
            assert await call == b"early"


async def test_a_call_to_a_peer_that_has_left_fails_at_once(lab: Lab) -> None:
    group = {"multicast": True, "group_port": 15597, "interfaces": ("127.0.0.1",), "peers": {}}
    async with lab.join(Role.SCHEDULER, "s1", **group) as scheduler:
        stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
        events = scheduler.events()
        async with lab.join(Role.CELL, "c1", **group) as cell:
            cell.serve([EchoHandler()], ROLES)
            assert await stub.repeat(b"x", timeout=5) == b"x"
        await _until(events, News.LEFT)
        with pytest.raises(Unreachable, match="left"):
            await asyncio.wait_for(stub.repeat(b"x"), 1)


@pytest.mark.parametrize(("host", "written"), [("127.0.0.1", "localhost"), ("::1", "[::1]")])
async def test_a_peer_is_dialled_by_any_form_of_address(lab: Lab, host: str, written: str) -> None:
    async with lab.join(Role.CELL, "c1", host=host) as cell:
        cell.serve([EchoHandler()], ROLES)
        lab.addresses["cell/c1"] = f"{written}:{cell.address[1]}"
        async with lab.join(Role.SCHEDULER, "s1") as scheduler:
            stub = EchoStub(scheduler.channel(Role.CELL, "c1"))
            assert await stub.repeat(b"x", timeout=2) == b"x"


async def test_a_host_that_does_not_exist_is_unreachable(lab: Lab) -> None:
    lab.addresses["cell/c1"] = "no-such-host.invalid:5604"
    async with lab.join(Role.SCHEDULER, "s1") as scheduler:
        with pytest.raises(Unreachable):
            await EchoStub(scheduler.channel(Role.CELL, "c1")).repeat(b"x", timeout=5)


async def test_all_stubs_of_a_process_share_one_link_to_a_peer(lab: Lab) -> None:
    async with lab.echo() as (_, _, cell, scheduler):
        stubs = [EchoStub(scheduler.channel(Role.CELL, name)) for name in ("c1", None) for _ in range(20)]
        await asyncio.gather(*(stub.repeat(b"x") for stub in stubs))
        assert len(scheduler.links) == 1
        assert len(cell.links) == 1
