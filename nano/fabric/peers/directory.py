"""Where peers are, for whoever calls them: the roster, fed by discovery and links, and asked by name."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from nano.fabric.identity.identity import Identity
from nano.fabric.packets.address import Address
from nano.fabric.peers.announcement import Announcement, Kind
from nano.fabric.peers.discovery import Discovery
from nano.fabric.peers.multicast import Group
from nano.fabric.peers.roster import Roster
from nano.fabric.peers.roster_events import (
    Announce,
    Command,
    Event,
    Heard,
    News,
    NoLongerSought,
    Query,
    Sought,
    Target,
    Tick,
)
from nano.model.peers import Peer, Role

Told = Callable[[Peer, News], None]


class Directory:
    """The peers of `identity`'s zone, while its context is open.

    `port` is where this peer listens for links. Without a `group` there is no multicast, only what `static`
    says. `told` hears the news of each peer; it must not block.
    """

    def __init__(
        self,
        identity: Identity,
        port: int,
        *,
        group: Group | None = None,
        domain: str = "nano",
        static: Mapping[Peer, Address] | None = None,
        told: Told | None = None,
    ) -> None:
        self.roster = Roster(identity.zone, identity.peer, domain=domain, static=static)
        own = Announcement(
            kind=Kind.HERE,
            zone=identity.zone,
            domain=domain,
            role=identity.role,
            id=identity.id,
            port=port,
        )
        self.discovery = Discovery(own, group, self._hear) if group else None
        self._told = told
        self._waiters: dict[Target, set[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self.discovery:
            await self.discovery.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.discovery:
            await self.discovery.__aexit__(kind, error, trace)

    def tell(self, event: Event) -> None:
        """What happened to a link; see `roster_events`."""
        for command in self.roster.receive(event, self._loop.time()):
            self._do(command)
        for target, waiters in self._waiters.items():
            if self.look(target) is not None:
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(None)
        self._arm()

    def look(self, target: Target) -> tuple[Peer, Address] | None:
        """The peer, or the best one of the role, with its best address; None when nothing is known now."""
        peer = self.roster.one(target) if isinstance(target, Role) else target
        address = self.roster.address_of(peer) if peer else None
        return (peer, address) if peer and address else None

    async def find(self, target: Target) -> tuple[Peer, Address]:
        """As `look`, but asks the network and waits until somebody is there, or the caller's deadline."""
        while (found := self.look(target)) is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            waiters = self._waiters.setdefault(target, set())
            waiters.add(waiter)
            self.tell(Sought(target))
            try:
                await waiter
            finally:
                waiters.discard(waiter)
                if not waiters and self._waiters.get(target) is waiters:
                    del self._waiters[target]
                    self.tell(NoLongerSought(target))
        return found

    def ask(self, role: Role) -> None:
        """Asks every peer of `role` to say that it is here; `told` hears of them."""
        self._do(Query(role))

    def _hear(self, announcement: Announcement, host: str) -> None:
        self.tell(Heard(announcement, host))

    def _do(self, command: Command) -> None:
        match command:
            case Announce():
                if self._told:
                    self._told(command.peer, command.news)
            case Query():
                if self.discovery:
                    self.discovery.query(command.role)

    def _arm(self) -> None:
        """One timer, for when the roster next waits for time."""
        due = self.roster.next_at
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() == due:
                return
            self._timer.cancel()
            self._timer = None
        if due != float("inf"):
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.tell(Tick())
