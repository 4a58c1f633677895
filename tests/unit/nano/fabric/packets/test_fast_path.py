"""Full packets made and taken in many at a time: the same as aioquic's way, whatever the network does."""

import random
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived
from aioquic.quic.packet import QuicErrorCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano.fabric.packets.quic import KIB, Connection, Windows
from nano.fabric.packets.recovery import FullPacket
from tests.support.quic_pairs import CLIENT, SERVER, MangledPair, Pair, SlowConnection

WIDE = Windows(stream_bytes=1024 * KIB, connection_bytes=4096 * KIB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zone")


class _Counting(Connection):
    """How many packets went which way."""

    made = opened = 0

    def _write_turn(self, *arguments: Any) -> int:
        made = super()._write_turn(*arguments)
        self.made += made
        return made

    def take_train(self, *arguments: Any) -> int:
        opened = super().take_train(*arguments)
        self.opened += opened
        return opened


class _CountingPair(MangledPair):
    kinds = (_Counting, _Counting)


class _FastToSlow(MangledPair):
    kinds = (Connection, SlowConnection)


class _SlowToFast(MangledPair):
    kinds = (SlowConnection, Connection)


class _BothSlow(MangledPair):
    kinds = (SlowConnection, SlowConnection)


class _HoldingPair(MangledPair):
    """The server's application consumes nothing."""

    def _collect(self, end: Connection) -> None:
        before = len(self.events[end])
        super()._collect(end)
        for event in self.events[end][before:] if end is self.server else ():
            if isinstance(event, StreamDataReceived):
                end.hold(event.stream_id, len(event.data))


def _send(pair: Pair, bodies: list[bytes]) -> dict[int, bytes]:
    found = {}
    for body in bodies:
        stream_id = pair.client.get_next_available_stream_id()
        pair.client.send_stream_data(stream_id, body, end_stream=True)
        found[stream_id] = body
    return found


def _body(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_body_goes_in_full_packets_both_made_and_opened_here(folder: Path) -> None:
    pair = _CountingPair.connected(folder, WIDE)
    (stream_id,) = found = _send(pair, [_body(500_000, 1)])
    pair.run()
    assert pair.received(pair.server, stream_id) == found[stream_id]
    client, server = pair.client, pair.server
    assert isinstance(client, _Counting)
    assert isinstance(server, _Counting)
    assert client.made > 250, "500 kB in packets of 1452 and some of 1200"
    assert server.opened >= client.made


@given(
    kind=st.sampled_from([MangledPair, _FastToSlow, _SlowToFast, _BothSlow]),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    doubled=st.sampled_from([0.0, 0.2]),
    overtaken=st.sampled_from([0.0, 0.05, 0.3]),
    sizes=st.lists(st.integers(0, 120_000), min_size=1, max_size=5),
    updates=st.lists(st.integers(0, 30), max_size=2),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_arrives_once_and_in_order(  # noqa: PLR0917 - hypothesis names them
    folder: Path,
    kind: type[MangledPair],
    seed: int,
    loss: float,
    doubled: float,
    overtaken: float,
    sizes: list[int],
    updates: list[int],
) -> None:
    """Ends with the short cuts and without, in any pairing, with keys that change in the middle."""
    pair = kind.connected(folder, Windows(stream_bytes=64 * KIB, connection_bytes=128 * KIB))
    pair.dice, pair.loss, pair.doubled, pair.overtaken = random.Random(seed), loss, doubled, overtaken
    bodies = _send(pair, [_body(size, size) for size in sizes])
    for milliseconds in updates:
        pair.run(seconds=milliseconds / 1000)
        pair.client.request_key_update()
        pair.client.send_ping(1)
        pair.loss = pair.overtaken = 0.0  # one update at a time (RFC 9001, 6.1): aioquic leaves that to us
        pair.run(seconds=0.1)
        pair.loss, pair.overtaken = loss, overtaken
    pair.run(seconds=60)
    pair.loss = 0.0
    pair.client.send_ping(1)
    pair.run(seconds=60)
    pair.loss = loss
    for stream_id in bodies:
        pair.server.send_stream_data(stream_id, bodies[stream_id][::-1], end_stream=True)
    pair.run(seconds=120)
    pair.loss = 0.0
    for end in (pair.client, pair.server):
        end.send_ping(1)  # after so many losses the next probe may be a minute away
        pair.run(seconds=60)
    assert pair.client.ended is None
    assert pair.server.ended is None
    assert {stream_id: pair.received(pair.server, stream_id) for stream_id in bodies} == bodies
    assert all(pair.received(pair.client, stream_id) == body[::-1] for stream_id, body in bodies.items())
    for end in (pair.client, pair.server):
        assert not any(end.has_stream(stream_id) for stream_id in bodies)
        assert end._loss.bytes_in_flight == 0
        assert end._loss.spaces[-1].ack_eliciting_in_flight == 0


def test_a_key_update_is_followed_by_both_ways(folder: Path) -> None:
    pair = _CountingPair.connected(folder, WIDE)
    made = 0
    for turn in range(4):
        body = _body(100_000, turn)
        (stream_id,) = _send(pair, [body])
        pair.run()
        assert pair.received(pair.server, stream_id) == body
        client = pair.client
        assert isinstance(client, _Counting)
        before, made = made, client.made
        assert made > before, "the keys of this phase were made"
        client.request_key_update()
        client.send_ping(1)
        pair.run()


def test_nothing_is_sent_beyond_the_windows(folder: Path) -> None:
    windows = Windows(stream_bytes=32 * KIB, connection_bytes=80 * KIB)
    pair = _HoldingPair.connected(folder, windows)
    _send(pair, [_body(200_000, n) for n in range(5)])
    pair.run()
    assert pair.server.ended is None
    assert pair.client.ended is None
    assert pair.server.held_bytes > 75 * KIB
    assert pair.server.held_bytes <= 80 * KIB


def test_a_peer_that_ignores_a_window_is_told_so(folder: Path) -> None:
    """What arrives in many packets is checked as one frame."""
    pair = _HoldingPair.connected(folder, Windows(stream_bytes=32 * KIB, connection_bytes=80 * KIB))
    (stream_id,) = _send(pair, [_body(200_000, 1)])
    pair.run()
    stream = pair.client._streams[stream_id]
    stream.max_stream_data_remote += 100_000
    pair.client._queue(stream)
    pair.run()
    ended = pair.server.ended
    assert isinstance(ended, ConnectionTerminated)
    assert ended.error_code == QuicErrorCode.FLOW_CONTROL_ERROR


def test_streams_take_turns(folder: Path) -> None:
    pair = MangledPair.connected(folder, WIDE)
    first, second = _send(pair, [_body(400_000, 1), _body(400_000, 2)])
    pair.run(seconds=0.05)
    came = [len(pair.received(pair.server, stream_id)) for stream_id in (first, second)]
    assert min(came) > 0
    assert max(came) - min(came) <= 3 * 16 * 1452


def test_what_is_small_goes_before_what_is_large(folder: Path) -> None:
    """A call beside bulk waits for no more than what is already under way."""
    pair = MangledPair.connected(folder, WIDE)
    (bulk,) = _send(pair, [_body(900_000, 1)])
    pair.run(seconds=0.02)
    (call,) = _send(pair, [b"a call"])
    before = len(pair.received(pair.server, bulk))
    while not pair.received(pair.server, call):
        pair.run(seconds=0.002)
    assert len(pair.received(pair.server, bulk)) - before < 300_000
    pair.run()
    assert len(pair.received(pair.server, bulk)) == 900_000


class _Passes(Connection):
    """How often all that QUIC may have to say was looked at."""

    passes = 0

    def _write_connection_limits(self, *arguments: Any, **named: Any) -> None:
        self.passes += 1
        super()._write_connection_limits(*arguments, **named)


class _PassesPair(MangledPair):
    kinds = (_Passes, _Passes)


def test_while_bodies_alone_are_due_nothing_else_is_looked_for(folder: Path) -> None:
    pair = _PassesPair.connected(folder, WIDE)
    assert isinstance(pair.client, _Passes)
    pair.client.send_stream_data(0, _body(500_000, 1))
    pair.client.passes = 0
    flight = pair.client.datagrams_to_send(now=pair.now)
    assert len(flight) > 5
    assert pair.client.passes == 0
    pair.client.send_ping(1)
    pair.client.datagrams_to_send(now=pair.now)
    assert pair.client.passes > 0, "a ping is no body"


def test_a_stream_that_is_given_up_sends_no_more(folder: Path) -> None:
    pair = MangledPair.connected(folder, WIDE)
    (stream_id,) = _send(pair, [_body(900_000, 1)])
    pair.run(seconds=0.004)
    pair.client.reset_stream(stream_id, 7)
    pair.server.stop_stream(stream_id, 7)
    pair.server.reset_stream(stream_id, 7)
    pair.run()
    assert len(pair.received(pair.server, stream_id)) < 900_000
    assert not pair.client.has_stream(stream_id)
    assert pair.client._loss.bytes_in_flight == 0


def test_packets_from_another_address_go_the_long_way(folder: Path) -> None:
    """A client that moves: nothing is taken for granted until the new path is validated."""
    pair = MangledPair.connected(folder, WIDE)
    (stream_id,) = _send(pair, [_body(300_000, 1)])
    pair.run(seconds=0.004)
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(now=pair.now):
        pair.server.take(data, ("10.0.0.9", 9), pair.now)
    assert pair.server.get_peer_address() == ("10.0.0.9", 9)
    assert not pair.server._may_write_full(pair.server._network_paths[0])
    pair.run()
    assert len(pair.received(pair.server, stream_id)) == 300_000
    assert pair.server.get_peer_address() == CLIENT
    assert pair.client.get_peer_address() == SERVER


def test_acknowledgements_that_nobody_acknowledges_are_not_kept(folder: Path) -> None:
    pair = MangledPair.connected(folder, WIDE)
    for _ in range(100):
        pair.client.send_ping(1)
        pair.run()
    for end in (pair.client, pair.server):
        assert len(end._loss.spaces[-1].sent_packets) <= 10


def test_a_record_of_a_full_packet_is_what_aioquic_asks_for() -> None:
    """aioquic reads these of a packet; a new field would show here, and in the pinned functions."""
    from dataclasses import fields  # noqa: PLC0415 - only here

    from aioquic.quic.packet_builder import QuicSentPacket  # noqa: PLC0415

    asked = {field.name for field in fields(QuicSentPacket)} - {"quic_logger_frames"}
    assert asked <= {name for name in dir(FullPacket) if not name.startswith("_")}
