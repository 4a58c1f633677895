"""A network between two sockets that a test can cut, and that can change the sender's port as a NAT does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

Address = tuple[str, int]


class Relay:
    """Passes datagrams between whoever sends to `address` and `target`."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.cut = False
        self.passed = 0
        self._client: Address | None = None
        self._front: asyncio.DatagramTransport | None = None
        self._back: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        assert self._front is not None
        host, port = self._front.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    async def rebind(self) -> None:
        """From now on the target sees datagrams come from another port."""
        if self._back is not None:
            self._back.close()
        loop = asyncio.get_running_loop()
        self._back, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_target), local_addr=("127.0.0.1", 0)
        )

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, target: Address) -> AsyncIterator["Relay"]:
        async with cls(target).open() as relay:
            yield relay

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_client), local_addr=("127.0.0.1", 0)
        )
        await self.rebind()
        try:
            yield self
        finally:
            for side in (self._front, self._back):
                if side is not None:
                    side.close()

    def _from_client(self, data: bytes, address: Address) -> None:
        self._client = address
        if not self.cut and self._back is not None:
            self.passed += 1
            self._back.sendto(data, self.target)

    def _from_target(self, data: bytes, _: Address) -> None:
        if not self.cut and self._front is not None and self._client is not None:
            self.passed += 1
            self._front.sendto(data, self._client)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received: Any) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)
