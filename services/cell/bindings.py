"""What this host's DHCP responder is to serve, and telling it so."""

import asyncio
import re
from collections.abc import Mapping

import structlog

from nano.bindings.client import Responder
from nano.bindings.messages import Entry
from nano.model.address import Binding
from nano.model.errors import NanoError

RETRY_S = 2.0
_LONGEST_LABEL = 63
"""Octets of a host name (RFC 1035, section 2.3.4)."""

_log = structlog.get_logger()


class Bindings:
    """The bindings of this host's instances. Without a responder (a pretended host) they are only kept.

    The table is the truth, work under way included; the responder keeps a copy that outlives both of us.
    """

    def __init__(self, responder: Responder | None, bound: Mapping[str, tuple[Binding, str]]) -> None:
        """`bound`: binding and instance name by MAC, as the book has them."""
        self._responder = responder
        self._table = {mac: Entry(mac, binding, host_name(name)) for mac, (binding, name) in bound.items()}
        self._telling = asyncio.Lock()

    @property
    def served(self) -> list[Entry]:
        """What the responder serves, or will as soon as it is there."""
        return list(self._table.values())

    async def bind(self, mac: str, binding: Binding, name: str) -> None:
        """Durable at the responder when it returns; `Unreachable` when there is none to tell."""
        self._table[mac] = Entry(mac, binding, host_name(name))
        if self._responder is not None:
            async with self._telling:
                await self._responder.bind(mac, binding, host_name(name))

    async def unbind(self, mac: str) -> None:
        """Not served any more when it returns; not served at all is success."""
        self._table.pop(mac, None)
        if self._responder is not None:
            async with self._telling:
                await self._responder.unbind(mac)

    async def tell_all(self) -> None:
        """Once after the start: have exactly ours served. Waits for a responder that is not there yet."""
        told = self._responder is None
        while not told:
            try:
                async with self._telling:
                    await self._tell()
                told = True
            except NanoError as error:
                _log.warning("responder.not_told", error=error.message, entries=len(self._table))
                await asyncio.sleep(RETRY_S)

    async def _tell(self) -> None:
        assert self._responder is not None  # noqa: S101 - asked by `tell_all`
        await self._responder.replace(self.served)


def host_name(name: str) -> str:
    """An instance's name as a label that DHCP may hand out (RFC 952, RFC 1123): `web_1` is `web-1`."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name)[:_LONGEST_LABEL].strip("-")
