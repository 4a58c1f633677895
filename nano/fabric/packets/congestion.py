"""How much may be under way, and how fast it goes out: by the rate at which packets arrive, not by their
losses.

Loss says little on a path that loses packets at random: a control that halves its window for each loss is
left with a hundredth of what a path of 20 ms and 1 % loss carries. This one keeps a model of the path, of
BBR's kind: the highest rate of delivery seen of late, and the shortest round trip. It sends at that rate and
lets up to twice their product be under way, and what acknowledgements need that come in lumps; from time to
time it sends a little faster, to see if there is more, then slower, so that the queue which that made drains
again. Losses count only when they are so many that a queue must be overflowing.

No clock and no packets here: aioquic tells what was sent, what has arrived and what is lost. `recovery.py`
tells it for many packets at once. Bytes, seconds, and bytes a second throughout.
"""

import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.packet_builder import QuicSentPacket

NAME = "nano-rate"
"""Under which aioquic's configuration finds it."""

_INITIAL_PACKETS = 32
_LEAST_PACKETS = 4

_STARTUP_GAIN = 2.885
"""2 / ln 2: doubles the rate with each round trip."""

_WINDOW_GAIN = 2.0
"""Of the product of rate and round trip, what may be under way, beside the lumps: as much as BBR's, for
among flows that keep a queue between them each gets what it has in the queue."""

_CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Of the rate, in turns of one slice each: try for more, drain what that queued, cruise."""

_MARGIN = 0.98
"""A little less than what the path seems to deliver: what is too much by mistake piles up."""

_CRUISING = 2
"""Where the cycle is entered."""

_SLICES = 10
"""Of which the highest rate counts: a cycle and a little."""

_LEAST_SLICE_S = 0.010
"""A slice is a round trip, but not shorter than what timers of an event loop can tell apart."""

_GROWTH = 1.25
_FLAT_ROUNDS = 3
"""The start is over when so many rounds in a row brought less than that growth."""

_LIMITED_ROUND = 0.25
"""What a round counts in which the sender had less to send: of a bulk transfer, whose source lags now and
then."""

_OVERFLOW = 0.12
"""Part of a round's packets whose loss can only be a queue that overflows; random loss stays below it."""

_BACK_OFF = 0.7
"""What is left of the window then: a ceiling,"""

_RISE = 1.05
"""which rises by this with each round that goes well."""

_ROUND_TRIP_KEPT_S = 5.0
_PROBE_ROUND_TRIP_S = 0.1
"""Once in so long a nearly empty path is looked at, for so long."""

_LUMP_PACKETS = 64
_LUMP_S = 0.008
"""What is added to the window for a peer that acknowledges every 32 packets or 4 ms, whichever comes
first."""

_LUMP_LIMIT_S = 0.1
"""What is added at most, as time at the rate, for one whose acknowledgements are seen to come in larger
lumps: a process that has to wait for its turn on the processor."""


_SHORT_S = 0.002
"""A path so short is inside one building: what a process's turns on the processor take is longer than its
round trips, and the wait for a pacing timer longer than the queue that it would save."""

_SHORT_WINDOW_BYTES = 1024 * 1024
"""What may be under way there at least, unless a queue overflows: 8 ms at 1 Gbit/s."""


class Phase(Enum):
    STARTUP = "startup"
    DRAIN = "drain"
    CRUISE = "cruise"
    PROBE_ROUND_TRIP = "probe round trip"


class Mark(NamedTuple):
    """What a packet takes along, so that its arrival says how fast packets arrived meanwhile."""

    delivered: int = 0
    delivered_at: float = 0.0
    sent_at: float = 0.0
    """When the packet was sent whose arrival was the last one known."""
    is_limited: bool = False
    """Whether the sender had less to send than it might have: then the rate is its own, not the path's."""


class RateControl(QuicCongestionControl):
    """One path's model and what follows from it."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.packet_bytes = max_datagram_size
        self.congestion_window = _INITIAL_PACKETS * max_datagram_size
        self.phase = Phase.STARTUP
        self.mark = Mark()
        """What packets that are sent now take along."""
        self._rates: deque[float] = deque([0.0], maxlen=_SLICES)
        self._lumps: deque[float] = deque([0.0], maxlen=_SLICES)
        self._lump_began = self._lump_bytes = 0.0
        self._slice_ends = 0.0
        self._round_trip_s: float | None = None
        self._round_trip_at = 0.0
        self._round_ends = self._round_began = self._round_lost = 0
        self._full_rate = 0.0
        self._flat_rounds = 0.0
        self._step = _CRUISING
        self._step_ends = 0.0
        self._ceiling: float | None = None
        self._limited_until = -1
        self._probe_ends = 0.0
        self._probe_begins = False
        self._probe_found = math.inf

    # what follows from the model

    @property
    def rate(self) -> float:
        """What the path delivers; 0 when nothing is known yet."""
        return max(self._rates)

    @property
    def pacing_rate(self) -> float | None:
        """How fast to send; None when nothing is known yet, or the path is too short to pace."""
        rate = self.rate
        if not rate or self._round_trip_s is None or self.is_short:
            return None
        match self.phase:
            case Phase.STARTUP:  # of a peer that has said little so far, only that is known
                return _STARTUP_GAIN * max(rate, self._initial_bytes / self._round_trip_s)
            case Phase.DRAIN:
                return rate / _STARTUP_GAIN
            case Phase.PROBE_ROUND_TRIP:
                return rate
            case Phase.CRUISE:
                return _MARGIN * _CYCLE[self._step] * rate

    @property
    def _initial_bytes(self) -> int:
        return _INITIAL_PACKETS * self.packet_bytes

    @property
    def is_short(self) -> bool:
        return self._round_trip_s is not None and self._round_trip_s < _SHORT_S

    def _product(self, gain: float = 1.0) -> float:
        return gain * self.rate * (self._round_trip_s or 0.0)

    def _startup_window(self) -> float:
        """Up to where the window grows while nobody knows yet what the path carries."""
        if not self._round_trip_s:
            return math.inf
        return max(self._product(_STARTUP_GAIN), self._product() + self._lump())

    def _lump(self) -> float:
        """What has to be under way beyond the path's own product, since acknowledgements come in lumps."""
        rate = self.rate
        usual = min(_LUMP_PACKETS * self.packet_bytes, _LUMP_S * rate)
        return max(usual, min(max(self._lumps), _LUMP_LIMIT_S * rate))

    def _set_window(self) -> None:
        least = _LEAST_PACKETS * self.packet_bytes
        rate = self.rate
        if not rate or self._round_trip_s is None:
            return
        match self.phase:
            case Phase.PROBE_ROUND_TRIP:
                target = self._product(0.5)
            case Phase.STARTUP:
                target = self.congestion_window
            case Phase.DRAIN | Phase.CRUISE:
                target = self._product(_WINDOW_GAIN) + self._lump() + least
        if self.is_short:
            target = max(target, _SHORT_WINDOW_BYTES)
        if self._ceiling is not None:
            target = min(target, self._ceiling)
        self.congestion_window = int(max(target, least))

    # what happened

    def idle(self) -> None:
        """There was less to send than might have been: until all that is under way has arrived, rates are low
        for that reason."""
        self._limited_until = self.mark.delivered + self.bytes_in_flight
        if not self.mark.is_limited:
            self.mark = self.mark._replace(is_limited=True)

    def late(self, now: float) -> None:
        """This process did not send when it should have: what arrives slowly now says nothing of the path, so
        the rate that is known is kept for longer."""
        self._slice_ends = max(self._slice_ends, now + self._slice_s)
        self._flat_rounds = 0.0

    def sent(self, size: int, now: float) -> None:
        """So much was sent."""
        if not self.bytes_in_flight:  # after a pause nothing was on its way: the clocks begin anew
            self.mark = self.mark._replace(delivered_at=now, sent_at=now)
        self.bytes_in_flight += size

    def arrived(self, size: int, mark: Mark, sent_at: float, now: float) -> None:
        """So much has arrived; `mark` and `sent_at` are those of the packet sent last among it."""
        self.bytes_in_flight -= size
        delivered = self.mark.delivered + size
        self.mark = Mark(delivered, now, sent_at, delivered < self._limited_until)
        took = max(now - mark.delivered_at, sent_at - mark.sent_at)
        if took > 0:
            self._add_rate((delivered - mark.delivered) / took, now, is_limited=mark.is_limited)
        self._weigh(size, now)
        if self.phase is Phase.STARTUP and self.congestion_window < self._startup_window():
            self.congestion_window += size
        if mark.delivered >= self._round_ends:
            self._end_round(delivered, is_limited=mark.is_limited)
        self._advance(now)
        self._set_window()

    def lost(self, size: int) -> None:
        """So much is lost."""
        self.bytes_in_flight -= size
        self._round_lost += size

    def _add_rate(self, rate: float, now: float, *, is_limited: bool) -> None:
        if now >= self._slice_ends:
            if self._slice_ends and not is_limited:
                self._rates.append(0.0)
                self._lumps.append(0.0)
            self._slice_ends = now + self._slice_s
        if rate > self._rates[-1] and (not is_limited or rate > self.rate):
            self._rates[-1] = rate

    def _weigh(self, size: int, now: float) -> None:
        """How much more has arrived in a lump than the rate would have brought."""
        expected = self.rate * (now - self._lump_began)
        if self._lump_bytes <= expected:
            self._lump_began, self._lump_bytes, expected = now, 0.0, 0.0
        self._lump_bytes += size
        self._lumps[-1] = max(self._lumps[-1], min(self._lump_bytes - expected, self.congestion_window))

    @property
    def _slice_s(self) -> float:
        return max(self._round_trip_s or 0.0, _LEAST_SLICE_S)

    def _end_round(self, delivered: int, *, is_limited: bool) -> None:
        """All that was under way when the round began has arrived or is lost."""
        lost, came = self._round_lost, delivered - self._round_began
        overflowed = lost > max(_OVERFLOW * (came + lost), _LEAST_PACKETS * self.packet_bytes)
        if overflowed:
            self._ceiling = max(self._product(), _BACK_OFF * self.congestion_window)
        elif self._ceiling is not None:
            self._ceiling *= _RISE
            if self._ceiling > _WINDOW_GAIN * _WINDOW_GAIN * self._product():
                self._ceiling = None
        self._round_lost, self._round_began = 0, delivered
        self._round_ends = delivered + self.bytes_in_flight
        if self.phase is Phase.STARTUP and (not is_limited or self._product() > 2 * self._initial_bytes):
            self._look_for_plateau(_LIMITED_ROUND if is_limited else 1.0, overflowed=overflowed)

    def _look_for_plateau(self, counts: float, *, overflowed: bool) -> None:
        if self.rate >= _GROWTH * self._full_rate:
            self._full_rate, self._flat_rounds = self.rate, 0.0
        else:
            self._flat_rounds += counts
        if self._flat_rounds >= _FLAT_ROUNDS or overflowed:
            self.phase = Phase.DRAIN

    def _advance(self, now: float) -> None:
        """Time, and what is under way, decide on the phase."""
        drained = self.bytes_in_flight <= self._product()
        match self.phase:
            case Phase.DRAIN if drained:
                self._cruise(now)
            case Phase.CRUISE if now - self._round_trip_at > _ROUND_TRIP_KEPT_S and not self.mark.is_limited:
                self.phase, self._probe_begins = Phase.PROBE_ROUND_TRIP, True
            case Phase.CRUISE if now >= self._step_ends or (_CYCLE[self._step] < 1 and drained):
                self._step = (self._step + 1) % len(_CYCLE)
                self._step_ends = now + self._slice_s
            case Phase.PROBE_ROUND_TRIP if self._probe_begins:
                if self.bytes_in_flight <= self.congestion_window:
                    self._probe_begins, self._probe_found = False, math.inf
                    self._probe_ends = now + max(_PROBE_ROUND_TRIP_S, self._round_trip_s or 0.0)
            case Phase.PROBE_ROUND_TRIP if now >= self._probe_ends and self._probe_found < math.inf:
                self._round_trip_s, self._round_trip_at = self._probe_found, now
                self._cruise(now)

    def _cruise(self, now: float) -> None:
        self.phase, self._step, self._step_ends = Phase.CRUISE, _CRUISING, now + self._slice_s

    # aioquic's names

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        self.arrived(packet.sent_bytes, mark_of(packet), packet.sent_time or 0.0, now)

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        self.sent(packet.sent_bytes, packet.sent_time or 0.0)
        packet.mark = self.mark  # type: ignore[attr-defined]

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:  # noqa: ARG002
        for packet in packets:
            self.lost(packet.sent_bytes)

    def on_persistent_congestion(self) -> None:
        """Nothing came through for long: what was known of the path is not true any more."""
        self.phase, self._full_rate, self._flat_rounds, self._ceiling = Phase.STARTUP, 0.0, 0.0, None
        self._rates = deque([0.0], maxlen=_SLICES)
        self.congestion_window = _LEAST_PACKETS * self.packet_bytes

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        self._probe_found = min(self._probe_found, rtt)
        if self._round_trip_s is None or rtt <= self._round_trip_s:
            self._round_trip_s, self._round_trip_at = rtt, now


def mark_of(packet: QuicSentPacket) -> Mark:
    """What a packet took along when it was sent."""
    mark: Mark = packet.mark  # type: ignore[attr-defined]
    return mark


register_congestion_control(NAME, RateControl)
