"""The sockets of pretended displays: each connection to a screen is a pair, one end of it served here."""

import asyncio
import socket
from typing import cast

import structlog

from nano.model.ids import InstanceId
from services.cell.descriptor import Descriptor
from services.cell.sim_display import Broken, RfbServer, Screen

_log = structlog.get_logger()


class Screens:
    """The screens of the machines that are on, and who looks at them."""

    def __init__(self) -> None:
        self._screens: dict[InstanceId, Screen] = {}
        self._looking: dict[InstanceId, set[_Served]] = {}

    async def open(self, instance: InstanceId, name: str) -> Descriptor:
        """A new connection to the screen; the client's end of it."""
        screen = self._screens.setdefault(instance, Screen(name, instance))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        looking = self._looking.setdefault(instance, set())
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Served(screen, looking), sock=ours)
        except BaseException:  # also a caller who has gone meanwhile
            theirs.close()
            raise
        return Descriptor(theirs)

    def restart(self, instance: InstanceId) -> None:
        """The machine begins anew: what was typed is gone, who looks sees that."""
        screen = self._screens.get(instance)
        if screen is not None:
            screen.clear()

    def close(self, instance: InstanceId) -> None:
        """The machine is off: whoever looks is cut off."""
        self._screens.pop(instance, None)
        for served in self._looking.pop(instance, set()):
            served.cut()

    def close_all(self) -> None:
        for instance in tuple(self._looking):
            self.close(instance)


class _Served(asyncio.Protocol):
    """One client. While it does not read what it asked for, it is not heard either."""

    def __init__(self, screen: Screen, looking: "set[_Served]") -> None:
        self._server = RfbServer(screen)
        self._screen = screen
        self._looking = looking
        self._transport: asyncio.Transport | None = None
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._looking.add(self)
        self._screen.watchers.append(self._send)  # behind the server's own, which answers
        self._send()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - asyncio makes the connection first
        try:
            self._server.receive(data)
        except Broken as error:
            _log.info("display.not_understood", instance=self._screen.instance, error=str(error))
            self._transport.close()
        self._send()

    def pause_writing(self) -> None:
        assert self._transport is not None  # noqa: S101
        self._is_full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None  # noqa: S101
        self._is_full = False
        self._transport.resume_reading()
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        self._looking.discard(self)
        self._screen.watchers.remove(self._send)
        self._server.close()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        if self._transport is None or self._is_full or self._transport.is_closing():
            return
        if out := self._server.take():
            self._transport.write(out)
