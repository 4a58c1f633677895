"""Crowds: ten thousand calls and a thousand watches at once, too many calls, work that nobody waits for."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

from nano.fabric.calls.caller import caller
from nano.fabric.fabric import Fabric
from nano.model.errors import Exhausted, NanoError, TimedOut, Unreachable
from nano.model.peers import Role
from tests.support.echo import ECHO, ROLES, EchoHandler, EchoStub
from tests.support.fabrics import Lab

CALLS, WATCHES = 10_000, 1_000

CALL_BYTES = 40 * 1024
"""What an open call may weigh, both ends together."""

PATIENT = {"suspect_s": 60.0, "lost_s": 90.0}
"""Both ends live in one loop here, which makes ten thousand calls in one turn: no time to be heard in."""

Answers = Callable[[Stream[bytes, bytes]], Awaitable[None]]


class Crowd:
    """A contract of two methods: `Repeat` answers when the gate is open, `Watch` tells all that is told."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0
        self.most = 0
        self.full = asyncio.Event()
        self.expected = 0
        self._watchers: dict[asyncio.Queue[bytes], None] = {}

    def __mapping__(self) -> dict[str, Handler]:
        kinds: dict[str, tuple[Answers, Cardinality]] = {
            "Repeat": (self._repeat, Cardinality.UNARY_UNARY),
            "Wait": (self._watch, Cardinality.UNARY_STREAM),
        }
        return {ECHO + name: Handler(run, kind, bytes, bytes) for name, (run, kind) in kinds.items()}

    def expect(self, count: int) -> None:
        """Have `full` tell when so many are here at once."""
        self.expected = count
        self.full.clear()

    def tell(self, news: bytes) -> None:
        for queue in self._watchers:
            queue.put_nowait(news)

    @contextlib.contextmanager
    def _counted(self) -> Any:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        if self.waiting == self.expected:
            self.full.set()
        try:
            yield
        finally:
            self.waiting -= 1

    async def _repeat(self, call: Stream[bytes, bytes]) -> None:
        message = await call.recv_message()
        assert message is not None
        with self._counted():
            await self.gate.wait()
        await call.send_message(message)

    async def _watch(self, call: Stream[bytes, bytes]) -> None:
        await call.recv_message()
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._watchers[queue] = None
        try:
            with self._counted():
                while news := await queue.get():
                    await call.send_message(news)
        finally:
            del self._watchers[queue]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@contextlib.asynccontextmanager
async def _crowd(lab: Lab) -> AsyncIterator[tuple[Crowd, EchoStub, Fabric, Fabric]]:
    crowd = Crowd()
    async with lab.join(Role.CELL, "c1", **PATIENT) as cell:
        cell.serve([crowd], {name: ROLES[name] for name in crowd.__mapping__()})
        async with lab.join(Role.SCHEDULER, "s1", **PATIENT) as scheduler:
            yield crowd, EchoStub(scheduler.channel(Role.CELL, "c1")), cell, scheduler


async def test_ten_thousand_calls_are_open_at_once_and_all_are_answered(lab: Lab) -> None:
    async with _crowd(lab) as (crowd, stub, cell, scheduler):
        crowd.expect(CALLS)
        async with asyncio.timeout(120), asyncio.TaskGroup() as jobs:
            calls = [jobs.create_task(stub.repeat(b"%d" % number)) for number in range(CALLS)]
            await crowd.full.wait()
            (ours,), (theirs,) = scheduler.links, cell.links
            assert len(ours.exchanges) == len(theirs.exchanges) == CALLS
            crowd.gate.set()
        assert [call.result() for call in calls] == [b"%d" % number for number in range(CALLS)]
        async with asyncio.timeout(30):
            while theirs.exchanges or theirs.quic.open_streams or ours.quic.open_streams:
                await ours.ping()
        assert ours.quic.held_bytes == theirs.quic.held_bytes == 0


async def test_an_open_call_weighs_little(lab: Lab) -> None:
    count = 1_000
    async with _crowd(lab) as (crowd, stub, _cell, _scheduler):
        crowd.expect(count)
        await asyncio.wait_for(_ready(stub), 10)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        async with asyncio.timeout(60), asyncio.TaskGroup() as jobs:
            for _ in range(count):
                jobs.create_task(stub.repeat(b"x"))
            await crowd.full.wait()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            crowd.gate.set()
        assert (after - before) / count < CALL_BYTES


async def _ready(stub: EchoStub) -> None:
    """Return when the link is up: a method that does not exist is answered too."""
    with contextlib.suppress(NanoError):
        await stub.missing(b"")


async def test_a_thousand_watches_hear_every_change_in_order(lab: Lab) -> None:
    async with _crowd(lab) as (crowd, stub, _cell, scheduler):
        crowd.expect(WATCHES)
        heard: list[list[bytes]] = [[] for _ in range(WATCHES)]

        async def watch(place: int) -> None:
            async for news in stub.wait():
                heard[place].append(news)

        changes = [b"change %d" % number for number in range(10)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as jobs:
            for place in range(WATCHES):
                jobs.create_task(watch(place))
            await crowd.full.wait()
            for change in changes:
                crowd.tell(change)
                await asyncio.sleep(0)
            crowd.tell(b"")  # the end
        assert heard == [changes] * WATCHES
        (link,) = scheduler.links
        assert len(link.exchanges) == 0


async def test_a_call_too_many_is_refused_at_once_and_told_when_to_come_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 50
    monkeypatch.setattr("nano.fabric.calls.server.CALL_LIMIT", limit)
    async with _crowd(lab) as (crowd, stub, _cell, _scheduler):
        crowd.expect(limit)
        async with asyncio.timeout(20), asyncio.TaskGroup() as jobs:
            calls = [jobs.create_task(stub.repeat(b"in")) for _ in range(limit)]
            await crowd.full.wait()
            refused = await asyncio.gather(*(stub.repeat(b"out") for _ in range(20)), return_exceptions=True)
            for error in refused:
                assert isinstance(error, Exhausted)
                assert error.retry_after_s is not None
                assert error.retry_after_s > 0
            assert crowd.most == limit, "none of them came as far as the handler"
            crowd.gate.set()
        assert {call.result() for call in calls} == {b"in"}
        assert await stub.repeat(b"again", timeout=5) == b"again"


class _Relay:
    """Answers by asking somebody else, as a service that stands in the middle does."""

    def __init__(self, onward: EchoStub) -> None:
        self._onward = onward

    def __mapping__(self) -> dict[str, Handler]:
        return {ECHO + "Repeat": Handler(self._repeat, Cardinality.UNARY_UNARY, bytes, bytes)}

    async def _repeat(self, call: Stream[bytes, bytes]) -> None:
        await call.recv_message()
        async for _ in self._onward.wait(deadline=caller().deadline):
            pass
        await call.send_message(b"never")


@contextlib.asynccontextmanager
async def _two_hops(lab: Lab) -> AsyncIterator[tuple[EchoHandler, EchoStub, Fabric]]:
    """A gateway asks a scheduler, which asks a cell, which waits for ever."""
    handler = EchoHandler()
    async with lab.join(Role.CELL, "c1") as cell:
        cell.serve([handler], ROLES)
        async with lab.join(Role.SCHEDULER, "s1") as scheduler:
            relay = _Relay(EchoStub(scheduler.channel(Role.CELL, "c1")))
            scheduler.serve([relay], {name: ROLES[name] for name in relay.__mapping__()})
            async with lab.join(Role.GATEWAY, "g1") as gateway:
                yield handler, EchoStub(gateway.channel(Role.SCHEDULER, "s1")), gateway


async def test_giving_a_call_up_stops_the_work_two_peers_away(lab: Lab) -> None:
    async with _two_hops(lab) as (handler, stub, _), asyncio.timeout(10):
        async with asyncio.TaskGroup() as jobs:
            call = jobs.create_task(stub.repeat(b""))
            await handler.started.wait()
            call.cancel()
        await handler.stopped.wait()


async def test_a_deadline_stops_the_work_two_peers_away(lab: Lab) -> None:
    async with _two_hops(lab) as (handler, stub, _), asyncio.timeout(10):
        with pytest.raises(TimedOut):
            await stub.repeat(b"", timeout=0.5)
        assert handler.started.is_set()
        await handler.stopped.wait()


async def test_a_caller_that_is_cut_off_stops_the_work_two_peers_away(lab: Lab) -> None:
    async with _two_hops(lab) as (handler, stub, gateway), asyncio.timeout(10):
        async with asyncio.TaskGroup() as jobs:
            call = jobs.create_task(_error_of(stub.repeat(b"")))
            await handler.started.wait()
            for link in gateway.links:
                link.close(Unreachable("the cable was pulled"))
        assert isinstance(call.result(), Unreachable)
        await handler.stopped.wait()


async def _error_of(work: Awaitable[object]) -> NanoError | None:
    try:
        await work
    except NanoError as error:
        return error
    return None
