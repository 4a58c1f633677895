"""Flows that share one bottleneck, in virtual time: a queue of bounded size, a delay, random losses from a
seed.

Receivers acknowledge as ours do: every 32 packets or after 4 ms. A sender takes a packet for lost when three
later ones have arrived.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aioquic import tls
from aioquic.quic.congestion.base import QuicCongestionControl
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket

from nano.fabric.packets.congestion import RateControl
from nano.fabric.packets.recovery import Pacer

PACKET_BYTES = 1452
_ACK_PACKETS, _ACK_DELAY_S, _REORDERING = 32, 0.004, 3
_SILENCE_S = 0.3


@dataclass
class Path:
    """What the flows share."""

    bytes_per_s: float
    round_trip_s: float
    queue_bytes: float
    loss: float = 0.0
    seed: int = 1
    free_at: float = 0.0
    queues: list[float] = field(default_factory=list)
    """What was waiting, in bytes, whenever a packet came."""

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def carry(self, now: float) -> float | None:
        """When a packet sent now arrives; None if it is lost."""
        waiting = max(self.free_at - now, 0.0) * self.bytes_per_s
        self.queues.append(waiting)
        if waiting + PACKET_BYTES > self.queue_bytes or self._dice.random() < self.loss:
            return None
        self.free_at = max(self.free_at, now) + PACKET_BYTES / self.bytes_per_s
        return self.free_at + self.round_trip_s / 2


class Flow:
    """A sender that always has more to send, and its receiver."""

    def __init__(self, control: QuicCongestionControl, *, starts_at: float = 0.0) -> None:
        self.control = control
        self.starts_at = starts_at
        self.delivered: list[tuple[float, int]] = []
        """When how much was acknowledged."""
        self.pacer = (
            Pacer(max_datagram_size=PACKET_BYTES, control=control)
            if isinstance(control, RateControl)
            else None
        )
        self.sent: dict[int, QuicSentPacket] = {}
        self.next_number = 0
        self.arrived: deque[int] = deque()
        self.smoothed_s = 0.0
        self.wakes_at: float | None = None

    def rate(self, start: float, stop: float) -> float:
        """Bytes a second that were acknowledged between two times."""
        return sum(size for at, size in self.delivered if start <= at < stop) / (stop - start)


class World:
    """All that happens, in order."""

    def __init__(self, path: Path, *flows: Flow) -> None:
        self.path = path
        self.flows = flows
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[..., None], Any]] = []
        for flow in flows:
            self._at(flow.starts_at, self._send, flow)

    def run(self, until: float) -> None:
        while self._due and self._due[0][0] < until:
            now, _, step, argument = heapq.heappop(self._due)
            step(now, argument)

    def _at(self, when: float, step: Callable[..., None], argument: object) -> None:
        heapq.heappush(self._due, (when, next(self._order), step, argument))

    def _send(self, now: float, flow: Flow) -> None:
        if flow.wakes_at is not None and flow.wakes_at <= now:
            flow.wakes_at = None
        control = flow.control
        while control.congestion_window - control.bytes_in_flight >= PACKET_BYTES:
            if flow.pacer is not None and flow.pacer.next_send_time(now) is not None:
                self._wake(now + max(flow.pacer.packet_time or 0.0, 0.001), flow)  # timers have steps of 1 ms
                return
            packet = _packet(flow.next_number, now)
            flow.next_number += 1
            flow.sent[packet.packet_number] = packet
            control.on_packet_sent(packet=packet)
            if flow.pacer is not None:
                flow.pacer.charge(1, now)
            arrives = self.path.carry(now)
            if arrives is not None:
                self._at(arrives, self._arrive, (flow, packet.packet_number))

    def _wake(self, when: float, flow: Flow) -> None:
        if flow.wakes_at is None or flow.wakes_at > when:
            flow.wakes_at = when
            self._at(when, self._send, flow)

    def _arrive(self, now: float, what: tuple[Flow, int]) -> None:
        flow, number = what
        flow.arrived.append(number)
        if len(flow.arrived) >= _ACK_PACKETS:
            self._acknowledge(now, flow)
        elif len(flow.arrived) == 1:
            self._at(now + _ACK_DELAY_S, self._acknowledge, flow)

    def _acknowledge(self, now: float, flow: Flow) -> None:
        if flow.arrived:
            numbers, flow.arrived = list(flow.arrived), deque()
            self._at(now + self.path.round_trip_s / 2, self._acknowledged, (flow, numbers))

    def _acknowledged(self, now: float, what: tuple[Flow, list[int]]) -> None:
        flow, numbers = what
        control = flow.control
        packets = [flow.sent.pop(number) for number in numbers if number in flow.sent]
        if packets:
            newest = packets[-1]
            round_trip = now - (newest.sent_time or 0.0)
            if flow.pacer is not None:
                size = sum(packet.sent_bytes for packet in packets)
                control.arrived(size, newest.mark, newest.sent_time, now)  # type: ignore[attr-defined]
            else:
                for packet in packets:
                    control.on_packet_acked(now=now, packet=packet)
            control.on_rtt_measurement(now=now, rtt=round_trip)
            flow.delivered.append((now, PACKET_BYTES * len(packets)))
            flow.smoothed_s += (round_trip - flow.smoothed_s) / 8 if flow.smoothed_s else round_trip
            if flow.pacer is not None:
                flow.pacer.update_rate(control.congestion_window, flow.smoothed_s)
            lost = list(
                itertools.takewhile(
                    lambda packet: packet.packet_number <= newest.packet_number - _REORDERING,
                    flow.sent.values(),
                )
            )
            for packet in lost:
                del flow.sent[packet.packet_number]
            if lost:
                control.on_packets_lost(now=now, packets=lost)
        self._send(now, flow)
        self._at(now + _SILENCE_S, self._look_for_silence, (flow, flow.next_number, len(flow.delivered)))

    def _look_for_silence(self, now: float, what: tuple[Flow, int, int]) -> None:
        """Nothing has arrived since: all that was sent until then is lost, as a probe timeout finds out."""
        flow, number, acknowledged = what
        if len(flow.delivered) > acknowledged:
            return
        lost = [flow.sent.pop(old) for old in list(flow.sent) if old < number]
        if lost:
            flow.control.on_packets_lost(now=now, packets=lost)
        self._send(now, flow)


def _packet(number: int, now: float) -> QuicSentPacket:
    return QuicSentPacket(
        epoch=tls.Epoch.ONE_RTT,
        in_flight=True,
        is_ack_eliciting=True,
        is_crypto_packet=False,
        packet_number=number,
        packet_type=QuicPacketType.ONE_RTT,
        sent_time=now,
        sent_bytes=PACKET_BYTES,
    )
