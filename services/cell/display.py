"""The displays of this host's instances, carried to the gateway: `CellHost.OpenDisplay`.

Between the hypervisor's display and a call of the fabric. Neither side's silence makes this one keep more
than a piece or two: the emulator is read when the caller's link has room, the caller when the emulator has.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import TypeAlias

from grpclib.const import Cardinality, Handler
from grpclib.exceptions import StreamTerminatedError
from grpclib.server import Stream
from h2.exceptions import StreamClosedError

from nano.contracts.nano import v1
from nano.fabric.http3.stream import keep_short
from nano.model.errors import Exhausted, Invalid
from nano.model.ids import InstanceId
from nano.relay import relay
from services.cell.host import Host
from services.cell.hypervisor import Hypervisor

OPEN_DISPLAY = "/nano.v1.CellHost/OpenDisplay"

PIECE_BYTES = 64 * 1024
"""The longest piece that is taken."""
UNSENT_BYTES = 64 * 1024
"""Waiting for a caller that does not read; one more piece may come on top."""
DISPLAYS = 128
"""Open at once on one host; an emulator serves a handful each."""

Call: TypeAlias = Stream[v1.DisplayPiece, v1.DisplayPiece]


class Displays:
    """Opens displays for whoever may call."""

    def __init__(self, host: Host, hypervisor: Hypervisor) -> None:
        self._host = host
        self._hypervisor = hypervisor
        self.open = 0

    def mapping(self) -> Mapping[str, Handler]:
        """For grpclib, in the place of what the generator makes: an asynchronous generator that is cut off
        while its caller sends would be left to the garbage collector, and the display with it."""
        return {
            OPEN_DISPLAY: Handler(self.answer, Cardinality.STREAM_STREAM, v1.DisplayPiece, v1.DisplayPiece)
        }

    async def answer(self, call: Call) -> None:
        """One display, until either side ends it or the link is lost; closed in each case."""
        first = await call.recv_message()
        if first is None or not first.instance or first.data:
            raise Invalid("instance", "the first piece must name an instance and hold no bytes")
        instance = self._host.built(InstanceId(first.instance)).id
        if self.open >= DISPLAYS:
            raise Exhausted(f"{DISPLAYS} displays are open on this host: close one", retry_after_s=5.0)
        self.open += 1
        try:
            with closing(await self._hypervisor.open_display(instance)) as display:
                keep_short(call, UNSENT_BYTES)
                await call.send_message(v1.DisplayPiece())
                await relay(display, _CallerEnd(call))
        finally:
            self.open -= 1


class _CallerEnd:
    """The gateway's half of the call. It is over when it says so, is broken off, or its link is lost."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def receive(self) -> bytes:
        try:
            while (piece := await self._call.recv_message()) is not None:
                if len(piece.data) > PIECE_BYTES:
                    raise Invalid("data", f"a piece of {len(piece.data)} bytes: send {PIECE_BYTES} at most")
                if piece.data:
                    return piece.data
        except StreamTerminatedError:
            pass  # there is nobody to tell
        return b""

    async def send(self, data: bytes) -> bool:
        try:
            await self._call.send_message(v1.DisplayPiece(data=data))
        except (StreamTerminatedError, StreamClosedError):
            return False
        return True
