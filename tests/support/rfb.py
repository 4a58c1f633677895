"""A small RFB 3.8 client (RFC 6143) for tests: shakes hands, asks for the screen, presses keys.

It speaks over anything that gives and takes bytes: a socket, a websocket, a call of the fabric.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

GREETING = b"RFB 003.008\n"
RAW = 0
PATIENCE_S = 30.0

Receive = Callable[[], Awaitable[bytes]]
"""The next bytes, in whatever parts; empty at the end."""
Send = Callable[[bytes], Awaitable[object]]


class Ended(Exception):
    """The other side closed."""


@dataclass(frozen=True)
class Picture:
    """Part of a screen: four octets a dot, blue, green, red and one of no meaning."""

    x: int
    y: int
    width: int
    height: int
    dots: bytes

    @property
    def colours(self) -> set[bytes]:
        return {self.dots[at : at + 3] for at in range(0, len(self.dots), 4)}


class RfbClient:
    """After `shake_hands` it knows `width`, `height` and `name`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._held = bytearray()
        self.width = self.height = 0
        self.name = ""

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes; Ended when they do not come any more."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self._held) < size:
                part = await self._receive()
                if not part:
                    raise Ended
                self._held += part
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def shake_hands(self) -> None:
        """To the end of ServerInit, with security None; then asks for pixels as `Picture` has them, raw."""
        greeting = await self.read(len(GREETING))
        assert greeting == GREETING, greeting
        await self._send(GREETING)
        (count,) = await self.read(1)
        kinds = await self.read(count)
        assert 1 in kinds, f"security None is not among {list(kinds)}"
        await self._send(b"\x01")
        assert await self.read(4) == bytes(4)
        await self._send(b"\x01")  # others may look too
        self.width, self.height = struct.unpack(">HH", await self.read(4))
        await self.read(16)
        (length,) = struct.unpack(">I", await self.read(4))
        self.name = (await self.read(length)).decode()
        pixels = struct.pack(">BB??HHHBBB3x", 32, 24, False, True, 255, 255, 255, 16, 8, 0)
        await self._send(b"\x00\x00\x00\x00" + pixels)
        await self._send(struct.pack(">BxHi", 2, 1, RAW))

    async def ask(self, *, incremental: bool = False) -> None:
        """For the whole screen, or for what changes of it."""
        await self._send(struct.pack(">B?HHHH", 3, incremental, 0, 0, self.width, self.height))

    async def update(self) -> list[Picture]:
        """The answer to `ask`. Other messages of the server are passed over."""
        while True:
            (kind,) = await self.read(1)
            if kind == 0:
                break
            await self._pass_over(kind)
        (count,) = struct.unpack(">xH", await self.read(3))
        return [await self._picture() for _ in range(count)]

    async def _picture(self) -> Picture:
        x, y, width, height, encoding = struct.unpack(">HHHHi", await self.read(12))
        assert encoding == RAW, encoding
        return Picture(x, y, width, height, await self.read(width * height * 4))

    async def _pass_over(self, kind: int) -> None:
        if kind == 1:
            _, count = struct.unpack(">xHH", await self.read(5))
            await self.read(6 * count)
        elif kind == 3:
            (length,) = struct.unpack(">3xI", await self.read(7))
            await self.read(length)
        else:
            assert kind == 2, f"message {kind} is not of RFC 6143"

    async def press(self, text: str) -> None:
        """Each letter down and up; `\\n` is Return, `\\b` Backspace."""
        keys = [{"\n": 0xFF0D, "\b": 0xFF08}.get(letter, ord(letter)) for letter in text]
        await self._send(
            b"".join(struct.pack(">B?xxI", 4, is_down, key) for key in keys for is_down in (True, False))
        )
