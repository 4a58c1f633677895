"""aioquic's loss recovery, for acknowledgements that cover many packets, and a pacer that timers can keep.

An acknowledgement of a bulk transfer covers some thirty packets of one stream, one behind the other. Stock
code calls two or three functions for each of them; here they are one piece of the stream, told once, and the
congestion control hears of all of them together.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from aioquic import tls
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream

from nano.fabric.packets.congestion import NAME, Mark, RateControl

ONE_RTT = tls.Epoch.ONE_RTT

_PACING_STEP_S = 0.005
"""What may be sent in one burst, as time at the paced rate: epoll's timers have steps of 1 ms, and a loop
that is busy, or waits for the processor, comes late and has to catch up."""

_CATCH_UP_S = 0.010
"""What a timer that came late may make up for: the process waited for its turn, and the path was idle."""

_LEAST_ROUND_TRIP_S = 0.001
"""aioquic's."""

Told = Callable[[QuicDeliveryState, QuicStream, int, int, bool], None]
"""What became of the bytes of a stream from one offset to another, and of its end with them."""


class _Piece(NamedTuple):
    """A piece of one stream that a packet of its own carries."""

    packet_number: int
    sent_time: float
    sent_bytes: int
    stream: QuicStream
    start: int
    stop: int
    fin: bool
    mark: Mark
    told: Told


class FullPacket(_Piece):
    """aioquic's record of a sent packet, for these: what it asks besides is alike for all of them."""

    __slots__ = ()
    epoch = ONE_RTT
    in_flight = True
    is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT

    @property
    def delivery_handlers(self) -> list[tuple[Told, tuple[QuicStream, int, int, bool]]]:
        return [(self.told, (self.stream, self.start, self.stop, self.fin))]


class Pacer(QuicPacketPacer):
    """Spreads packets over the round trip, but in steps that a timer of the event loop can keep."""

    def __init__(self, *, max_datagram_size: int, control: RateControl) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._control = control

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]
        if self.packet_time is None:
            return None
        self.update_bucket(now=now)
        return None if self.bucket_time > 0 else now + self.packet_time - self.bucket_time

    def charge(self, packets: int, now: float) -> None:
        """So many full ones were sent. The last may have been sent on credit, which is paid back: aioquic
        forgives it, and what is forgiven piles up in the network."""
        if self.packet_time is not None:
            self.update_bucket(now=now)
            self.bucket_time -= packets * self.packet_time

    def came_late(self, now: float) -> None:
        """The timer that this pacer asked for came late: make up for that, within bounds."""
        self.bucket_time = min(self.bucket_time + now - self.evaluation_time, _CATCH_UP_S)
        self.evaluation_time = now

    def allows(self, now: float) -> int | None:
        """How many packets may be sent now; None without a limit."""
        if self.packet_time is None:
            return None
        self.update_bucket(now=now)
        return int(self.bucket_time / self.packet_time) + 1 if self.bucket_time > 0 else 0

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        if self._control.is_short:
            self.packet_time = None
            return
        super().update_rate(congestion_window, smoothed_rtt)
        step_s = min(_PACING_STEP_S, max(smoothed_rtt, 1e-6) / 2)
        rate = self._control.pacing_rate
        if rate is not None:
            self.packet_time = max(1e-6, min(self._max_datagram_size / rate, 1.0))
            step_s = max(_PACING_STEP_S, 2 * self.packet_time)
            self.bucket_max = step_s
        self.bucket_max = max(self.bucket_max, step_s)
        self.bucket_time = min(self.bucket_time, self.bucket_max)


class Recovery(QuicPacketRecovery):
    """aioquic's, with `on_ack_received` for many, and our control."""

    @property
    def control(self) -> RateControl:
        return cast("RateControl", self._cc)

    @property
    def pacer(self) -> Pacer:
        return cast("Pacer", self._pacer)

    def on_ack_received(
        self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        control = self.control
        largest = ack_rangeset.bounds().stop - 1
        space.largest_acked_packet = max(space.largest_acked_packet, largest)
        newest, is_ack_eliciting = self._take_acknowledged(ack_rangeset, space, control, now)
        if newest is None:
            return
        if newest.packet_number == largest and is_ack_eliciting:
            self._measure(now - newest.sent_time, ack_delay, now)
            control.on_rtt_measurement(now=now, rtt=now - newest.sent_time)
        self._pacer.update_rate(congestion_window=control.congestion_window, smoothed_rtt=self._rtt_smoothed)
        self._detect_loss(now=now, space=space)
        if self.peer_completed_address_validation:
            self._pto_count = 0

    def _take_acknowledged(
        self, ranges: RangeSet, space: QuicPacketSpace, control: RateControl, now: float
    ) -> tuple[Any, bool]:
        """Forget the packets in `ranges` and tell of them; gives the newest, if any, and whether one of them
        had asked for the acknowledgement."""
        sent = cast("dict[int, Any]", space.sent_packets)
        numbers = list(sent)
        pop = sent.pop
        newest: Any = None
        in_flight: Any = None
        size = eliciting = 0
        first: FullPacket | None = None
        last: FullPacket | None = None
        for found in ranges:
            for number in numbers[bisect_left(numbers, found.start) : bisect_left(numbers, found.stop)]:
                newest = packet = pop(number)
                if packet.__class__ is FullPacket:
                    size += packet.sent_bytes
                    eliciting += 1
                    in_flight = packet
                    if last is not None and packet.start == last.stop and packet.stream is last.stream:
                        last = packet
                        continue
                    _tell(first, last)
                    first = last = packet
                    continue
                if packet.is_ack_eliciting:
                    eliciting += 1
                if packet.in_flight:
                    size += packet.sent_bytes
                    in_flight = packet
                for handler, arguments in packet.delivery_handlers:
                    handler(QuicDeliveryState.ACKED, *arguments)
        _tell(first, last)
        space.ack_eliciting_in_flight -= eliciting
        if in_flight is not None:
            control.arrived(size, in_flight.mark, in_flight.sent_time, now)
        return newest, eliciting > 0

    def _measure(self, latest_s: float, ack_delay: float, now: float) -> None:
        """The round trip, as aioquic takes it (RFC 9002, 5)."""
        ack_delay = min(ack_delay, self.max_ack_delay)
        self._rtt_latest = max(latest_s, _LEAST_ROUND_TRIP_S)
        self._rtt_min = min(self._rtt_min, self._rtt_latest)
        if self._rtt_latest > self._rtt_min + ack_delay:
            self._rtt_latest -= ack_delay
        if not self._rtt_initialized:
            self._rtt_first_sample_time = now
            self._rtt_initialized = True
            self._rtt_variance = latest_s / 2
            self._rtt_smoothed = latest_s
        else:
            self._rtt_variance += (abs(self._rtt_min - self._rtt_latest) - self._rtt_variance) / 4
            self._rtt_smoothed += (self._rtt_latest - self._rtt_smoothed) / 8


def instead_of(stock: QuicPacketRecovery, *, max_datagram_size: int) -> Recovery:
    """A recovery in place of the one that aioquic has just made for a connection."""
    made = Recovery(
        congestion_control_algorithm=NAME,
        initial_rtt=stock._rtt_initial,
        max_datagram_size=max_datagram_size,
        peer_completed_address_validation=stock.peer_completed_address_validation,
        send_probe=stock._send_probe,
        logger=stock._logger,
        quic_logger=stock._quic_logger,
    )
    made._pacer = Pacer(max_datagram_size=max_datagram_size, control=made.control)
    return made


def _tell(first: FullPacket | None, last: FullPacket | None) -> None:
    """Packets of one stream without a gap, from `first` to `last`, have arrived."""
    if first is not None and last is not None:
        first.told(QuicDeliveryState.ACKED, first.stream, first.start, last.stop, last.fin)
