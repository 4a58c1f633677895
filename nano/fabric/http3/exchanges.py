"""All requests and answers on one link: HTTP/3 on its streams, with back-pressure both ways.

A sender waits while much of what it wrote was not sent; a caller waits while the peer allows no more streams.
The streams themselves are `stream.py`; to grpclib this is `protocol.Connection`.
"""

import asyncio
from typing import Protocol

from aioquic.h3.connection import ErrorCode
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError

from nano.fabric.http3.h3 import Http3, Malformed
from nano.fabric.http3.header_blocks import Headers, headers_frame
from nano.fabric.http3.stream import Cancellable, Stream
from nano.fabric.http3.whole_frames import data_frame_head
from nano.fabric.packets.address import Address
from nano.fabric.packets.quic import Connection
from nano.model.errors import NanoError
from nano.model.peers import Peer

_CANCELLED = ErrorCode.H3_REQUEST_CANCELLED
_MALFORMED = {ErrorCode.H3_MESSAGE_ERROR, ErrorCode.H3_EXCESSIVE_LOAD}

_HOLD_BYTES = 4096
"""What a stream says is held back to the end of the turn, or until so much has gathered: head, message and
trailers of a call go to QUIC as one."""


class Carrier(Protocol):
    """The link, as far as exchanges need it."""

    error: NanoError | None
    fingerprint: str

    @property
    def address(self) -> Address: ...

    @property
    def peer(self) -> Peer: ...

    def flush_soon(self) -> None: ...

    def requested(self, stream: Stream, headers: Headers) -> None: ...


class LinkLost(StreamTerminatedError):
    """A call ended with its link; `fact` is the reason as the model's error."""

    def __init__(self, fact: NanoError) -> None:
        super().__init__(str(fact))
        self.fact = fact


class Exchanges:
    """The open streams of one link."""

    # counters that grpclib keeps on its connections
    messages_sent = messages_received = 0
    last_message_sent: float | None = None
    last_message_received: float | None = None

    def __init__(self, connection: Connection, carrier: Carrier) -> None:
        self._quic = connection
        self._carrier = carrier
        self._loop = asyncio.get_running_loop()
        self._http: Http3 | None = None
        self._streams: dict[int, Stream] = {}
        self._deaf: set[int] = set()
        """Streams that the peer was asked to stop, and that may still bring what was on its way. HTTP/3 has
        forgotten them: it would take that for the beginning of a malformed request."""
        self._held: dict[int, bytes] = {}
        """By stream: frames that go to QUIC with what follows in this turn, or at its end."""
        self._senders: dict[int, asyncio.Future[None]] = {}
        self._slots: dict[asyncio.Future[None], None] = {}
        """Callers that wait for the peer to allow one more stream, in the order in which they came."""
        self.last_used = self._loop.time()

    def __len__(self) -> int:
        """Streams that are not released yet."""
        return len(self._streams)

    @property
    def peer_leaves(self) -> bool:
        """Whether no request may begin here: the peer asked for it, or HTTP/3 has not begun."""
        return self._http is None or self._http.peer_leaves

    def begin(self) -> None:
        """The peers agreed on HTTP/3."""
        self._http = Http3(self._quic)

    def leave(self) -> None:
        """Ask the peer to begin no more requests here."""
        if self._http is not None:
            self._http.leave()
            self._carrier.flush_soon()

    def end(self, error: NanoError) -> None:
        """The link is over: whoever waits is told."""
        for stream in list(self._streams.values()):
            if not (stream.received_end and stream.sent_end):
                stream.terminate(LinkLost(error))
        for waiter in (*self._senders.values(), *self._slots):
            resolve(waiter)

    # What streams ask

    def create_stream(self, *, wrapper: Cancellable | None = None) -> Stream:
        return Stream(self, wrapper=wrapper)

    async def open_stream(self, stream: Stream) -> None:
        """Give `stream` its id, when the peer allows one more."""
        while self._carrier.error is None and self._quic.free_streams <= 0:
            await self._slot()
        if self._carrier.error is not None:
            raise LinkLost(self._carrier.error)
        stream.opened(self._quic.open_stream())
        self._streams[stream.id] = stream

    def send_headers(self, stream: Stream, headers: Headers, *, end: bool) -> None:
        if self._carrier.error is not None or self._http is None or not self._quic.takes_data(stream.id):
            raise StreamClosedError(stream.id)
        stream.sent_headers = True
        stream.sent_end = stream.sent_end or end
        self._say(stream.id, headers_frame(headers), end=end)

    async def send_data(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """Send in parts, each when there is room below the mark."""
        mark = stream.send_mark_bytes
        parts = range(0, len(data), mark) or (0,)
        for start in parts:
            while (
                self._quic.unsent_bytes(stream.id) >= mark
                and stream.error is None
                and self._quic.takes_data(stream.id)
            ):
                await self._room(stream.id)
            if stream.unwanted:
                return
            if stream.error is not None or self._http is None or not self._quic.takes_data(stream.id):
                raise StreamClosedError(stream.id)
            part = data if len(data) <= mark else data[start : start + mark]
            last = end and start == parts[-1]
            stream.sent_end = stream.sent_end or last
            self._say(stream.id, b"".join((data_frame_head(len(part)), part)), end=last)

    def say_data(self, stream: Stream, data: bytes, *, end: bool) -> bool:
        """Send `data` if that needs no wait; whether it was sent."""
        if (
            self._carrier.error is not None
            or len(data) > stream.send_mark_bytes
            or not self._quic.takes_data(stream.id)
            or self._quic.unsent_bytes(stream.id) >= stream.send_mark_bytes
        ):
            return False
        stream.sent_end = stream.sent_end or end
        self._say(stream.id, b"".join((data_frame_head(len(data)), data)), end=end)
        return True

    def _say(self, stream_id: int, frame: bytes, *, end: bool) -> None:
        held = self._held.pop(stream_id, None)
        if held is not None:
            frame = held + frame
        if end or len(frame) >= _HOLD_BYTES:
            self._quic.send_stream_data(stream_id, frame, end)
        else:
            self._held[stream_id] = frame
        self._carrier.flush_soon()

    def push(self) -> None:
        """Give QUIC what was held back."""
        for stream_id, frame in self._held.items():
            if self._quic.takes_data(stream_id):
                self._quic.send_stream_data(stream_id, frame)
        self._held.clear()

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """The application took bytes: tell the peer when that makes a difference."""
        if self._quic.consume(stream_id, size_bytes) and self._carrier.error is None:
            self._carrier.flush_soon()

    def reset(self, stream: Stream, code: int = ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Break a stream off in both directions, as far as they are still open.

        After the end was sent nothing is reset: it would take back trailers not yet on the wire.
        """
        self._held.pop(stream.id, None)
        resolve(self._senders.pop(stream.id, None))
        if stream.id < 0 or self._carrier.error is not None or not self._quic.has_stream(stream.id):
            return
        if not stream.sent_end:
            stream.sent_end = True
            self._quic.reset_stream(stream.id, code)
        if not stream.received_end:
            stream.received_end = True
            self._deaf.add(stream.id)
            blamed = self._quic.is_client or code in _MALFORMED
            self._quic.stop_stream(stream.id, code if blamed else ErrorCode.H3_NO_ERROR)
        if self._http is not None:
            self._http.forget(stream.id)
        self._carrier.flush_soon()

    def release(self, stream: Stream) -> None:
        """Nobody needs this stream any more: break off what is unfinished, give back what is unread."""
        if stream.released or stream.id < 0:
            return
        stream.released = True
        self._streams.pop(stream.id, None)
        if not (stream.sent_end and stream.received_end):
            self.reset(stream, _CANCELLED if self._quic.is_client else ErrorCode.H3_INTERNAL_ERROR)
        if self._http is not None:
            self._http.forget(stream.id)
        if self._quic.release(stream.id) and self._carrier.error is None:
            self._carrier.flush_soon()
        resolve(self._senders.pop(stream.id, None))
        self.last_used = self._loop.time()

    # grpclib's names

    def get_peer(self) -> Peer:
        return self._carrier.peer

    @property
    def fingerprint(self) -> str:
        """What the peer's key is known by."""
        return self._carrier.fingerprint

    @property
    def host(self) -> str:
        """Where the peer is now."""
        return self._carrier.address[0]

    # What the link tells

    def receive(self, event: StreamDataReceived) -> None:
        """Something came on a stream."""
        if self._http is None or (self._deaf and self._unheard(event)):
            return
        stream_id = event.stream_id
        try:
            pieces = self._http.read(event)
        except Malformed as found:
            self._malformed(stream_id, found)
            return
        for headers, data, ended in pieces:
            if headers is not None:
                self._headers_came(stream_id, headers, ended=ended)
            elif (stream := self._streams.get(stream_id)) is not None:
                if data:
                    self._quic.hold(stream_id, len(data))
                    stream.data_came(data)
                if ended:
                    stream.ended()
        if event.end_stream:
            self._deaf.discard(stream_id)

    def broken(self, event: StreamReset | StopSendingReceived) -> None:
        """The peer gave a stream up in one direction."""
        if self._http is None:
            return
        self._http.handle_event(event)
        match event:
            case StreamReset(stream_id=stream_id, error_code=code):
                self._deaf.discard(stream_id)
                self._broken_off(stream_id, code)
            case StopSendingReceived(stream_id=stream_id, error_code=code):
                self._stopped(stream_id, code)

    def wake(self) -> None:
        """Something was sent, or the peer gave room: let go on who may."""
        for stream_id in [found for found in self._senders if self._has_room(found)]:
            resolve(self._senders.pop(stream_id))
        free = self._quic.free_streams
        while self._slots and free > 0:
            first = next(iter(self._slots))
            del self._slots[first]
            resolve(first)
            free -= 1

    def _unheard(self, event: StreamDataReceived) -> bool:
        if event.stream_id not in self._deaf:
            return False
        if event.end_stream:
            self._deaf.discard(event.stream_id)
        return True

    def _malformed(self, stream_id: int, found: Malformed) -> None:
        """What came on a stream is no message: break off this stream, and no other."""
        stream = self._streams.get(stream_id) or Stream(self, stream_id)
        stream.received_end = stream.received_end or found.ended
        stream.terminate(StreamTerminatedError(f"the peer sent what is no message: {found}"))
        self.reset(stream, found.code)

    def _headers_came(self, stream_id: int, headers: Headers, *, ended: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._quic.is_client:
                return  # the rest of an answer that nobody waits for
            stream = self._streams[stream_id] = Stream(self, stream_id)
            stream.headers_came(headers, last=ended)
            if self._quic.takes_data(stream_id):
                self._carrier.requested(stream, headers)
            else:  # given up by the peer in the very packet that brought it
                stream.sent_end, stream.received_end = True, ended
                stream.release()
        elif headers and headers[0][0] == ":status" and headers[0][1].startswith("1"):
            return  # an interim answer (RFC 9110, 15.2)
        else:
            stream.headers_came(headers, last=ended)
        if ended:
            stream.ended()

    def _broken_off(self, stream_id: int, code: int) -> None:
        """The peer sends no more on this stream."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.received_end:
            stream.received_end = True
            stream.terminate(StreamTerminatedError(f"the peer broke the stream off (code {code:#x})"))
            self.reset(stream)

    def _stopped(self, stream_id: int, code: int) -> None:
        """The peer reads no more on this stream. Without an error it only has no use for the rest."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.sent_end = True  # QUIC answered with a reset already
        self._held.pop(stream_id, None)
        resolve(self._senders.pop(stream_id, None))
        if code == ErrorCode.H3_NO_ERROR:
            stream.unwanted = True
            return
        stream.terminate(StreamTerminatedError(f"the peer gave the stream up (code {code:#x})"))
        self.reset(stream)

    async def _slot(self) -> None:
        waiter = self._loop.create_future()
        self._slots[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._slots:
                del self._slots[waiter]
            else:
                self.wake()  # it was given a place and does not take it: that is for the next one
            raise

    async def _room(self, stream_id: int) -> None:
        waiter = self._senders.get(stream_id)
        if waiter is None:
            waiter = self._senders[stream_id] = self._loop.create_future()
        await asyncio.shield(waiter)

    def _has_room(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return stream is None or self._quic.unsent_bytes(stream_id) < stream.send_mark_bytes // 2


def resolve(waiter: asyncio.Future[None] | None) -> None:
    """Let `waiter` go on, if it is there and still waits."""
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
