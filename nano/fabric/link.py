"""One QUIC connection to one peer: requests, datagrams, liveness and their timers.

The same class serves both ends. `Owner` is told what happens: the side that dialled or the side that listens,
in `ends.py`. No thread and no task: datagrams, timers and calls drive it, in the event loop.
"""

import asyncio
import collections
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog
from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic import events as quic_events
from cryptography import x509
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import StreamClosedError

from nano.fabric.h3 import Http3
from nano.fabric.liveness import Liveness, Move, Patience
from nano.fabric.quic import KIB, Connection, is_trust_error
from nano.fabric.stream import Cancellable, Headers, Stream
from nano.fabric.udp import Address, Datagram
from nano.model.errors import NanoError, Unreachable, Untrusted
from nano.model.peers import Peer

SEND_MARK_BYTES = 512 * KIB
"""Unsent bytes of one stream at which its sender waits."""

_TIMER_SLACK_S = 0.25

_log = structlog.get_logger("nano.fabric")

Verify = Callable[[x509.Certificate | None], Peer]


class Owner(Protocol):
    """Who holds a link and hears of it."""

    def link_up(self, link: "Link") -> None:
        """The peer has proven who it is: `link.peer`."""

    def link_down(self, link: "Link", error: NanoError) -> None:
        """The link is over, for whatever reason; said once."""

    def link_silent(self, link: "Link", *, suspected: bool) -> None:
        """The peer has been silent for longer than it should, or is heard again."""

    def request(self, link: "Link", stream: Stream, headers: Headers) -> None:
        """A trusted peer asks for something."""

    def datagram(self, link: "Link", data: bytes) -> None:
        """A trusted peer sent a datagram."""

    def address_issued(self, link: "Link", connection_id: bytes) -> None:
        """Packets with this id are for this link."""

    def address_retired(self, link: "Link", connection_id: bytes) -> None:
        """Not any more."""


class LinkLost(StreamTerminatedError):
    """A call ended with its link; `fact` is the reason as the model's error."""

    def __init__(self, fact: NanoError) -> None:
        super().__init__(str(fact))
        self.fact = fact


class Link:
    """One connection, from its first packet to its end."""

    # counters that grpclib keeps on its connections
    messages_sent = messages_received = streams_started = 0
    last_message_sent: float | None = None
    last_message_received: float | None = None

    def __init__(
        self,
        connection: Connection,
        owner: Owner,
        *,
        send: Callable[[Iterable[Datagram]], None],
        verify: Verify,
        patience: Patience,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._quic = connection
        self._owner = owner
        self._send = send
        self._verify = verify
        self._liveness = Liveness(patience, self._loop.time(), asks=connection.is_client)
        self._http: Http3 | None = None
        self._streams: dict[int, Stream] = {}
        self._senders: dict[int, asyncio.Future[None]] = {}
        self._slots: collections.deque[asyncio.Future[None]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._peer: Peer | None = None
        self.last_used = self._loop.time()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.announced = False
        """Whether the owner told others of this link; it is the owner's own mark."""
        self.graceful = False
        """Whether the link was closed in good order, by either side."""
        self.error: NanoError | None = None
        """Why the link is over; None while it is not."""

    # What others see

    @property
    def peer(self) -> Peer:
        """Who is at the other end; only known once the link is up."""
        if self._peer is None:
            raise Untrusted("the peer of this link has not proven yet who it is")
        return self._peer

    @property
    def is_up(self) -> bool:
        return self._peer is not None and self.error is None

    @property
    def takes_calls(self) -> bool:
        """Whether a new call may start here: the link is up and the peer is not about to leave."""
        return self.is_up and self._http is not None and not self._http.peer_leaves

    @property
    def suspected(self) -> bool:
        return self._liveness.suspected

    @property
    def address(self) -> Address:
        """Where the peer is now."""
        address: Address = self._quic.get_peer_address() or ("", 0)
        return address

    @property
    def calls(self) -> int:
        """Streams that are not released yet."""
        return len(self._streams)

    @property
    def quic(self) -> Connection:
        return self._quic

    @property
    def next_silence_at(self) -> float:
        return self._liveness.next_at

    # Driven by the socket

    def receive(self, data: bytes, address: Address) -> None:
        """Take one datagram in; `flush` answers a batch of them."""
        now = self._loop.time()
        if self._quic.take(data, address, now) and self._liveness.heard(now) and self.is_up:
            self._owner.link_silent(self, suspected=False)

    def flush(self) -> None:
        """Act on what has happened and send what there is to send."""
        self._flush_handle = None
        if self.error is not None:
            return
        while (event := self._quic.next_event()) is not None:
            self._handle(event)
        self._transmit()
        ended = self._quic.ended
        if ended is not None:
            self.graceful = _is_graceful(ended)
            self._end(_reason(ended))
        else:
            self._wake()
            self._arm()

    def flush_soon(self) -> None:
        """Send at the end of this turn of the loop: what several calls say now goes into one packet."""
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def close(self, error: NanoError | None = None) -> None:
        """End the link now; calls that are open fail with `error`."""
        if self.error is not None:
            return
        code = ErrorCode.H3_NO_ERROR if error is None else ErrorCode.H3_INTERNAL_ERROR
        self._quic.close(error_code=code, reason_phrase=str(error or "closed")[:200])
        self._transmit()
        self.graceful = error is None
        self._end(error or Unreachable("the link was closed on this side"))

    async def leave(self) -> None:
        """Ask the peer to start no more calls here, and return when it knows. Open calls go on."""
        if self._http is None or not self.is_up:
            return
        self._http.leave()
        try:
            await self.ping()
        except NanoError:
            return  # it is gone already

    async def ping(self) -> None:
        """Return when the peer has answered; `Unreachable` if the link ends before."""
        if self.error is not None:
            raise self.error
        answered = self._loop.create_future()
        self._pings[id(answered)] = answered
        self._quic.send_ping(id(answered))
        self.flush_soon()
        try:
            await answered
        finally:
            self._pings.pop(id(answered), None)

    async def wait_closed(self) -> None:
        """Return when the link is over."""
        await asyncio.shield(self._closed)

    def send_datagram(self, data: bytes) -> bool:
        """Send `data` if it fits into one packet and the peer takes datagrams; it may be lost on the way."""
        if not self.is_up or not self._quic.offer_datagram(data):
            return False
        self.flush_soon()
        return True

    # Streams

    def create_stream(self, *, wrapper: Cancellable | None = None) -> Stream:
        return Stream(self, wrapper=wrapper)

    async def open_stream(self, stream: Stream) -> None:
        """Give `stream` its id, when the peer allows one more."""
        while self.error is None and self._quic.free_streams <= 0:
            await self._slot()
        if self.error is not None:
            raise LinkLost(self.error)
        stream.opened(self._quic.get_next_available_stream_id())
        self._streams[stream.id] = stream
        self.streams_started += 1

    def send_headers(self, stream: Stream, headers: Headers, *, end: bool) -> None:
        if self.error is not None or self._http is None:
            raise StreamClosedError(stream.id)
        block = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._http.send_headers(stream.id, block, end)
        stream.sent_headers = True
        stream.sent_end = stream.sent_end or end
        self.flush_soon()

    async def send_data(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """Send in parts, each when there is room below the mark."""
        parts = range(0, len(data), SEND_MARK_BYTES) or (0,)
        for start in parts:
            while self._quic.unsent_bytes(stream.id) >= SEND_MARK_BYTES and stream.error is None:
                await self._room(stream.id)
            if stream.unwanted:
                return
            if stream.error is not None or self._http is None:
                raise StreamClosedError(stream.id)
            part = data if len(data) <= SEND_MARK_BYTES else data[start : start + SEND_MARK_BYTES]
            last = end and start == parts[-1]
            self._http.send_data(stream.id, part, last)
            stream.sent_end = stream.sent_end or last
            self.flush_soon()

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """The application took bytes: tell the peer when that makes a difference."""
        if self._quic.consume(stream_id, size_bytes) and self.error is None:
            self.flush_soon()

    def reset(self, stream: Stream, code: int = ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Break a stream off in both directions, as far as they are still open.

        After the end was sent nothing is reset: it would take back trailers not yet on the wire.
        """
        if stream.id < 0 or self.error is not None or not self._quic.has_stream(stream.id):
            return
        if not stream.sent_end:
            stream.sent_end = True
            self._quic.reset_stream(stream.id, code)
        if not stream.received_end:
            stream.received_end = True
            self._quic.stop_stream(stream.id, code if self._quic.is_client else ErrorCode.H3_NO_ERROR)
        if self._http is not None:
            self._http.forget(stream.id)
        self.flush_soon()

    def release(self, stream: Stream) -> None:
        """Nobody needs this stream any more: break off what is unfinished, give back what is unread."""
        if stream.released or stream.id < 0:
            return
        stream.released = True
        self._streams.pop(stream.id, None)
        if not (stream.sent_end and stream.received_end):
            self.reset(stream, _CANCELLED if self._quic.is_client else ErrorCode.H3_INTERNAL_ERROR)
        if self._quic.release(stream.id) and self.error is None:
            self.flush_soon()
        self._resolve(self._senders.pop(stream.id, None))
        self.last_used = self._loop.time()

    # grpclib's names

    @property
    def processor(self) -> "Link":
        return self

    @property
    def connection(self) -> "Link":
        return self

    def get_peer(self) -> Peer:
        return self.peer

    def is_closing(self) -> bool:
        return self.error is not None

    # Events of QUIC

    def _transmit(self) -> None:
        if not self._quic.has_path:
            return  # not one valid packet yet: nobody to answer
        datagrams = self._quic.datagrams_to_send(now=self._loop.time())
        if datagrams:
            self._send(datagrams)

    def _handle(self, event: quic_events.QuicEvent) -> None:
        match event:
            case quic_events.StreamDataReceived():
                self._http_events(event)
            case quic_events.StreamReset():
                self._http_events(event)
                self._broken_off(event.stream_id, event.error_code)
            case quic_events.StopSendingReceived():
                self._http_events(event)
                self._stopped(event.stream_id, event.error_code)
            case quic_events.DatagramFrameReceived() if self.is_up:
                self._owner.datagram(self, event.data)
            case quic_events.PingAcknowledged():
                self._resolve(self._pings.pop(event.uid, None))
            case quic_events.ProtocolNegotiated():
                self._http = Http3(self._quic)
            case quic_events.HandshakeCompleted():
                self._trust()
            case quic_events.ConnectionIdIssued():
                self._owner.address_issued(self, event.connection_id)
            case quic_events.ConnectionIdRetired():
                self._owner.address_retired(self, event.connection_id)

    def _trust(self) -> None:
        try:
            self._peer = self._verify(self._quic.peer_certificate)
        except Untrusted as error:
            _log.warning("link.refused", reason=str(error), address=self.address)
            self._quic.close_untrusted(str(error)[:200])
        else:
            self._owner.link_up(self)

    def _http_events(self, event: quic_events.QuicEvent) -> None:
        if self._http is None or self._peer is None:
            return
        for found in self._http.handle_event(event):
            self._http_event(found)

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
            self.streams_started += 1
            self._owner.request(self, stream, headers)
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
        self._resolve(self._senders.pop(stream_id, None))
        if code == ErrorCode.H3_NO_ERROR:
            stream.unwanted = True
            return
        stream.terminate(StreamTerminatedError(f"the peer gave the stream up (code {code:#x})"))
        self.reset(stream)

    # Timers and waiters

    def _arm(self) -> None:
        """One timer for QUIC and for liveness.

        A busy link moves its deadlines with each packet, so a timer that is a little early stays and finds
        nothing due. One that is much too early would wake an idle link for nothing.
        """
        at = min(self._quic.get_timer() or float("inf"), self._liveness.next_at)
        if self._timer is not None:
            if self._timer.when() <= at <= self._timer.when() + _TIMER_SLACK_S:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._timed)

    def _timed(self) -> None:
        self._timer = None
        now = self._loop.time()
        quic_at = self._quic.get_timer()
        if quic_at is not None and quic_at <= now:
            self._quic.handle_timer(now=now)
        for move in self._liveness.due(now):
            self._move(move)
        self.flush()

    def _move(self, move: Move) -> None:
        match move:
            case Move.PING:
                self._quic.send_ping(0)
            case Move.SUSPECT if self.is_up:
                self._owner.link_silent(self, suspected=True)
            case Move.LOST:
                self.close(Unreachable(f"{self._peer or 'the peer'} has been silent for too long"))

    async def _slot(self) -> None:
        waiter = self._loop.create_future()
        self._slots.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._slots:
                self._slots.remove(waiter)

    async def _room(self, stream_id: int) -> None:
        waiter = self._senders.get(stream_id)
        if waiter is None:
            waiter = self._senders[stream_id] = self._loop.create_future()
        await asyncio.shield(waiter)

    def _wake(self) -> None:
        for stream_id in [found for found in self._senders if self._has_room(found)]:
            self._resolve(self._senders.pop(stream_id))
        free = self._quic.free_streams
        while self._slots and free > 0:
            self._resolve(self._slots.popleft())
            free -= 1

    def _has_room(self, stream_id: int) -> bool:
        return self._quic.unsent_bytes(stream_id) < SEND_MARK_BYTES // 2

    def _end(self, error: NanoError) -> None:
        self.error = error
        for handle in (self._timer, self._flush_handle):
            if handle is not None:
                handle.cancel()
        for stream in list(self._streams.values()):
            if not (stream.received_end and stream.sent_end):
                stream.terminate(LinkLost(error))
        for waiter in (*self._senders.values(), *self._slots):
            self._resolve(waiter)
        for ping in self._pings.values():
            if not ping.done():
                ping.set_exception(error)
        self._resolve(self._closed)
        self._owner.link_down(self, error)

    @staticmethod
    def _resolve(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


_CANCELLED = ErrorCode.H3_REQUEST_CANCELLED


def _reason(event: quic_events.ConnectionTerminated) -> NanoError:
    """Why a connection ended, as the model's error."""
    if event.frame_type is not None and is_trust_error(event.error_code):
        return Untrusted(f"the handshake failed: {event.reason_phrase or hex(event.error_code)}")
    what = event.reason_phrase or f"code {event.error_code:#x}"
    return Unreachable(f"the link ended: {what}")


def _is_graceful(event: quic_events.ConnectionTerminated) -> bool:
    """Whether the peer closed because it was done: a close of HTTP/3 without an error (RFC 9114, 8.1)."""
    return event.frame_type is None and event.error_code == ErrorCode.H3_NO_ERROR
