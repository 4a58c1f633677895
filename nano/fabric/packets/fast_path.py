"""Packets that carry nothing but a stream's data, made and taken in many at a time.

That is what a bulk transfer consists of, and the stock way costs some hundred microseconds of Python for
each. Here a whole flight is sealed in one call, and a train that arrived together is opened in one call and
handed to aioquic as one frame. Everything else goes aioquic's way, and so do these whenever the connection is
not in its plain state: handshake, closing, another path, another cipher, a log.

Nothing of the protocol is decided here: loss, windows, delivery and key updates stay aioquic's. What is
private to it and touched here is pinned, as that of `quic.py` is.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from aioquic import tls
from aioquic.quic.connection import (
    NetworkAddress,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoContext, derive_key_iv_hp
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from nano.fabric.packets.recovery import ONE_RTT, FullPacket, Recovery
from nano.fabric.packets.sealing import NUMBER_BYTES, TAG_BYTES, Keys, make_keys, varint, varint_bytes

_FIXED_BIT, _SPIN_BIT = 0x40, 0x20

_FRAME_BYTES = 3
"""Of a STREAM frame: its type, and its length in two bytes. Id and offset come on top."""

_STREAM_FRAME = 0x0E
"""With offset and length; plus one when the stream ends (RFC 9000, 19.8)."""

_TURN_PACKETS = 16
"""What one stream may send before the next has its turn."""

_BARE_PACKETS = 8
"""Of packets that hold only acknowledgements, how many are remembered until one of them is acknowledged."""

_SAMPLE = bytes(16)


class FastConnection(QuicConnection):
    """aioquic's connection with two short cuts: `take_train`, and `_write_full_packets` for who writes."""

    _loss: Recovery
    _bare: deque[int]
    _sealing: tuple[object, Keys] | None = None
    _opening: tuple[object, Keys] | None = None
    _header_keys: dict[CryptoContext, bytes] | None = None

    # receiving

    def take_train(
        self, train: bytes | memoryview, segment_bytes: int, address: NetworkAddress, now: float
    ) -> int:
        """Take in datagrams that came together, all `segment_bytes` long but for the last.

        Gives the number of packets that were opened here; the others went to `receive_datagram`.
        """
        keys = self._keys_to_open(address)
        if keys is None:
            for at in range(0, len(train), segment_bytes):
                self.receive_datagram(bytes(train[at : at + segment_bytes]), address, now)
            return 0
        space, crypto, path = self._spaces[ONE_RTT], self._cryptos[ONE_RTT].recv, self._network_paths[0]
        found = keys.open(
            train,
            segment_bytes,
            self.host_cid,
            space.expected_packet_number,
            space.largest_received_packet,
            crypto.key_phase,
        )
        context = QuicReceiveContext(
            epoch=ONE_RTT,
            host_cid=self.host_cid,
            network_path=path,
            quic_logger_frames=None,
            time=now,
            version=None,
        )
        taken = 0
        for first, number, count, stream_id, offset, fin, data in found:
            if self._state is not QuicConnectionState.CONNECTED or self._close_pending:
                break
            if not count:
                self.receive_datagram(data, address, now)
                continue
            payload = data
            if stream_id >= 0:  # packets in a row become one frame, for aioquic to check and to hand on
                head = bytes((_STREAM_FRAME | fin,)) + varint(stream_id) + varint(offset) + varint(len(data))
                payload = head + data
            try:
                is_ack_eliciting, _ = self._payload_received(context, payload)
            except QuicConnectionError as error:
                self.close(
                    error_code=error.error_code,
                    frame_type=error.frame_type,
                    reason_phrase=error.reason_phrase,
                )
                break
            if self._state is not QuicConnectionState.CONNECTED or self._close_pending:
                break
            taken += count
            self._packets_received(space, range(number, number + count), first, now, is_ack_eliciting)
        return taken

    def _keys_to_open(self, address: NetworkAddress) -> Keys | None:
        """Keys, if what comes from `address` now may be plain packets of the path in use."""
        if (
            not self._handshake_confirmed
            or self._state is not QuicConnectionState.CONNECTED
            or self._close_pending
            or self._quic_logger is not None
            or self._cryptos[tls.Epoch.ZERO_RTT].recv.is_valid()
        ):
            return None
        path = self._network_paths[0]
        if path.addr != address or not path.is_validated:
            return None
        crypto = self._cryptos[ONE_RTT].recv
        if self._opening is None or self._opening[0] is not crypto.aead:
            keys = self._make_keys(crypto)
            self._opening = None if keys is None else (crypto.aead, keys)
        return None if self._opening is None else self._opening[1]

    def _packets_received(
        self,
        space: QuicPacketSpace,
        numbers: range,
        first_byte: int,
        now: float,
        is_ack_eliciting: bool,
    ) -> None:
        """What `receive_datagram` notes of a packet, for several in a row."""
        last = numbers[-1]
        if last > space.expected_packet_number:
            space.expected_packet_number = last + 1
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if last > self._spin_highest_pn:
            spin = bool(first_byte & _SPIN_BIT)
            self._spin_bit = not spin if self._is_client else spin
            self._spin_highest_pn = last
        if last > space.largest_received_packet:
            space.largest_received_packet = last
            space.largest_received_time = now
        space.ack_queue.add(numbers.start, numbers.stop)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        space.received_packets._received.update(numbers)
        space.received_packets.add(last)
        if is_ack_eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay

    # sending

    def _may_write_full(self, path: QuicNetworkPath) -> bool:
        """Whether packets made here may go out now."""
        return (
            self._handshake_confirmed
            and path.is_validated
            and self._quic_logger is None
            and not self._cryptos[ONE_RTT]._update_key_requested
        )

    def _fills_a_packet(self, stream: QuicStream) -> bool:
        """Whether a stream has data for a packet of its own, and may send it.

        What was lost, with more behind it, has one whatever its size: it was one before.
        """
        sender = stream.sender
        if (
            stream.is_blocked
            or sender.buffer_is_empty
            or sender.reset_pending
            or sender._reset_error_code is not None
            or stream.receiver.stop_pending
            or not len(sender._pending)
        ):
            return False
        pending = sender._pending[0]
        size = self._sendable(stream, pending) - pending.start
        return size >= self._max_datagram_size or (size == len(pending) and len(sender._pending) > 1)

    def _sendable(self, stream: QuicStream, pending: range) -> int:
        """Up to which offset of what is pending the peer's windows allow to send."""
        sender = stream.sender
        credit = sender.highest_offset + self._remote_max_data - self._remote_max_data_used
        return min(pending.stop, credit, stream.max_stream_data_remote)

    def _write_full_packets(self, builder: QuicPacketBuilder, streams: list[QuicStream], now: float) -> None:
        """Send from `streams`, in turns, as much as congestion control and pacing allow.

        `streams` is left in the order in which they are due next.
        """
        if builder._packet is not None:
            builder._end_packet()
        crypto = self._cryptos[ONE_RTT]
        if self._sealing is None or self._sealing[0] is not crypto.send.aead:
            made = self._make_keys(crypto.send)
            if made is None:
                return
            self._sealing = (crypto.send.aead, made)
        assert builder.max_flight_bytes is not None  # noqa: S101 - `datagrams_to_send` sets it
        allowed = (builder.max_flight_bytes - builder._flight_bytes) // self._max_datagram_size
        pacer = self._loss.pacer
        paced = pacer.allows(now)
        if paced is not None:
            allowed = min(allowed, paced)
        first = _FIXED_BIT | (self._spin_bit << 5) | (crypto.key_phase << 2) | (NUMBER_BYTES - 1)
        seal = partial(self._sealing[1].seal, first, self._peer_cid.cid)
        before = allowed
        waiting = list(streams)
        while waiting and allowed > 0:
            stream = waiting.pop(0)
            if not self._fills_a_packet(stream):
                continue  # the others have used up the connection's window
            allowed -= self._write_turn(builder, seal, stream, min(allowed, _TURN_PACKETS), now)
            streams.remove(stream)
            streams.append(stream)
            waiting.append(stream)
        pacer.charge(before - allowed, now)

    def _write_turn(
        self,
        builder: QuicPacketBuilder,
        seal: Callable[..., list[tuple[bytes, int]]],
        stream: QuicStream,
        limit: int,
        now: float,
    ) -> int:
        """Send at most `limit` packets of one stream, full or with what was lost; the number that went
        out."""
        sender = stream.sender
        stream_id = stream.stream_id
        assert stream_id is not None  # noqa: S101 - only aioquic's crypto streams have none
        pending = sender._pending[0]
        start, stop = pending.start, self._sendable(stream, pending)
        overhead = (
            1 + len(self._peer_cid.cid) + NUMBER_BYTES + TAG_BYTES + _FRAME_BYTES + varint_bytes(stream_id)
        )
        room = self._max_datagram_size - overhead - (varint_bytes(start) if start else 0)
        whole = (stop - start) // room if len(sender._pending) == 1 else -(-(stop - start) // room)
        limit = min(limit, whole)
        ends = sender._buffer_fin == stop
        packets = seal(
            builder._packet_number,
            stream_id,
            start,
            sender._buffer,
            start - sender._buffer_start,
            stop - sender._buffer_start,
            ends,
            self._max_datagram_size,
            limit,
        )
        number, begin, total = builder._packet_number, start, 0
        mark, told = self._loss.control.mark, self._on_full_delivery
        datagrams, records = builder._datagrams, cast("list[object]", builder._packets)
        for packet, end in packets:
            size = len(packet)
            datagrams.append(packet)
            records.append(
                FullPacket(number, now, size, stream, begin, end, ends and end == stop, mark, told)
            )
            number += 1
            begin = end
            total += size
        builder._packet_number = number
        builder._flight_bytes += total
        builder._total_bytes += total
        sender._pending.subtract(start, begin)
        if begin > sender.highest_offset:
            self._remote_max_data_used += begin - sender.highest_offset
            sender.highest_offset = begin
        if ends and begin == stop:
            sender._pending_eof = False
        return len(packets)

    def _flush_builder(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, peer_cid: bytes, now: float
    ) -> list[tuple[bytes, NetworkAddress]]:
        """Register what was built, as aioquic does, but packets made here all at once."""
        if not self._handshake_confirmed or self._quic_logger is not None:
            return super()._flush_builder(
                builder=builder, network_path=network_path, peer_cid=peer_cid, now=now
            )
        datagrams, packets = builder.flush()
        if not datagrams:
            return []
        self._packet_number = builder.packet_number
        space = self._spaces[ONE_RTT]
        sent = cast("dict[int, object]", space.sent_packets)
        total = count = 0
        is_ack_eliciting = False
        for packet in cast("list[Any]", packets):
            if packet.__class__ is FullPacket:
                sent[packet.packet_number] = packet
                total += packet.sent_bytes
                count += 1
            else:
                packet.sent_time = now
                self._loss.on_packet_sent(packet=packet, space=space)
                if packet.is_ack_eliciting:
                    is_ack_eliciting = True
                else:
                    self._forget_bare(packet.packet_number, sent)
        if count:
            self._loss.control.sent(total, now)
            space.ack_eliciting_in_flight += count
            self._loss._time_of_last_sent_ack_eliciting_packet = now
        if (count or is_ack_eliciting) and not self._ack_eliciting_sent_since_receipt:
            self._close_at = now + self._idle_timeout()
            self._ack_eliciting_sent_since_receipt = True
        address = network_path.addr
        network_path.bytes_sent += sum(map(len, datagrams))
        return [(datagram, address) for datagram in datagrams]

    def _forget_bare(self, number: int, sent: dict[int, object]) -> None:
        """Keep the records of a few packets that nobody has to acknowledge, and often nobody does: aioquic
        keeps them all, which on a link of pings is one for each."""
        self._bare.append(number)
        if len(self._bare) > _BARE_PACKETS:
            sent.pop(self._bare.popleft(), None)

    def _on_full_delivery(
        self, delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, fin: bool
    ) -> None:
        """A packet made here was acknowledged, or is lost."""
        stream.sender.on_data_delivery(delivery, start, stop, fin)

    def _make_keys(self, crypto: CryptoContext) -> Keys | None:
        """Keys of the phase that `crypto` is in; None when they are not for this way.

        A key update leaves the key of header protection as it was (RFC 9001, 6), so that one is remembered;
        a try on one block says whether it is the right one.
        """
        if crypto.hp is None or crypto.hp._is_chacha20 or crypto.secret is None:
            return None
        assert crypto.cipher_suite is not None and crypto.version is not None  # noqa: S101, PT018 - set together
        key, iv, header_key = derive_key_iv_hp(
            cipher_suite=crypto.cipher_suite, secret=crypto.secret, version=crypto.version
        )
        if self._header_keys is None:
            self._header_keys = {}
        header_key = self._header_keys.setdefault(crypto, header_key)
        mask = Cipher(algorithms.AES(header_key), modes.ECB()).encryptor().update(_SAMPLE)  # noqa: S305
        return make_keys(key, iv, header_key) if mask == crypto.hp._mask(_SAMPLE) else None
