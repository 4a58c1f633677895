"""All requests and answers on one link: HTTP/3 on its streams, with back-pressure both ways.

A sender waits while much of what it wrote was not sent; a caller waits while the peer allows no more streams.
The streams themselves are `stream.py`; to grpclib this is `protocol.Connection`.
"""

import asyncio
import collections
from typing import Protocol

from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError

from nano.fabric.h3 import Http3
from nano.fabric.quic import Connection
from nano.fabric.stream import Cancellable, Headers, Stream
from nano.fabric.udp import Address
from nano.model.errors import NanoError
from nano.model.peers import Peer

_CANCELLED = ErrorCode.H3_REQUEST_CANCELLED


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
        self._senders: dict[int, asyncio.Future[None]] = {}
        self._slots: collections.deque[asyncio.Future[None]] = collections.deque()
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
        stream.opened(self._quic.get_next_available_stream_id())
        self._streams[stream.id] = stream

    def send_headers(self, stream: Stream, headers: Headers, *, end: bool) -> None:
        if self._carrier.error is not None or self._http is None or self._is_stopped(stream):
            raise StreamClosedError(stream.id)
        block = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._http.send_headers(stream.id, block, end)
        stream.sent_headers = True
        stream.sent_end = stream.sent_end or end
        self._carrier.flush_soon()

    async def send_data(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """Send in parts, each when there is room below the mark."""
        mark = stream.send_mark_bytes
        parts = range(0, len(data), mark) or (0,)
        for start in parts:
            while self._quic.unsent_bytes(stream.id) >= mark and stream.error is None:
                await self._room(stream.id)
            if stream.unwanted:
                return
            if stream.error is not None or self._http is None or self._is_stopped(stream):
                raise StreamClosedError(stream.id)
            part = data if len(data) <= mark else data[start : start + mark]
            last = end and start == parts[-1]
            self._http.send_data(stream.id, part, last)
            stream.sent_end = stream.sent_end or last
            self._carrier.flush_soon()

    def _is_stopped(self, stream: Stream) -> bool:
        """Whether QUIC has given up this stream already, though the news is still on its way to us."""
        is_open = stream.sent_headers or not self._quic.is_client
        return is_open and not self._quic.takes_data(stream.id)

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """The application took bytes: tell the peer when that makes a difference."""
        if self._quic.consume(stream_id, size_bytes) and self._carrier.error is None:
            self._carrier.flush_soon()

    def reset(self, stream: Stream, code: int = ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Break a stream off in both directions, as far as they are still open.

        After the end was sent nothing is reset: it would take back trailers not yet on the wire.
        """
        if stream.id < 0 or self._carrier.error is not None or not self._quic.has_stream(stream.id):
            return
        if not stream.sent_end:
            stream.sent_end = True
            self._quic.reset_stream(stream.id, code)
        if not stream.received_end:
            stream.received_end = True
            self._deaf.add(stream.id)
            self._quic.stop_stream(stream.id, code if self._quic.is_client else ErrorCode.H3_NO_ERROR)
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

    def receive(self, event: StreamDataReceived | StreamReset | StopSendingReceived) -> None:
        """Something happened to a stream."""
        if self._http is None or (isinstance(event, StreamDataReceived) and self._unheard(event)):
            return
        for found in self._http.handle_event(event):
            self._http_event(found)
        match event:
            case StreamDataReceived(stream_id=stream_id, end_stream=True):
                self._deaf.discard(stream_id)
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
            resolve(self._slots.popleft())
            free -= 1

    def _unheard(self, event: StreamDataReceived) -> bool:
        if event.stream_id not in self._deaf:
            return False
        if event.end_stream:
            self._deaf.discard(event.stream_id)
        return True

    def _http_event(self, event: H3Event) -> None:
        match event:
            case DataReceived(data=data, stream_id=stream_id, stream_ended=ended):
                stream = self._streams.get(stream_id)
                if stream is None:
                    return
                if data:
                    self._quic.hold(stream_id, len(data))
                    stream.data_came(data)
                if ended:
                    stream.ended()
            case HeadersReceived(headers=block, stream_id=stream_id, stream_ended=ended):
                self._headers_came(stream_id, block, ended=ended)

    def _headers_came(self, stream_id: int, block: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in block]
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
        elif dict(headers).get(":status", "").startswith("1"):
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
        resolve(self._senders.pop(stream_id, None))
        if code == ErrorCode.H3_NO_ERROR:
            stream.unwanted = True
            return
        stream.terminate(StreamTerminatedError(f"the peer gave the stream up (code {code:#x})"))
        self.reset(stream)

    async def _slot(self) -> None:
        waiter = self._loop.create_future()
        self._slots.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._slots:
                self._slots.remove(waiter)
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
