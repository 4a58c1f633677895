"""The fabric without its packets: real stubs, handlers and role tables, over a network that misbehaves.

A `SimFabric` stands where a process has its `nano.fabric.fabric.Fabric`, and `Network` between them all.
Messages are the bytes of their contracts; each is late by chance. A request may be lost, held back until its
caller has given up, or come twice, since callers repeat what was not answered. What comes on one stream comes
in order and once, as QUIC has it, until the link breaks; whoever listens is told so only after a while.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Self

from grpclib.const import Status
from multidict import MultiDict

from nano import wire
from nano.fabric.bulk.bodies import BulkHandler, BulkRequest, BulkRoles, roles_for
from nano.fabric.calls.caller import TASK_HEADER, Caller, answering, current_task
from nano.fabric.calls.codec import MessageCodec
from nano.fabric.calls.server import CallServer, Roles
from nano.fabric.calls.status import DETAIL_TRAILER, error_of
from nano.fabric.fabric import OnSample, PeerEvent
from nano.fabric.peers.roster import State
from nano.fabric.peers.roster_events import News
from nano.model.errors import Forbidden, NanoError, TimedOut, Unreachable
from nano.model.ids import ImageId
from nano.model.peers import Peer, Role

LATENCY_S = (0.0005, 0.02)
"""Of a message that nothing happens to."""
HELD_S = (1.0, 25.0)
"""How late a held request comes: also after its caller has given up, and after its task has ended."""
NOTICE_S = (0.05, 5.0)
"""How long it takes until the other end of a broken link is known to be gone."""

Link = frozenset[Peer]


class Fate(Enum):
    """What the network does to a request or its answer."""

    LOSE = "lose"
    HOLD = "hold"
    DOUBLE = "double"


@dataclass(frozen=True)
class Said:
    """A message that leaves a process."""

    sender: Peer
    receiver: Peer
    route: str
    message: Any
    call: "SimCall | None" = None


@dataclass
class Odds:
    """How often the network misbehaves; all zero is a network that is only slow."""

    fate: float = 0.0
    """Of each request or answer."""


@dataclass
class Network:
    """Who is there, what is cut, what is under way."""

    chance: random.Random
    jobs: asyncio.TaskGroup
    odds: Odds = field(default_factory=Odds)
    said: Callable[[Said], None] = lambda _said: None
    """Hears of each message before it leaves."""
    arrived: Callable[[Said], None] = lambda _said: None
    """Hears of each message that is about to be handed over."""
    members: dict[Peer, "SimFabric"] = field(default_factory=dict)
    messages: int = 0
    """Handed over so far: the moments at which something may be made to happen."""
    under_way: int = 0
    _cuts: set[Link] = field(default_factory=set)
    _calls: "dict[SimCall, None]" = field(default_factory=dict)

    def _between(self, bounds: tuple[float, float]) -> float:
        return self.chance.uniform(*bounds)

    # -------------------------------------------------------------- who is there

    def join(self, fabric: "SimFabric") -> None:
        self.members[fabric.peer] = fabric
        for other in self._others(fabric.peer):
            self.later(self._between(LATENCY_S), lambda other=other: other.tell(fabric.peer, News.JOINED))  # type: ignore[misc]

    def leave(self, fabric: "SimFabric") -> None:
        """It dies: no goodbye; each link to it is noticed to be gone in its own time."""
        fabric.is_alive = False
        if self.members.get(fabric.peer) is fabric:
            del self.members[fabric.peer]
        for other in self._others(fabric.peer):
            self._break(frozenset({fabric.peer, other.peer}))

    def find(self, target: Peer | Role) -> "SimFabric | None":
        if isinstance(target, Peer):
            return self.members.get(target)
        found = sorted(peer for peer in self.members if peer.role is target)
        return self.members[found[0]] if found else None

    async def dial(self, caller: "SimFabric", target: Peer | Role) -> "SimFabric":
        """Whoever is there; `Unreachable` when nobody is, or is cut off."""
        found = self.find(target)
        if found is None or not self.passes(caller.peer, found.peer):
            await asyncio.sleep(self.latency_s())
            raise Unreachable(f"{target} is not there")
        return found

    def _others(self, peer: Peer) -> "list[SimFabric]":
        return [member for each, member in self.members.items() if each != peer]

    # -------------------------------------------------------------- cutting

    def cut(self, one: Peer, other: Peer) -> None:
        """Nothing passes between the two any more."""
        link = frozenset({one, other})
        self._cuts.add(link)
        self._break(link)

    def mend(self, one: Peer, other: Peer) -> None:
        link = frozenset({one, other})
        if link not in self._cuts:
            return
        self._cuts.discard(link)
        for here, there in ((one, other), (other, one)):
            if (member := self.members.get(here)) is not None and there in self.members:
                member.tell(there, News.JOINED)

    def mend_all(self) -> None:
        for link in sorted(self._cuts, key=sorted):
            self.mend(*sorted(link))

    def passes(self, one: Peer, other: Peer) -> bool:
        return frozenset({one, other}) not in self._cuts

    def _break(self, link: Link) -> None:
        for call in list(self._calls):
            if call.link == link:
                call.broken()
        for here in link:
            there = next(iter(link - {here}))
            self.later(self._between(NOTICE_S), lambda here=here, there=there: self._notice(here, there))  # type: ignore[misc]

    def _notice(self, here: Peer, there: Peer) -> None:
        if (member := self.members.get(here)) is not None:
            member.tell(there, News.LOST)

    # -------------------------------------------------------------- messages

    def fate(self) -> Fate | None:
        return self.chance.choice(list(Fate)) if self.chance.random() < self.odds.fate else None

    def delays(self, fate: Fate | None) -> Iterator[float]:
        """How late each copy of a message comes."""
        if fate is Fate.LOSE:
            return
        yield self._between(HELD_S if fate is Fate.HOLD else LATENCY_S)
        if fate is Fate.DOUBLE:
            yield self._between(HELD_S)

    def later(self, delay_s: float, do: Callable[[], None]) -> None:
        self.under_way += 1

        def happen() -> None:
            self.under_way -= 1
            do()

        asyncio.get_running_loop().call_later(delay_s, happen)

    def opened(self, call: "SimCall") -> None:
        self._calls[call] = None

    def closed(self, call: "SimCall") -> None:
        self._calls.pop(call, None)

    def notice_s(self) -> float:
        return self._between(NOTICE_S)

    def held_s(self) -> float:
        return self._between(HELD_S)

    def latency_s(self) -> float:
        return self._between(LATENCY_S)

    def hand_over(self, said: Said) -> None:
        self.messages += 1
        self.arrived(said)


class SimFabric:
    """One life of one process on the network: what services use of `Fabric`."""

    def __init__(self, network: Network, peer: Peer, jobs: asyncio.TaskGroup) -> None:
        self.network, self.peer, self.jobs = network, peer, jobs
        self.is_alive = True
        self.served: dict[str, Any] = {}
        """Handlers by the methods that they answer."""
        self.roles: dict[str, frozenset[Role]] = {}
        self.bulk_served: tuple[BulkHandler, BulkRoles] | None = None
        self._calls = CallServer(jobs, MessageCodec())
        self._readers: list[asyncio.Queue[PeerEvent]] = []
        self.peers = _Addresses()

    # What a service does with it

    def serve(self, handlers: Collection[Any], roles: Roles) -> None:
        self._calls.add(handlers, roles)
        self.roles |= roles
        self.served |= {name: handler for handler in handlers for name in handler.__mapping__()}

    def serve_bulk(self, handler: BulkHandler, roles: BulkRoles) -> None:
        self.bulk_served = (handler, roles)

    def channel(self, role: Role, name: str | None = None) -> "SimChannel":
        return SimChannel(self, role if name is None else Peer(role, name))

    def bulk(self, role: Role) -> "SimBulk":
        return SimBulk(self, role)

    def look_for(self, *roles: Role) -> None:
        """Whoever is here is told of already."""

    def on_sample(self, callback: OnSample) -> None:
        """Nobody samples in a simulation."""

    async def events(self) -> AsyncIterator[PeerEvent]:
        queue: asyncio.Queue[PeerEvent] = asyncio.Queue()
        self._readers.append(queue)
        for peer in sorted(self.network.members):
            if peer != self.peer:
                yield PeerEvent(peer, News.JOINED)
        while True:
            yield await queue.get()

    # What the network does with it

    def tell(self, peer: Peer, news: News) -> None:
        if self.is_alive:
            for reader in self._readers:
                reader.put_nowait(PeerEvent(peer, news))

    def answer(self, call: "SimCall", request: bytes) -> None:
        """Run the handler, behind the guard that the real server has, as a job of this process."""
        method = self._calls._methods.get(call.route)
        if method is None:
            call.fail(error_of(Status.UNIMPLEMENTED, f"nobody answers {call.route} here", None))
            return
        answer = _Answer(call, request, method.request_type)
        running = _run(method.func, answer)
        try:
            answer.job = self.jobs.create_task(running, name=call.route)
        except RuntimeError:  # the process is ending by itself, and takes nothing any more
            running.close()
            return
        call.answers.append(answer)


async def _run(handler: Any, answer: "_Answer") -> None:
    await handler(answer)
    answer.finish()


class _Addresses:
    def address_of(self, _peer: Peer) -> tuple[str, int]:
        return ("192.0.2.1", 5604)

    def state_of(self, _peer: Peer) -> State:
        return State.KNOWN


@dataclass(frozen=True)
class _Link:
    """What a link has proven of its peer."""

    fingerprint: str
    host: str


@dataclass(frozen=True)
class _Stream:
    exchanges: _Link


class _Answer:
    """The server's side of one call: what grpclib's `server.Stream` is to a generated handler."""

    deadline = None

    def __init__(self, call: "SimCall", request: bytes, request_type: type[Any]) -> None:
        self._call, self._request, self._type = call, request, request_type
        self.peer = call.caller.peer
        self.metadata = call.metadata
        self._stream = _Stream(_Link(f"key of {self.peer}", "10.0.0.1"))  # as the server looks for it
        self.job: asyncio.Task[None] | None = None
        self._is_over = False
        self._clear_s = 0.0
        self._row: deque[tuple[Said, Any]] = deque()
        """What is on its way on the stream, in order."""

    async def recv_message(self) -> Any:
        return wire.decode(self._type, self._request)

    async def send_message(self, message: Any) -> None:
        await asyncio.sleep(0)
        self._send(message)

    async def send_trailing_metadata(
        self, *, status: Status, status_message: str, metadata: dict[str, bytes]
    ) -> None:
        self._is_over = True
        self._send(error_of(status, status_message, metadata.get(DETAIL_TRAILER)))

    def finish(self) -> None:
        if self._call.is_stream and not self._is_over:
            self._send(_END)

    def _send(self, item: Any) -> None:
        """In order on one stream; an answer to one request meets its own fate."""
        call, network = self._call, self._call.network
        if not call.server.is_alive:
            return  # the dead say nothing
        said = Said(call.server.peer, self.peer, call.route, item, call)
        network.said(said)
        encoded = bytes(item) if not isinstance(item, NanoError | _End) else item
        if call.is_stream:
            now_s = asyncio.get_running_loop().time()
            self._clear_s = max(self._clear_s, now_s + network.latency_s())
            self._row.append((said, encoded))
            network.later(self._clear_s - now_s, lambda: call.take(*self._row.popleft()))
            if call.route.endswith("/Outcomes") and network.fate() is Fate.DOUBLE:
                # QUIC brings nothing twice; who takes outcomes promises to bear it, however late and often
                network.later(network.held_s(), lambda: call.take(said, encoded))
            return
        for delay_s in network.delays(network.fate()):
            network.later(delay_s, lambda: call.take(said, encoded))


class _End:
    """The stream has ended well."""


_END = _End()


class SimCall:
    """The caller's side of one call: what grpclib's `client.Stream` is to a generated stub."""

    def __init__(
        self,
        caller: SimFabric,
        target: Peer | Role,
        route: str,
        reply_type: type[Any],
        timeout_s: float | None,
        *,
        is_stream: bool,
    ) -> None:
        self.caller, self.network = caller, caller.network
        self.route, self.is_stream = route, is_stream
        self.metadata: MultiDict[str] = MultiDict({TASK_HEADER: current_task()} if current_task() else {})
        self.answers: list[_Answer] = []
        self._target, self._reply_type = target, reply_type
        self._timeout = asyncio.timeout(timeout_s)
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._is_broken = False
        self.server: SimFabric

    @property
    def link(self) -> Link:
        return frozenset({self.caller.peer, self.server.peer})

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        try:
            self.server = await self.network.dial(self.caller, self._target)
        except BaseException as error:
            await self._timeout.__aexit__(type(error), error, error.__traceback__)
            raise
        self.network.opened(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.closed(self)
        if self.is_stream:
            self._hang_up()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise TimedOut(f"{self.route} did not answer before the call's deadline") from None

    def _hang_up(self) -> None:
        """The reader is gone; its handler learns of it a little later."""
        for answer in self.answers:
            if answer.job is not None:
                self.network.later(self.network.latency_s(), answer.job.cancel)  # type: ignore[arg-type]

    async def send_message(self, message: Any, *, end: bool) -> None:
        assert end, "every contract takes one request"
        said = Said(self.caller.peer, self.server.peer, self.route, message, self)
        self.network.said(said)
        request, fate = bytes(message), None if self.is_stream else self.network.fate()
        for delay_s in self.network.delays(fate):
            self.network.later(delay_s, lambda: self._arrive(said, request))

    def _arrive(self, said: Said, request: bytes) -> None:
        """At the process that was dialled; if that is dead by now, or cut off, nobody gets it."""
        if self.server.is_alive and self.network.passes(said.sender, said.receiver):
            self.network.hand_over(said)
        if self.server.is_alive and self.network.passes(said.sender, said.receiver):  # it may have died of it
            self.server.answer(self, request)

    def take(self, said: Said, item: Any) -> None:
        if self._is_broken or not self.network.passes(said.sender, said.receiver) or not self.caller.is_alive:
            return
        self.network.hand_over(said)
        if self.caller.is_alive:
            self._items.put_nowait(item)

    def broken(self) -> None:
        """The link is gone: what is on its way comes still unless it is cut; then the caller notices."""
        self.network.closed(self)
        if not self.network.passes(*self.link):
            self._is_broken = True
        self.network.later(
            self.network.notice_s(), lambda: self.fail(Unreachable(f"the link to {self._target} broke"))
        )
        if self.is_stream:
            self._hang_up()

    def fail(self, error: NanoError) -> None:
        self._is_broken = True
        self._items.put_nowait(error)

    async def recv_message(self) -> Any:
        item = await self._items.get()
        if isinstance(item, NanoError):
            raise item
        return None if isinstance(item, _End) else wire.decode(self._reply_type, item)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if (message := await self.recv_message()) is None:
            raise StopAsyncIteration
        return message


@dataclass(frozen=True)
class SimChannel:
    """The way to a peer, for generated stubs."""

    caller: SimFabric
    target: Peer | Role

    async def __connect__(self) -> None:
        """Reach the peer, as the real channel does before a call."""
        await self.caller.network.dial(self.caller, self.target)

    def request(
        self,
        route: str,
        cardinality: Any,
        _request_type: type[Any],
        reply_type: type[Any],
        *,
        timeout: float | None = None,
        **_rest: Any,
    ) -> SimCall:
        is_stream = bool(cardinality.server_streaming)
        return SimCall(self.caller, self.target, route, reply_type, timeout, is_stream=is_stream)


@dataclass(frozen=True)
class SimBulk:
    """The way to a peer's bodies; a link that is cut, or whose end dies, breaks off between two pieces."""

    caller: SimFabric
    target: Role

    async def get(self, path: str, offset: int = 0) -> AsyncIterator[bytes]:
        server, handler = self._allowed("GET", path)
        with answering(Caller(self.caller.peer, None, "")):
            body = await handler.get(BulkRequest(path, offset))
        async for piece in body.chunks:
            await asyncio.sleep(self.caller.network.latency_s())
            self._check(server)
            yield piece

    async def put(self, image: ImageId, body: AsyncIterator[bytes]) -> int:
        path = f"/images/{image}"
        server, handler = self._allowed("PUT", path)

        async def sent() -> AsyncIterator[bytes]:
            async for piece in body:
                await asyncio.sleep(self.caller.network.latency_s())
                self._check(server)
                yield piece

        with answering(Caller(self.caller.peer, None, "")):  # the job takes it over
            job = server.jobs.create_task(_caught(handler, BulkRequest(path), sent()))
        await asyncio.wait([job])
        self._check(server)
        headers = job.result()
        if isinstance(headers, NanoError):
            raise headers
        self.caller.network.said(
            Said(server.peer, self.caller.peer, path, _Revision(int(headers["revision"])))
        )
        return int(headers["revision"])

    def _allowed(self, method: str, path: str) -> tuple[SimFabric, BulkHandler]:
        server = self.caller.network.find(self.target)
        if server is None or server.bulk_served is None:
            raise Unreachable(f"{self.target} is not there")
        self._check(server)
        handler, table = server.bulk_served
        if self.caller.peer.role not in roles_for(table, method, path):
            raise Forbidden(f"{self.caller.peer} may not {method} {path}")
        return server, handler

    def _check(self, server: SimFabric) -> None:
        if not server.is_alive or not self.caller.network.passes(self.caller.peer, server.peer):
            raise Unreachable(f"the bulk link to {server.peer} broke")


@dataclass(frozen=True)
class _Revision:
    revision: int


async def _caught(handler: BulkHandler, request: BulkRequest, body: AsyncIterator[bytes]) -> Any:
    """A refusal is an answer, not a reason for the process to end."""
    with suppress(asyncio.CancelledError):
        try:
            return await handler.put(request, body)
        except NanoError as error:
            return error
    return Unreachable("the image store died")
