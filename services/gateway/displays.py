"""Displays over the fabric: one call of `CellHost.OpenDisplay` for each console."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpclib.const import Cardinality

from nano.contracts.nano import v1
from nano.fabric.calls.channel import BROKEN, Call
from nano.fabric.fabric import Fabric
from nano.fabric.http3.stream import keep_short
from nano.model.errors import Corrupt
from nano.model.ids import CellId, InstanceId
from nano.model.peers import Role
from nano.relay import End

OPEN_S = 10.0
"""How long cell and emulator may take to open a display (REST document, section 8)."""
PIECE_BYTES = 64 * 1024
"""The longest piece that a cell takes."""

_METHOD = "/nano.v1.CellHost/OpenDisplay"


class CellDisplays:
    """`services.gateway.call.Displays`: asks the cell, and nobody else knows where that is.

    By a call of our own making: the generated stub gives the sending half to a task that nobody waits for.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    @asynccontextmanager
    async def open(self, cell: CellId, instance: InstanceId) -> AsyncIterator[End]:
        channel = self._fabric.channel(Role.CELL, cell, visit=True)
        kinds = (Cardinality.STREAM_STREAM, v1.DisplayPiece, v1.DisplayPiece)
        async with channel.request(_METHOD, *kinds) as call:
            async with asyncio.timeout(OPEN_S):
                await call.send_message(v1.DisplayPiece(instance=instance))
                if await call.recv_message() is None:
                    await call.end_well()
                    raise Corrupt(f"cell {cell} ended the display of {instance} before it was open")
            keep_short(call, PIECE_BYTES)
            try:
                yield _CellEnd(call)
            finally:
                call.abandon()


class _CellEnd:
    """The cell's half of the call. It is over when the machine has gone off."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def receive(self) -> bytes:
        try:
            while (piece := await self._call.recv_message()) is not None:
                if piece.data:
                    return bytes(piece.data)
            await self._call.end_well()
        except BROKEN as error:
            raise self._call.fact(error) from error
        return b""

    async def send(self, data: bytes) -> bool:
        try:
            for start in range(0, len(data), PIECE_BYTES):
                await self._call.send_message(v1.DisplayPiece(data=data[start : start + PIECE_BYTES]))
        except BROKEN:
            await asyncio.Event().wait()  # who receives hears why, and ends this wait
        return True
