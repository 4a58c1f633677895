"""A display behind a descriptor: one end of a pair of sockets, the other with whoever draws the screen."""

import asyncio
import socket

READ_BYTES = 32 * 1024
"""Read at once."""


class Descriptor:
    """`Display` over a connected AF_UNIX stream, which it takes over.

    The stream is over when the machine is, however that shows: an end, a reset, a broken pipe.
    """

    def __init__(self, screen: socket.socket) -> None:
        screen.setblocking(False)
        self.socket = screen
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> bytes:
        try:
            return await self._loop.sock_recv(self.socket, READ_BYTES)
        except OSError:
            return b""

    async def send(self, data: bytes) -> bool:
        try:
            await self._loop.sock_sendall(self.socket, data)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.socket.close()
