"""Saying who is here by multicast, and hearing it: once at the start, when asked, rarely else, at the end.

What comes in are hints for the roster. Nothing is polled: datagrams, changes of interfaces and one timer wake
it.
"""

import asyncio
import contextlib
import zlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import structlog

from nano.fabric.peers.announcement import ANY_ZONE, LIMIT_BYTES, Announcement, Kind, decode, encode
from nano.fabric.peers.multicast import Group, InterfaceWatch, MulticastSocket
from nano.fabric.peers.roster import ANNOUNCE_EVERY_S
from nano.model.errors import Corrupt
from nano.model.peers import Role

ANSWER_SPREAD_S = 0.1
"""Answers to a query come spread over this time, each peer at its own place in it: a whole zone answers."""

ANSWER_GAP_S = 0.25
"""The least time between two announcements: many who ask at once, or a liar who always does, get few."""

SETTLE_S = 0.2
"""How long after a change of interfaces they are looked at: such changes come in flocks."""

AT_ONCE = 64
"""Datagrams read per wake-up: a flood of them leaves the loop to others in between."""

Hear = Callable[[Announcement, str], None]


class Discovery:
    """Announces `own` while its context is open, and tells `hear` what others announce, and from where."""

    def __init__(self, own: Announcement, group: Group, hear: Hear) -> None:
        self._own = own
        self._group = group
        self._hear = hear
        self._stack = contextlib.ExitStack()
        self._said_at = float("-inf")
        self._next: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self.malformed = 0
        """Datagrams that were no announcement, ignored."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            self._socket = stack.enter_context(MulticastSocket(self._group))
            self._watch = stack.enter_context(InterfaceWatch())
            for source, action in ((self._socket, self._receive), (self._watch, self._interfaces_change)):
                self._loop.add_reader(source, action)
                stack.callback(self._loop.remove_reader, source)
            self._stack = stack.pop_all()
        self._say_here()
        structlog.get_logger().info(
            "discovery.started",
            peer=str(self._own.peer),
            interfaces=sorted(each.address for each in self._socket.interfaces),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in (self._next, self._settling):
            if timer is not None:
                timer.cancel()
        self._say(Kind.LEAVING)
        self._stack.close()

    def query(self, role: Role) -> None:
        """Asks who of `role` is here; answers come to `hear`."""
        self._socket.refresh()
        self._say(Kind.QUERY, wants=role)

    def _say(self, kind: Kind, *, wants: Role | None = None) -> None:
        self._socket.send(encode(msgspec.structs.replace(self._own, kind=kind, wants=wants)))

    def _say_here(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._socket.refresh()
        self._say(Kind.HERE)
        self._said_at = self._loop.time()
        self._next = self._loop.call_later(ANNOUNCE_EVERY_S, self._say_here)

    def _say_here_at(self, when: float) -> None:
        """Brings the next announcement forward; one that comes earlier anyway will do."""
        if self._next is None or when < self._next.when():
            if self._next is not None:
                self._next.cancel()
            self._next = self._loop.call_at(when, self._say_here)

    def _receive(self) -> None:
        for _ in range(AT_ONCE):
            got = self._socket.receive(LIMIT_BYTES)
            if got is None:
                return
            datagram, host = got
            try:
                said = decode(datagram)
            except Corrupt:
                self.malformed += 1
                continue
            self._answer(said)
            self._hear(said, host)

    def _answer(self, said: Announcement) -> None:
        ours = said.zone in {self._own.zone, ANY_ZONE} and said.domain == self._own.domain
        if ours and said.peer != self._own.peer and said.asks_for(self._own.peer):
            spread_s = zlib.crc32(self._own.id.encode()) / 2**32 * ANSWER_SPREAD_S
            self._say_here_at(max(self._loop.time() + spread_s, self._said_at + ANSWER_GAP_S))

    def _interfaces_change(self) -> None:
        self._watch.drain()
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._settling = None
        if self._socket.refresh():
            self._say_here()
