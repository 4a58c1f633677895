"""Where a scheduler may be, for a server that is in no zone yet: as told, and as heard by multicast.

All of it are hints; whom to believe is decided when one is dialled.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from nano.fabric.packets.address import Address
from nano.fabric.peers.announcement import ANY_ZONE, LIMIT_BYTES, Announcement, Kind, decode, encode
from nano.fabric.peers.discovery import AT_ONCE
from nano.fabric.peers.multicast import Group, MulticastSocket
from nano.model.errors import Corrupt
from nano.model.peers import Role

HEARD_LIMIT = 16
"""Addresses that were only heard and are remembered: anybody can announce any number."""

_NO_PORT = 9  # "discard": who asks listens nowhere


class Schedulers:
    """Looks for schedulers while its context is open. `zone`: of that zone only; empty: of any."""

    def __init__(
        self, told: Sequence[Address], group: Group | None, *, domain: str, fingerprint: str, zone: str = ""
    ) -> None:
        self.told = tuple(told)
        """Where one should be, as against: who was only heard."""
        self._group = group
        self._zone = zone
        self._query = Announcement(
            kind=Kind.QUERY,
            zone=zone or ANY_ZONE,
            domain=domain,
            role=Role.APPLICANT,
            id=fingerprint,
            port=_NO_PORT,
            wants=Role.SCHEDULER,
        )
        self._heard: dict[Address, None] = {}
        self._news = asyncio.Event()
        self._socket: MulticastSocket | None = None
        self._stack = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        if self._group is not None:
            loop = asyncio.get_running_loop()
            self._socket = self._stack.enter_context(MulticastSocket(self._group))
            loop.add_reader(self._socket, self._receive)
            self._stack.callback(loop.remove_reader, self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def look(self, within_s: float) -> list[Address]:
        """Ask who is there; what is known when somebody new was heard, or the time is up."""
        self._news.clear()
        if self._socket is not None:
            self._socket.refresh()
            self._socket.send(encode(self._query))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._news.wait()
        return self.known

    @property
    def known(self) -> list[Address]:
        """Those that were told first, then the latest heard."""
        return list(dict.fromkeys([*self.told, *reversed(self._heard)]))

    def failed(self, address: Address) -> None:
        """Nobody answered there: it is forgotten until it is heard again."""
        self._heard.pop(address, None)

    def _receive(self) -> None:
        for _ in range(AT_ONCE):
            got = self._socket.receive(LIMIT_BYTES) if self._socket else None
            if got is None:
                return
            with contextlib.suppress(Corrupt):
                self._hear(decode(got[0]), got[1])

    def _hear(self, said: Announcement, host: str) -> None:
        ours = said.domain == self._query.domain and self._zone in {"", said.zone}
        if not ours or said.role is not Role.SCHEDULER or said.kind is Kind.LEAVING:
            return
        address = (host, said.port)
        is_new = address not in self._heard
        self._heard.pop(address, None)
        self._heard[address] = None
        while len(self._heard) > HEARD_LIMIT:
            self._heard.pop(next(iter(self._heard)))
        if is_new:
            self._news.set()
