"""Acknowledgements of many packets at once, and a pacer that pays its debts."""

import pytest
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream

from nano.fabric.packets.congestion import RateControl
from nano.fabric.packets.recovery import FullPacket, Pacer, Recovery, instead_of

SIZE = 1200


def _recovery() -> tuple[Recovery, QuicPacketSpace]:
    stock = QuicPacketRecovery(
        congestion_control_algorithm="reno",
        initial_rtt=0.1,
        max_datagram_size=SIZE,
        peer_completed_address_validation=True,
        send_probe=lambda: None,
    )
    recovery, space = instead_of(stock, max_datagram_size=SIZE), QuicPacketSpace(is_application_data=True)
    recovery.spaces = [space]
    recovery.handshake_confirmed = True
    return recovery, space


class _Told:
    def __init__(self) -> None:
        self.pieces: list[tuple[str, int | None, int, int, bool]] = []

    def __call__(
        self, delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, fin: bool
    ) -> None:
        self.pieces.append((delivery.name, stream.stream_id, start, stop, fin))


def _send(
    recovery: Recovery,
    space: QuicPacketSpace,
    stream: QuicStream,
    numbers: range,
    told: _Told,
) -> None:
    for number in numbers:
        start = number * 1000
        packet = FullPacket(
            number, 0.0, SIZE, stream, start, start + 1000, number == 9, recovery.control.mark, told
        )
        space.sent_packets[number] = packet  # type: ignore[assignment]
        space.ack_eliciting_in_flight += 1
        recovery.control.sent(SIZE, 0.0)


def _acknowledge(recovery: Recovery, space: QuicPacketSpace, now: float, *ranges: range) -> None:
    recovery.on_ack_received(ack_rangeset=RangeSet(ranges), ack_delay=0.0, now=now, space=space)


def test_packets_in_a_row_are_one_piece() -> None:
    recovery, space = _recovery()
    told = _Told()
    _send(recovery, space, QuicStream(4), range(10), told)
    _acknowledge(recovery, space, 0.02, range(10))
    assert told.pieces == [("ACKED", 4, 0, 10_000, True)]
    assert recovery.bytes_in_flight == 0
    assert space.ack_eliciting_in_flight == 0
    assert recovery._rtt_smoothed == pytest.approx(0.02)


def test_a_gap_and_another_stream_begin_another_piece_and_what_is_missing_is_lost() -> None:
    recovery, space = _recovery()
    told = _Told()
    _send(recovery, space, QuicStream(4), range(5), told)
    _send(recovery, space, QuicStream(8), range(5, 8), told)
    _acknowledge(recovery, space, 0.02, range(2), range(3, 8))
    assert told.pieces == [
        ("ACKED", 4, 0, 2000, False),
        ("ACKED", 4, 3000, 5000, False),
        ("ACKED", 8, 5000, 8000, False),
        ("LOST", 4, 2000, 3000, False),
    ]
    assert recovery.bytes_in_flight == 0
    _acknowledge(recovery, space, 0.03, range(8))
    assert len(told.pieces) == 4, "each packet's fate is told once"


def test_an_acknowledgement_of_nothing_new_changes_nothing() -> None:
    recovery, space = _recovery()
    told = _Told()
    _send(recovery, space, QuicStream(4), range(3), told)
    _acknowledge(recovery, space, 0.02, range(3))
    rate = recovery.control.rate
    _acknowledge(recovery, space, 9.0, range(3))
    assert recovery._rtt_smoothed == pytest.approx(0.02)
    assert recovery.control.rate == rate


def test_the_pacer_pays_back_what_it_sent_on_credit() -> None:
    control = RateControl(max_datagram_size=SIZE)
    control.sent(SIZE, 0.0)
    control.on_rtt_measurement(now=0.02, rtt=0.02)
    control.arrived(SIZE, control.mark, 0.0, 0.02)
    pacer = Pacer(max_datagram_size=SIZE, control=control)
    pacer.update_rate(control.congestion_window, 0.02)
    assert pacer.packet_time is not None
    now, sent = 1.0, 0
    pacer.charge(pacer.allows(now) or 0, now)
    while now < 2.0:
        now += 0.0013
        allowed = pacer.allows(now) or 0
        pacer.charge(allowed, now)
        sent += allowed
        assert (pacer.next_send_time(now) is None) == (pacer.bucket_time > 0)
    assert sent * pacer.packet_time == pytest.approx(1.0, rel=0.02)


def test_nothing_is_held_back_while_nothing_is_known() -> None:
    pacer = Pacer(max_datagram_size=SIZE, control=RateControl(max_datagram_size=SIZE))
    assert pacer.allows(1.0) is None
    assert pacer.next_send_time(1.0) is None
