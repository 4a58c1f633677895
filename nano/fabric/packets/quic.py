"""The QUIC connection of the fabric: aioquic's, with what a data centre needs and aioquic leaves out.

Everything private of aioquic's QUIC layer that we touch stands in this file, and nowhere else; `h3.py` does
the same for its HTTP/3. `tests/unit/nano/fabric/test_aioquic_pin.py` pins the version and names each function
that changed.

What is different from the stock connection, and why:

* **Windows follow consumption.** Stock windows double as data arrives, so a reader that never reads is sent
  everything. Here the peer may send what fits into a fixed window beyond what the application has consumed.
* **Only streams that need service are looked at.** Stock code walks all streams for each packet.
* **The server asks for the client's certificate.** Stock servers ignore `verify_mode`.
* **Acknowledgements ride on data**, or wait a few milliseconds; a lone ping is answered at once.
* **A window counts what lies here out of order**, and a stream that was skipped costs nothing until it
  speaks. Stock code holds a window of zeros for one byte at its end, and makes thousands of streams for one.
* **More is refused** of what RFC 9000 forbids (docs/conformance.md), and keys change before they are worn.
* **Datagrams** that cannot be sent are refused (stock: an oversize one blocks the queue for ever), and the
  queue is bounded: the oldest goes first, since only the newest sample is of use.
"""

import collections
from collections.abc import Callable, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any, cast

import aioquic.quic.connection
from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    MAX_STREAM_DATA_FRAME_CAPACITY,
    NetworkAddress,
    QuicConnectionError,
    QuicConnectionState,
    stream_is_client_initiated,
    stream_is_unidirectional,
)
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived
from aioquic.quic.packet import (
    STATELESS_RESET_TOKEN_SIZE,
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.stream import QuicStream
from cryptography import x509

from nano.fabric.packets import recovery
from nano.fabric.packets.fast_path import FastConnection
from nano.fabric.packets.path_mtu import WORTH_BYTES, PathMtu
from nano.fabric.packets.settled import CONNECTION_IDS, settle

AIOQUIC_VERSION = "1.7.2"

KIB = 1024
MIB = 1024 * KIB

DATAGRAM_QUEUE = 256
"""Datagrams that may wait for the congestion window: half a second of samples of a large cell."""

_DATAGRAM_OVERHEAD = 30
"""Short header (1), connection id (8), packet number (2), frame type (1), length (2), AEAD tag (16)."""

_SMALLEST_DATAGRAM = 1200
"""What every path carries (RFC 9000, 14)."""

_CONNECTION_ID_BYTES = 8
"""Length of our own ids: aioquic's default."""

_LONG_FORM = 0x80
"""Set in the first byte of packets of the handshake (RFC 9000, 17.2)."""

_ACK_DELAY_S = 0.004
"""How long an acknowledgement may wait for data to ride on. The peer allows 25 ms (RFC 9000, 18.2)."""

_ACK_PACKETS = 32
"""Packets after which an acknowledgement goes out though nothing else does."""

# Enum.__hash__ is a Python function, called a dozen times per packet. Members are singletons: identity does.
tls.Epoch.__hash__ = object.__hash__  # type: ignore[method-assign]
QuicConnectionState.__hash__ = object.__hash__  # type: ignore[method-assign]
aioquic.quic.connection.END_STATES = frozenset(list(aioquic.quic.connection.END_STATES))  # hashed anew

_LATE_S = 0.002
"""A pacing timer that comes later than this: what is slow then is this process, not the path."""

_SILENT_PROBES = 3
"""Probe timeouts in a row after which packets larger than every path carries are the first suspect."""

REKEY_PACKETS = 2**22
"""Packets sealed with one key. RFC 9001, 6.6 allows AES-GCM 2^23; the twin of the key is then changed too."""

_ROUNDING_S = 1e-6
"""More than the error of a sum of times, less than any of them matters."""

_ONE_RTT = tls.Epoch.ONE_RTT


@dataclass(frozen=True, slots=True)
class Windows:
    """What a peer may send us beyond what we have consumed, and how many calls it may have open."""

    stream_bytes: int = 256 * KIB
    connection_bytes: int = 6 * MIB
    streams: int = 16_384


class _Streams(dict[int, QuicStream]):
    """All streams by id; `values` gives only those whose window may have to grow.

    aioquic asks for the values in one place: to look at each stream's window, for each packet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.due: set[int] = set()

    def values(self) -> ValuesView[QuicStream]:  # type: ignore[override]
        self.due &= self.keys()
        return cast("ValuesView[QuicStream]", [self[stream_id] for stream_id in self.due])


class Connection(FastConnection):
    """A QUIC connection without I/O: datagrams and time in, events and datagrams out."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        windows: Windows,
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self._ack_delay = _ACK_DELAY_S
        self._loss = recovery.instead_of(self._loss, max_datagram_size=self._max_datagram_size)
        self._unacknowledged = 0
        self._bare = collections.deque()
        self._mtu = PathMtu.beginning(self._max_datagram_size)
        self._mtu_address: NetworkAddress | None = None
        self._now = 0.0
        self._receiving: QuicStream | None = None
        self._is_settled = False
        self._closed_by_peer = False
        self._local_active_connection_id_limit = CONNECTION_IDS
        self._streams: _Streams = _Streams()
        self._queued: set[int] = set()
        self._held: dict[int, int] = {}
        self._held_total = 0
        self._disordered = 0
        """Bytes of all streams that have come, or were skipped, behind something that has not."""
        self._skipped: set[int] = set()
        """Streams that the peer opened by opening a later one, and has said nothing on."""
        self._rekey_at = REKEY_PACKETS
        self._windows = windows
        self._local_max_data.value = self._local_max_data.sent = windows.connection_bytes
        self._local_max_stream_data_bidi_local = windows.stream_bytes
        self._local_max_stream_data_bidi_remote = windows.stream_bytes
        self._local_max_stream_data_uni = windows.stream_bytes
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = windows.streams

    @property
    def is_client(self) -> bool:
        return self._is_client

    @property
    def ended(self) -> ConnectionTerminated | None:
        """Why the connection is over, as soon as that is known.

        aioquic reports a peer's close as an event only after the draining period of three probe timeouts.
        """
        return self._close_event

    @property
    def was_closed_by_peer(self) -> bool:
        """Whether the connection is over by the word of whoever finished the handshake with us.

        A close in an Initial packet anybody can write who has seen the client's first: its keys follow from
        what stands there for all to read (RFC 9001, 5.2). Keys of 1-RTT packets nobody else has.
        """
        return self._closed_by_peer

    @property
    def has_path(self) -> bool:
        """Whether a valid packet gave us somebody to talk to."""
        return bool(self._network_paths)

    @property
    def has_heard(self) -> bool:
        """Whether any packet came that was sealed as it should be: until then it may all have been noise."""
        if self._handshake_complete or self._close_event is not None:
            return True  # in the latter case it was sealed, and we did not like what it said
        return any(space.largest_received_packet >= 0 for space in self._spaces.values())

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """What the peer showed. The handshake proves that it has the key; nothing else is checked."""
        return self.tls._peer_certificate

    @property
    def peer_certificates(self) -> list[x509.Certificate]:
        """The peer's certificate, and what it showed behind it; empty when it showed none."""
        own = self.tls._peer_certificate
        return [] if own is None else [own, *self.tls._peer_certificate_chain]

    @property
    def free_streams(self) -> int:
        """Streams that may be opened now. To reset one that was opened beyond the limit kills the link."""
        return self._remote_max_streams_bidi - self._local_next_stream_id_bidi // 4

    @property
    def open_streams(self) -> int:
        """Requests that are not over at both ends yet."""
        return sum(1 for stream_id in self._streams if not stream_is_unidirectional(stream_id))

    def open_stream(self) -> int:
        """Open a stream for a request, and send nothing yet; its id. Look at `free_streams` before."""
        stream_id = self.get_next_available_stream_id()
        self._get_or_create_stream_for_send(stream_id)
        return stream_id

    @property
    def waiting_streams(self) -> int:
        """Streams that have something to send, or were not looked at since."""
        return len(self._streams_queue)

    def has_stream(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def takes_data(self, stream_id: int) -> bool:
        """Whether what is written to an open stream is still sent: neither side has given it up."""
        stream = self._streams.get(stream_id)
        return stream is not None and stream.sender._reset_error_code is None

    def unsent_bytes(self, stream_id: int) -> int:
        """What was written to the stream and has never been sent."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender.highest_offset

    def kept_bytes(self, stream_id: int) -> int:
        """What was written to the stream and is kept here until the peer has acknowledged it."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    @property
    def held_bytes(self) -> int:
        """What has arrived and was not consumed yet, over all streams."""
        return self._held_total

    @property
    def disordered_bytes(self) -> int:
        """What lies in buffers until something before it comes, gaps included."""
        return self._disordered

    def hold(self, stream_id: int, size_bytes: int) -> None:
        """The application was given `size_bytes` which it has not consumed: they count against the window."""
        self._held[stream_id] = self._held.get(stream_id, 0) + size_bytes
        self._held_total += size_bytes

    def consume(self, stream_id: int, size_bytes: int) -> bool:
        """The application is done with `size_bytes`; whether the peer should now be told of more room."""
        if stream_id not in self._held:
            return False
        self._held[stream_id] -= size_bytes
        self._held_total -= size_bytes
        stream = self._streams.get(stream_id)
        if stream is not None and self._room_due(stream):
            self._streams.due.add(stream_id)
            return True
        return self._connection_room_due()

    def release(self, stream_id: int) -> bool:
        """Nobody will consume the rest of this stream; whether the peer should be told of more room."""
        self._held_total -= self._held.pop(stream_id, 0)
        return self._connection_room_due()

    def widen(self, windows: Windows) -> None:
        """Use larger windows from now on: for a link that turned out to carry bulk."""
        self._windows = windows

    def _target(self, stream: QuicStream) -> int:
        """Up to which offset the peer may send on a stream."""
        consumed = stream.receiver.starting_offset() - self._held.get(stream.stream_id or 0, 0)
        return consumed + self._windows.stream_bytes

    def _room_due(self, stream: QuicStream) -> bool:
        """Whether the stream's window has grown by a quarter, so that telling it is worth a frame."""
        receiver = stream.receiver
        if receiver.is_finished or receiver._final_size is not None or not stream.max_stream_data_local:
            return False
        return self._target(stream) - stream.max_stream_data_local >= self._windows.stream_bytes // 4

    def _connection_target(self) -> int:
        consumed = self._local_max_data.used - self._held_total - self._disordered
        return consumed + self._windows.connection_bytes

    def _connection_room_due(self) -> bool:
        return self._connection_target() - self._local_max_data.value >= self._windows.connection_bytes // 4

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: Any) -> None:
        limit = self._local_max_data
        if self._connection_room_due():
            limit.value = self._connection_target()
        used, limit.used = limit.used, 0  # the stock doubling looks at `used`: it must not fire
        try:
            super()._write_connection_limits(builder=builder, space=space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: Any, stream: QuicStream) -> None:
        del space
        if self._room_due(stream):
            stream.max_stream_data_local = self._target(stream)
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            frame = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            frame.push_uint_var(cast("int", stream.stream_id))
            frame.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local
        self._streams.due.discard(cast("int", stream.stream_id))

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if delivery != QuicDeliveryState.ACKED:
            self._streams.due.add(cast("int", stream.stream_id))

    def _queue(self, stream: QuicStream) -> None:
        stream_id = cast("int", stream.stream_id)
        if stream_id not in self._queued:
            self._queued.add(stream_id)
            self._streams_queue.append(stream)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        known = self._streams.get(stream_id)
        if known is None:
            known = self._open(frame_type, stream_id)
        else:
            self._queue(known)
        self._receiving = known
        return known

    def _open(self, frame_type: int, stream_id: int) -> QuicStream:
        """A stream that the peer opens. Those before it count as opened, too (RFC 9000, 2.1)."""
        limit = self._stream_limit(stream_id)
        opened, number = limit.used, stream_id // 4
        is_theirs = stream_is_client_initiated(stream_id) != self._is_client
        if is_theirs and number < limit.value and (number > opened or stream_id in self._skipped):
            limit.used = number  # the stock function then makes this one only
        try:
            stream = super()._get_or_create_stream(frame_type, stream_id)
        finally:
            limit.used = max(opened, limit.used)
        if number > opened:
            self._skipped.update(range(opened * 4 + stream_id % 4, stream_id, 4))
        self._skipped.discard(stream_id)
        self._queued.add(stream_id)
        return stream

    def _get_or_create_stream_for_send(self, stream_id: int) -> QuicStream:
        is_new = stream_id not in self._streams
        stream = super()._get_or_create_stream_for_send(stream_id)
        if is_new:
            self._queued.add(stream_id)
        else:
            self._queue(stream)
        return stream

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        if data or end_stream:  # HTTP/3 writes the nothing of its unused dynamic tables for each header block
            super().send_stream_data(stream_id, data, end_stream)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        super().stop_stream(stream_id, error_code)
        self._queue(self._streams[stream_id])

    def _write_stream_frame(
        self, builder: QuicPacketBuilder, space: Any, stream: QuicStream, max_offset: int
    ) -> int:
        before = len(_handlers(builder))
        used = super()._write_stream_frame(builder=builder, space=space, stream=stream, max_offset=max_offset)
        self._watch_delivery(builder, stream, before)
        sender = stream.sender
        if not len(sender._pending) and not sender._pending_eof:
            sender.buffer_is_empty = True  # stock finds that out by a second visit, in the next packet
        return used

    def _write_reset_stream_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        before = len(_handlers(builder))
        super()._write_reset_stream_frame(builder=builder, stream=stream)
        self._watch_delivery(builder, stream, before)

    def _write_stop_sending_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        before = len(_handlers(builder))
        super()._write_stop_sending_frame(builder=builder, stream=stream)
        self._watch_delivery(builder, stream, before)

    def _watch_delivery(self, builder: QuicPacketBuilder, stream: QuicStream, before: int) -> None:
        """Have the frame just written report to us, since its loss or arrival may call for service."""
        handlers = _handlers(builder)
        if len(handlers) > before:
            handler, arguments = handlers[-1]
            handlers[-1] = (self._on_stream_delivery, (stream, handler, *arguments))

    def _on_full_delivery(
        self, delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, fin: bool
    ) -> None:
        super()._on_full_delivery(delivery, stream, start, stop, fin)
        if delivery is QuicDeliveryState.ACKED:
            self._mtu.full_arrived(self._now)
        elif self._mtu.full_lost(self._now, self._loss.get_probe_timeout()):
            self._use_packets_of(self._mtu.packet_bytes)
        if stream.stream_id in self._streams and _wants_service(stream):
            self._queue(stream)

    def _on_stream_delivery(
        self,
        delivery: QuicDeliveryState,
        stream: QuicStream,
        handler: Callable[..., None],
        *arguments: object,
    ) -> None:
        handler(delivery, *arguments)
        if stream.stream_id in self._streams and _wants_service(stream):
            self._queue(stream)

    def _write_application(self, builder: QuicPacketBuilder, network_path: Any, now: float) -> None:
        space = self._spaces[_ONE_RTT]
        if space.ack_at is not None and space.ack_at > now and self._acknowledge_now():
            space.ack_at = now
        if self._packet_number >= self._rekey_at:
            self._rekey_at = self._packet_number + REKEY_PACKETS
            self.request_key_update()
        full: list[QuicStream] = []
        if self._may_write_full(network_path):
            full = [stream for stream in self._streams_queue if self._fills_a_packet(stream)]
        try:
            if full and self._write_calls_then_bulk(builder, network_path, now, full):
                return
            super()._write_application(builder, network_path, now)
        finally:
            self._streams_queue = [stream for stream in self._streams_queue if _wants_service(stream)]
            self._queued = {cast("int", stream.stream_id) for stream in self._streams_queue}

    def _write_calls_then_bulk(
        self, builder: QuicPacketBuilder, network_path: Any, now: float, full: list[QuicStream]
    ) -> bool:
        """First what is smaller than a packet, which is calls and all that is no stream; then whole packets.

        Whether that was surely all that may go out now: stock passes would find nothing.
        """
        is_alone = len(full) == len(self._streams_queue) and not self._is_more_due(network_path, now)
        self._streams_queue = [stream for stream in self._streams_queue if stream not in full]
        before = builder.packet_number
        try:
            if not is_alone:
                super()._write_application(builder, network_path, now)
            self._write_full_packets(builder, full, now)
        finally:
            self._streams_queue += full
        if not is_alone or builder.packet_number == before or not all(map(self._fills_a_packet, full)):
            return False
        self._pacing_at = self._loss.pacer.next_send_time(now)
        return True

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        self._now = now
        if self._pacing_at is not None and now - self._pacing_at > _LATE_S:
            self._loss.control.late(now)
            self._loss.pacer.came_late(now)
        path = self._network_paths[0]
        if path.addr != self._mtu_address:
            if self._mtu_address is not None:
                self._mtu.moved()
                self._use_packets_of(self._mtu.packet_bytes)
            self._mtu_address = path.addr
        datagrams = super().datagrams_to_send(now)
        control = self._loss.control
        room = control.congestion_window - control.bytes_in_flight
        if self._pacing_at is None and room >= 2 * self._max_datagram_size:
            control.idle()
        if self._handshake_confirmed:
            self._mtu.sent(sum([len(data) for data, _ in datagrams]))
            size = self._mtu.probe(now) if path.is_validated and not self._close_pending else None
            if size is not None:
                datagrams += self._probe_of(size, path, now)
        return datagrams

    def handle_timer(self, now: float) -> None:
        self._now = now
        super().handle_timer(now)
        if self._loss._pto_count >= _SILENT_PROBES and self._mtu.packet_bytes > self._mtu.base_bytes:
            self._mtu.fall_back(now)
            self._use_packets_of(self._mtu.packet_bytes)

    def _probe_of(self, size: int, path: Any, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """A packet of a ping and padding, outside of congestion control (RFC 9000, 14.4)."""
        if self._state is not QuicConnectionState.CONNECTED:
            return []
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=cast("int", self._version),
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[_ONE_RTT])
        builder.start_frame(QuicFrameType.PING, handler=self._on_probe_delivery, handler_args=(size,))
        builder._datagram_needs_padding = True
        builder._end_packet()
        builder._packets[-1].in_flight = False
        return self._flush_builder(builder=builder, network_path=path, peer_cid=self._peer_cid.cid, now=now)

    def _on_probe_delivery(self, delivery: QuicDeliveryState, size: int) -> None:
        if delivery is QuicDeliveryState.ACKED:
            self._mtu.probe_arrived(size, self._now)
            self._use_packets_of(self._mtu.packet_bytes)
        else:
            self._mtu.probe_lost(self._now)

    def _use_packets_of(self, size: int) -> None:
        """Send packets of at most `size` bytes from now on; datagrams that do not fit any more are lost."""
        self._max_datagram_size = size
        self._loss._pacer._max_datagram_size = size
        self._loss.control.packet_bytes = size
        room = self.datagram_room_bytes
        fitting = [data for data in self._datagrams_pending if len(data) <= room]
        if len(fitting) < len(self._datagrams_pending):
            self._datagrams_pending.clear()
            self._datagrams_pending.extend(fitting)

    def _handle_stream_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        used, told = self._local_max_data.used, len(self._events)
        super()._handle_stream_frame(context, frame_type, buf)
        self._disordered += self._local_max_data.used - used
        if len(self._events) > told:
            self._disordered -= len(cast("StreamDataReceived", self._events[-1]).data)
        stream = self._receiving
        if stream is not None and self._room_due(
            stream
        ):  # what HTTP/3 itself consumes is on no one's account
            self._streams.due.add(cast("int", stream.stream_id))

    def _handle_reset_stream_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """What was buffered of a stream that is reset is of no use: drop it now, and not with the stream."""
        stream = self._streams.get(_peek(buf))
        told = len(self._events)
        super()._handle_reset_stream_frame(context, frame_type, buf)
        if stream is not None and len(self._events) > told:
            receiver = stream.receiver
            buffered = len(receiver._buffer)
            self._disordered -= buffered
            receiver._buffer_start += buffered
            receiver._buffer.clear()
            receiver._ranges = RangeSet()

    def _handle_ack_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """Refuse one of what was never sent (RFC 9000, 13.1): it would make all that is sent seem lost."""
        if _peek(buf) >= self._packet_number:
            raise _violation(frame_type, "a packet is acknowledged that was never sent")
        super()._handle_ack_frame(context, frame_type, buf)

    def _handle_new_connection_id_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """RFC 9000, 19.15, where stock code has another error, no notice, or takes its own last id away."""
        start = buf.tell()
        number, retired = buf.pull_uint_var(), buf.pull_uint_var()
        buf.seek(start)
        if retired > number:
            raise _violation(
                frame_type, "an id is retired by its own frame", QuicErrorCode.FRAME_ENCODING_ERROR
            )
        if not self._peer_cid.cid:
            raise _violation(frame_type, "a peer that uses no connection ids gives one")
        known = number in self._peer_cid_sequence_numbers
        if known and retired > (self._peer_cid.sequence_number or 0):
            left = [each for each in self._peer_cid_available if (each.sequence_number or 0) >= retired]
            if not left:
                raise _violation(frame_type, "the last connection id is retired")
        late = number < self._peer_retire_prior_to
        super()._handle_new_connection_id_frame(context, frame_type, buf)
        if late:
            self._retire_connection_ids.append(number)

    def _handle_connection_close_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        """The first close is the one that counts, and by whom it was said."""
        is_first = self._close_event is None
        super()._handle_connection_close_frame(context, frame_type, buf)
        if is_first:
            self._closed_by_peer = context.epoch is _ONE_RTT

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        """Each may come once (RFC 9000, 7.4), and a token has 16 bytes (18.2)."""
        if (flaw := _parameter_flaw(data)) is not None:
            raise _violation(QuicFrameType.CRYPTO, flaw, QuicErrorCode.TRANSPORT_PARAMETER_ERROR)
        super()._parse_transport_parameters(data, from_session_ticket)

    def _stream_is_discarded(self, stream_id: int) -> bool:
        return stream_id not in self._skipped and super()._stream_is_discarded(stream_id)

    def _acknowledge_now(self) -> bool:
        return (
            self._unacknowledged >= _ACK_PACKETS
            or bool(self._datagrams_pending)
            or any(not stream.sender.buffer_is_empty for stream in self._streams_queue)
        )

    def _write_ack_frame(self, builder: QuicPacketBuilder, space: Any, now: float) -> None:
        super()._write_ack_frame(builder=builder, space=space, now=now)
        self._unacknowledged = 0

    def get_timer(self) -> float | None:
        """When to look again. What the pacer holds back is not due before the pacer lets it go.

        aioquic gives the time of an acknowledgement that is held back: such a timer fires again and again. So
        does one at the very moment at which a packet counts as lost, when rounding makes it a hair too early.
        """
        at: float | None = super().get_timer()
        return None if at is None else max(at, self._pacing_at or 0.0) + _ROUNDING_S

    def take(
        self, data: bytes, address: NetworkAddress, now: float, segment_bytes: int | None = None
    ) -> bool:
        """Receive a datagram, or several that came together, `segment_bytes` long but for the last.

        Whether one held a packet that the peer really made: a sign of life.
        """
        self._now = now
        idle_at = self._close_at
        waiting = len(self._events)
        size = segment_bytes or max(len(data), 1)
        try:
            self.take_train(data, size, address, now)
        except x509.InvalidVersion as error:  # of a certificate; aioquic expects ValueErrors alone
            self.close_untrusted(str(error))
        self._unacknowledged += -(-len(data) // size)
        space = self._spaces.get(_ONE_RTT)
        if space is not None and space.ack_at is not None and not self._will_be_answered(waiting):
            space.ack_at = now  # a timer for it would only be one more wake-up
        return self._close_at != idle_at  # moved on for each packet whose seal is right

    def _will_be_answered(self, heard: int) -> bool:
        """Whether what came, behind `heard` events, may be answered by more than an acknowledgement."""
        return len(self._events) > heard and not isinstance(self._events[-1], DatagramFrameReceived)

    def is_quiet(self, now: float) -> bool:
        """Whether there is surely nothing to send: most of what comes to an idle link asks for nothing.

        All that aioquic could have to write, in the order of `_write_application`.
        """
        if _ONE_RTT not in self._spaces or not self._handshake_confirmed or self._close_pending:
            return False
        return not (
            self._pacing_at is not None  # it would stay, and its timer fire without end
            or self._streams_queue
            or len(self._network_paths) > 1
            or self._remote_preferred_address is not None
            or self._mtu.is_due(now)
            or self._is_more_due(self._network_paths[0], now)
        )

    def _is_more_due(self, path: Any, now: float) -> bool:
        """Whether there may be anything for `_write_application` that is no stream's data."""
        ack_at = self._spaces[_ONE_RTT].ack_at
        return bool(
            (ack_at is not None and ack_at <= now)
            or self._datagrams_pending
            or self._ping_pending
            or self._probe_pending
            or self._streams.due
            or not path.is_validated
            or path.remote_challenges
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or not self._crypto_streams[_ONE_RTT].sender.buffer_is_empty
            or not all(connection_id.was_sent for connection_id in self._host_cids)
            or self._limits_due()
        )

    def _limits_due(self) -> bool:
        """Whether the peer should be told that it may send more, or open more streams.

        The latter is told when more would be granted than it has left, so that it is not told at each call.
        """
        data, calls, others = self._local_max_data, self._local_max_streams_bidi, self._local_max_streams_uni
        return (
            self._connection_room_due()
            or data.value != data.sent
            or calls.sent - calls.used < calls.value - calls.sent
            or others.sent - others.used < others.value - others.sent
        )

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if not self._is_client:
            self.tls._request_client_certificate = True

    def close(
        self,
        error_code: int = QuicErrorCode.NO_ERROR,
        frame_type: int | None = None,
        reason_phrase: str = "",
    ) -> None:
        """End the connection. Without a frame's type the code is one of HTTP/3, from 0x100 on.

        Stock code gives no type for a frame whose type cannot be read, and so would name an error of HTTP/3.
        It also says good-bye beyond what may be sent to an address that nobody has proven (RFC 9000, 8.1).
        """
        if frame_type is None and error_code in _TRANSPORT_ERRORS:
            frame_type = QuicFrameType.PADDING
        super().close(error_code, frame_type, reason_phrase)
        if self.has_path and self._close_pending and not self._network_paths[0].can_send(_SMALLEST_DATAGRAM):
            self._close_pending = False
            self._set_state(QuicConnectionState.CLOSING)

    def settle(self) -> None:
        """Let go of what only the handshake needed, once it is over and its events were looked at."""
        if self._handshake_confirmed and not self._is_settled:
            self._is_settled = True
            settle(self)

    def close_untrusted(self, reason: str, alert: int = tls.AlertDescription.bad_certificate) -> None:
        """End the connection as TLS does for a certificate that will not do (RFC 8446, 6.2)."""
        self.close(
            error_code=_CRYPTO_ERROR + alert,
            frame_type=QuicFrameType.CRYPTO,
            reason_phrase=reason,
        )

    @property
    def datagram_room_bytes(self) -> int:
        """The largest datagram that can be sent now; 0 when the peer takes none."""
        offered = self._remote_max_datagram_frame_size
        if not offered:
            return 0
        return max(0, min(offered - 3, self._max_datagram_size - _DATAGRAM_OVERHEAD))

    def offer_datagram(self, data: bytes) -> bool:
        """Queue a datagram; the oldest gives way when the queue is full. False if it can never be sent."""
        if len(data) > self.datagram_room_bytes:
            self._mtu.sent(WORTH_BYTES)  # a reason to look for a larger packet, before the next one
            return False
        while len(self._datagrams_pending) >= DATAGRAM_QUEUE:
            self._datagrams_pending.popleft()
        self.send_datagram_frame(data)
        return True


_RESET_TOKEN = 0x02
"""The transport parameter's number (RFC 9000, 18.2)."""

_CRYPTO_ERROR = 0x100
_TRANSPORT_ERRORS = range(QuicErrorCode.INTERNAL_ERROR, 0x20)
"""Codes of RFC 9000, 20.1; those of HTTP/3 begin at 0x33."""


def is_trust_error(error_code: int) -> bool:
    """Whether a close says that TLS failed (RFC 9000, 20.1)."""
    return _CRYPTO_ERROR <= error_code < _CRYPTO_ERROR + 0x100


def alert_in(error_code: int) -> int:
    """The alert of TLS that such a close carries."""
    return error_code - _CRYPTO_ERROR


def header_of(data: bytes) -> QuicHeader | None:
    """The head of the first packet in a datagram, which says whose it is; None if it is none."""
    try:
        return pull_quic_header(Buffer(data=data), host_cid_length=_CONNECTION_ID_BYTES)
    except ValueError:
        return None


def short_id_of(data: bytes) -> bytes:
    """Whom a packet with a short header is for; no connection's id if it has another, or is no packet."""
    return b"" if not data or data[0] & _LONG_FORM else data[1 : 1 + _CONNECTION_ID_BYTES]


def for_one_link(train: bytes, segment_bytes: int) -> bool:
    """Whether all datagrams of a train have a short header with the same connection id."""
    wanted = short_id_of(train)
    return all(
        short_id_of(train[at : at + 9]) == wanted for at in range(segment_bytes, len(train), segment_bytes)
    )


def _peek(buf: Buffer) -> int:
    """The number that stands next in a frame, left where it is."""
    start = buf.tell()
    number = buf.pull_uint_var()
    buf.seek(start)
    return number


def _violation(
    frame_type: int, reason: str, error_code: int = QuicErrorCode.PROTOCOL_VIOLATION
) -> QuicConnectionError:
    return QuicConnectionError(error_code=error_code, frame_type=frame_type, reason_phrase=reason)


def _parameter_flaw(data: bytes) -> str | None:
    """What is wrong with transport parameters. What cannot be read is found by whoever reads it all."""
    buf = Buffer(data=data)
    seen: set[int] = set()
    try:
        while not buf.eof():
            number, size = buf.pull_uint_var(), buf.pull_uint_var()
            if number in seen:
                return f"the transport parameter {number:#x} comes twice"
            if number == _RESET_TOKEN and size != STATELESS_RESET_TOKEN_SIZE:
                return f"a stateless reset token has {size} bytes"
            seen.add(number)
            buf.seek(buf.tell() + size)
    except ValueError:
        return None
    return None


def _handlers(builder: QuicPacketBuilder) -> list[tuple[Callable[..., None], Sequence[Any]]]:
    """Who is told of the fate of the packet that is being built."""
    packet = builder._packet
    assert packet is not None  # noqa: S101 - aioquic starts a packet before it writes frames
    return cast("list[tuple[Callable[..., None], Sequence[Any]]]", packet.delivery_handlers)


def _wants_service(stream: QuicStream) -> bool:
    """Whether the next packet should look at this stream: it is over, or has something it may say."""
    sender = stream.sender
    if stream.is_finished or stream.receiver.stop_pending or sender.reset_pending:
        return True
    if sender.buffer_is_empty:
        return False
    only_the_end = len(sender._pending) == 0
    return only_the_end or sender.next_offset < stream.max_stream_data_remote or stream.is_blocked
