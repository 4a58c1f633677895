"""The connection: windows by consumption, streams under loss, client certificates, datagrams."""

from pathlib import Path

import pytest
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived
from aioquic.tls import Epoch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano.fabric.packets.quic import DATAGRAM_QUEUE, KIB, Connection, Windows, header_of, is_trust_error
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone
from tests.support.quic_pairs import CLIENT, SERVER, Drop, Pair
from tests.support.storms import Storm
from tests.support.strangers import forged_close

SMALL = Windows(stream_bytes=64 * KIB, connection_bytes=256 * KIB, streams=100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zone")


def _open(pair: Pair, data: bytes = b"", *, end: bool = False) -> int:
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, data, end)
    return stream_id


def _hold_all(pair: Pair, end: Connection) -> None:
    """As the link does: everything that came counts as held until somebody consumes it."""
    for event in pair.events[end]:
        if isinstance(event, StreamDataReceived):
            end.hold(event.stream_id, len(event.data))
    pair.events[end].clear()


class _HoldingPair(Pair):
    """Whatever comes to the server is held at once."""

    def _collect(self, end: Connection) -> None:
        super()._collect(end)
        if end is self.server:
            _hold_all(self, end)


def test_a_reader_that_consumes_nothing_gets_one_window_and_no_more(folder: Path) -> None:
    pair = _HoldingPair.connected(folder, SMALL)
    _open(pair, bytes(1000 * KIB))
    pair.run()
    assert pair.server.held_bytes == SMALL.stream_bytes


def test_many_streams_share_the_window_of_the_connection(folder: Path) -> None:
    pair = _HoldingPair.connected(folder, SMALL)
    for _ in range(20):
        _open(pair, bytes(100 * KIB))
    pair.run()
    assert pair.server.held_bytes <= SMALL.connection_bytes
    assert pair.server.held_bytes > SMALL.connection_bytes - 4 * KIB


def test_what_is_consumed_makes_room_for_as_much(folder: Path) -> None:
    pair = _HoldingPair.connected(folder, SMALL)
    stream_id = _open(pair, bytes(1000 * KIB))
    pair.run()
    assert pair.server.consume(stream_id, 32 * KIB)
    pair.run()
    assert pair.server.held_bytes == SMALL.stream_bytes
    assert not pair.server.consume(stream_id, 1), "a byte is not worth a frame"


def test_a_released_stream_gives_its_share_back(folder: Path) -> None:
    pair = _HoldingPair.connected(folder, SMALL)
    ids = [_open(pair, bytes(100 * KIB)) for _ in range(20)]
    pair.run()
    for stream_id in ids[:10]:
        pair.server.release(stream_id)
    before = pair.server.held_bytes
    pair.run()
    assert pair.server.held_bytes > before
    assert not pair.server.consume(ids[0], 5), "nobody reads it any more"


def test_wider_windows_count_from_now_on(folder: Path) -> None:
    pair = _HoldingPair.connected(folder, SMALL)
    stream_id = _open(pair, bytes(2000 * KIB))
    pair.run()
    pair.server.widen(Windows(stream_bytes=512 * KIB, connection_bytes=1024 * KIB))
    pair.server.consume(stream_id, 1)
    pair.run()
    assert pair.server.held_bytes == 512 * KIB


def _ended_streams(pair: Pair, end: Connection) -> set[int]:
    return {
        event.stream_id
        for event in pair.events[end]
        if isinstance(event, StreamDataReceived) and event.end_stream
    }


@given(
    lost=st.sets(st.integers(0, 400), max_size=150),
    sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=12),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_arrives_whatever_the_network_loses(
    folder: Path, lost: set[int], sizes: list[int]
) -> None:
    """Only streams that need service are looked at: a loss must bring one back, an end must free it."""
    pair = Pair.connected(folder)
    begin = pair.sent
    bodies = {_open(pair, bytes([n]) * size, end=True): bytes([n]) * size for n, size in enumerate(sizes)}
    answered: set[int] = set()
    for _ in range(3):
        pair.run(lambda n: n - begin in lost, seconds=60)
        for stream_id in _ended_streams(pair, pair.server) - answered:
            answered.add(stream_id)
            pair.server.send_stream_data(stream_id, b"thanks", end_stream=True)
    assert {stream_id: pair.received(pair.server, stream_id) for stream_id in bodies} == bodies
    assert all(pair.received(pair.client, stream_id) == b"thanks" for stream_id in bodies)
    assert not any(end.has_stream(stream_id) for stream_id in bodies for end in (pair.client, pair.server))


@given(lost=st.sets(st.integers(0, 60), max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_reset_arrives_whatever_the_network_loses(folder: Path, lost: set[int]) -> None:
    pair = Pair.connected(folder)
    stream_id = _open(pair, b"begun")
    pair.run()
    begin = pair.sent
    pair.client.reset_stream(stream_id, 7)
    pair.client.stop_stream(stream_id, 7)
    pair.run(lambda n: n - begin in lost, seconds=60)
    pair.run()
    assert not pair.client.has_stream(stream_id)
    assert not pair.server.has_stream(stream_id)


@pytest.mark.parametrize("lost", [{1}, {2}, {1, 2}], ids=["data", "end", "both"])
def test_an_end_in_a_packet_of_its_own_is_heard_whatever_is_lost(folder: Path, lost: set[int]) -> None:
    """More comes behind it, so that the loss is seen by what was acknowledged, and not by a timeout."""
    pair = Pair.connected(folder)
    stream_id, other = pair.client.open_stream(), pair.client.open_stream()
    says = [(stream_id, b"x" * 500, False), (stream_id, b"", True), *[(other, b"y" * 300, False)] * 6]
    for number, (to, data, end) in enumerate(says, 1):
        pair.client.send_stream_data(to, data, end)
        for datagram, _ in pair.client.datagrams_to_send(now=pair.now):
            if number not in lost:
                pair.server.take(datagram, CLIENT, pair.now)
    pair.run()
    assert pair.received(pair.server, stream_id) == b"x" * 500
    assert stream_id in _ended_streams(pair, pair.server)
    pair.server.send_stream_data(stream_id, b"thanks", end_stream=True)
    pair.run()
    assert not pair.client.has_stream(stream_id)
    assert not pair.server.has_stream(stream_id)


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_loses_nothing_and_leaves_nothing(folder: Path, seed: int) -> None:
    storm = Storm.of_seed(folder, seed)
    storm.blow()
    assert storm.requests.keys() - storm.given_up, "some calls were let be"
    assert storm.flaws() == []


def test_idle_streams_cost_nothing_for_a_packet(folder: Path) -> None:
    pair = Pair.connected(folder, Windows(streams=3000))
    for _ in range(2000):
        _open(pair, b"x")
    pair.run()
    assert pair.client._streams_queue == []
    assert pair.server._streams_queue == []
    assert list(pair.server._streams.values()) == []


def test_streams_that_end_make_room_for_new_ones(folder: Path) -> None:
    pair = Pair.connected(folder, Windows(streams=10))
    for _ in range(50):
        assert pair.client.free_streams > 0
        stream_id = _open(pair, b"x", end=True)
        pair.run()
        pair.server.send_stream_data(stream_id, b"y", end_stream=True)
        pair.run()
    assert pair.client.free_streams > 0


def _disordered(end: Connection) -> int:
    """What lies in the buffers of an end behind something that has not come, counted one by one."""
    receivers = [stream.receiver for stream in dict.values(end._streams)]
    return sum(each.highest_offset - each.starting_offset() for each in receivers if not each.is_finished)


@given(
    lost=st.sets(st.integers(0, 200), max_size=120),
    sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=8),
    reset=st.sets(st.integers(0, 7)),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_came_out_of_order_is_counted(
    folder: Path, lost: set[int], sizes: list[int], reset: set[int]
) -> None:
    """It counts against the connection's window: else one byte at the end of each stream's would be free."""
    pair = Pair.connected(folder, SMALL)
    begin = pair.sent
    ids = [_open(pair, bytes(size)) for size in sizes]
    pair.run(lambda n: n - begin in lost, seconds=0.004)
    assert pair.server.disordered_bytes == _disordered(pair.server)
    for number in reset & set(range(len(ids))):
        pair.client.reset_stream(ids[number], 7)
    pair.run(lambda n: n - begin in lost, seconds=0.004)
    assert pair.server.disordered_bytes == _disordered(pair.server)
    pair.run()
    assert pair.server.disordered_bytes == 0


def test_streams_that_were_skipped_are_made_when_they_speak(folder: Path) -> None:
    """A peer that opens the last stream opens all before it: thousands, for one packet."""
    pair = Pair.connected(folder, Windows(streams=3000))
    for _ in range(2999):
        pair.client.get_next_available_stream_id()
        pair.client._local_next_stream_id_bidi += 4
    last = _open(pair, b"last")
    pair.run()
    assert pair.server.open_streams == 1
    assert pair.received(pair.server, last) == b"last"
    pair.server.send_stream_data(last, b"heard", end_stream=True)
    pair.client._local_next_stream_id_bidi = 4 * 7
    early = _open(pair, b"early", end=True)
    pair.run()
    assert pair.received(pair.server, early) == b"early"
    assert pair.server.open_streams == 2
    pair.server.send_stream_data(early, b"heard", end_stream=True)
    pair.run()
    assert not pair.server.has_stream(early)


def test_keys_are_changed_before_they_are_worn(folder: Path) -> None:
    pair = Pair.connected(folder)
    before = pair.server._cryptos[Epoch.ONE_RTT].key_phase
    pair.client._rekey_at = 20
    stream_id = _open(pair, bytes(200 * KIB), end=True)
    pair.run()
    assert pair.received(pair.server, stream_id) == bytes(200 * KIB)
    assert pair.server._cryptos[Epoch.ONE_RTT].key_phase != before


def test_nobody_is_told_beyond_what_an_unproven_address_may_get(folder: Path) -> None:
    """Three times what came from it (RFC 9000, 8.1), good-byes included."""
    pair = Pair.connected(folder)
    path = pair.server._network_paths[0]
    path.is_validated, path.bytes_received, path.bytes_sent = False, 1200, 3500
    pair.server.close(error_code=0x100, reason_phrase="bye")
    assert pair.server.datagrams_to_send(now=pair.now) == []
    assert pair.server.ended is not None


def test_each_end_sees_the_certificate_of_the_other(folder: Path) -> None:
    pair = Pair.connected(folder)
    for end in (pair.client, pair.server):
        assert end.peer_certificate is not None


def test_the_peers_close_is_known_with_the_packet_that_brings_it(folder: Path) -> None:
    pair = Pair.connected(folder)
    pair.client.close(error_code=0x100, reason_phrase="bye")
    for data, _ in pair.client.datagrams_to_send(now=pair.now):
        pair.server.take(data, CLIENT, pair.now)
    assert pair.server.ended is not None
    assert pair.server.ended.reason_phrase == "bye"
    assert pair.server.was_closed_by_peer
    assert not pair.client.was_closed_by_peer


def test_a_close_that_anybody_could_have_sealed_ends_the_connection_and_is_not_the_peers(
    folder: Path,
) -> None:
    zone = make_zone(folder / "stranger")
    identities = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    pair = Pair(identities, SMALL, 1200)
    pair.client.connect(SERVER, now=pair.now)
    ((first, _),) = pair.client.datagrams_to_send(now=pair.now)
    pair.server.take(first, CLIENT, pair.now)
    flight = [data for data, _ in pair.server.datagrams_to_send(now=pair.now)]
    for data in (*flight, forged_close(first, flight[0], alert=44)):
        pair.client.take(data, SERVER, pair.now)
    assert pair.client.ended is not None
    assert is_trust_error(pair.client.ended.error_code)
    assert not pair.client.was_closed_by_peer


def test_a_refused_certificate_ends_the_connection_as_tls_says(folder: Path) -> None:
    pair = Pair.connected(folder)
    pair.server.close_untrusted("a stranger")
    pair.run()
    (ended,) = (event for event in pair.events[pair.client] if isinstance(event, ConnectionTerminated))
    assert is_trust_error(ended.error_code)
    assert ended.reason_phrase == "a stranger"


def test_a_datagram_that_never_fits_is_refused_and_blocks_nobody(folder: Path) -> None:
    pair = Pair.connected(folder)
    room = pair.client.datagram_room_bytes
    assert room == 1170
    assert not pair.client.offer_datagram(bytes(room + 1))
    assert pair.client.offer_datagram(bytes(room))
    pair.run()
    got = [event.data for event in pair.events[pair.server] if isinstance(event, DatagramFrameReceived)]
    assert got == [bytes(room)]


def test_a_full_queue_of_datagrams_drops_the_oldest(folder: Path) -> None:
    pair = Pair.connected(folder)
    for number in range(DATAGRAM_QUEUE + 10):
        pair.client.offer_datagram(str(number).encode())
    pair.run()
    got = [event.data for event in pair.events[pair.server] if isinstance(event, DatagramFrameReceived)]
    assert got == [str(number).encode() for number in range(10, DATAGRAM_QUEUE + 10)]


def test_a_lone_ping_is_answered_without_a_timer(folder: Path) -> None:
    pair = Pair.connected(folder)
    pair.run()
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(now=pair.now):
        assert pair.server.take(data, CLIENT, pair.now + 0.001)
    assert len(pair.server.datagrams_to_send(now=pair.now + 0.001)) == 1


@given(garbage=st.lists(st.binary(max_size=1500), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_no_sign_of_life(folder: Path, garbage: list[bytes]) -> None:
    pair = Pair.connected(folder)
    for data in garbage:
        header_of(data)
        assert not pair.server.take(data, CLIENT, pair.now)
        assert not pair.client.take(data, SERVER, pair.now)
    assert pair.server.ended is None
    assert pair.client.ended is None


class _Doubted(Pair):
    """Asks an end that says it is quiet nevertheless."""

    quiet = 0

    def _pass_datagrams(self, drop: Drop) -> bool:
        for end in (self.client, self.server):
            if end.has_path and end.is_quiet(self.now):
                assert end.datagrams_to_send(now=self.now) == []
                self.quiet += 1
        return super()._pass_datagrams(drop)


@given(
    lost=st.sets(st.integers(0, 200), max_size=60),
    deeds=st.lists(
        st.sampled_from(["call", "answered", "sample", "ping", "reset", "ids", "keys", "large"]), max_size=12
    ),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_end_that_says_it_is_quiet_has_nothing_to_send(
    folder: Path, lost: set[int], deeds: list[str]
) -> None:
    pair = _Doubted.connected(folder, SMALL)
    assert isinstance(pair, _Doubted)
    first = pair.sent
    for deed in deeds:
        match deed:
            case "call":
                _open(pair, b"x" * 100, end=True)
            case "answered":
                _answered(pair)
            case "large":
                _open(pair, bytes(50_000))
            case "sample":
                pair.server.offer_datagram(b"sample")
            case "ping":
                pair.client.send_ping(0)
            case "reset":
                pair.client.reset_stream(_open(pair, b"cut"), 0)
            case "ids":
                pair.client.change_connection_id()
            case "keys":
                pair.client.request_key_update()
        pair.run(lambda number: number - first in lost, seconds=3)
    pair.run()
    assert pair.quiet
    assert pair.client.is_quiet(pair.now)
    assert pair.server.is_quiet(pair.now)


def _answered(pair: Pair) -> None:
    """A call from its beginning to its end."""
    stream_id = _open(pair, b"question", end=True)
    pair.run()
    pair.server.send_stream_data(stream_id, b"answer", end_stream=True)


@pytest.mark.parametrize("calls", [1, 30, 70])
def test_a_server_is_quiet_after_calls_though_it_owes_room_for_as_many(folder: Path, calls: int) -> None:
    """It is told when it is worth a frame, not with each packet that comes."""
    pair = Pair.connected(folder, SMALL)
    for _ in range(calls):
        _answered(pair)
        pair.run()
    assert pair.server.open_streams == 0
    assert pair.server.is_quiet(pair.now)
    assert pair.client.free_streams >= SMALL.streams // 2


def test_a_sample_is_acknowledged_at_once_and_what_will_be_answered_is_not(folder: Path) -> None:
    pair = Pair.connected(folder)
    for at_once in (True, False):
        pair.run()
        if at_once:
            pair.client.offer_datagram(b"x")
        else:
            _open(pair, b"x")
        for data, _ in pair.client.datagrams_to_send(now=pair.now):
            pair.server.take(data, CLIENT, pair.now)
        assert bool(pair.server.datagrams_to_send(now=pair.now)) == at_once


def test_no_timer_is_due_for_an_acknowledgement_that_the_pacer_holds_back(folder: Path) -> None:
    pair = Pair.connected(folder)
    stream_id = _open(pair, b"send me much")
    pair.run()
    pacer = pair.server._loss._pacer
    pacer.packet_time, pacer.bucket_max = 0.001, 0.002  # this path is too short to be paced of itself
    pair.server.send_stream_data(stream_id, bytes(300 * KIB))
    pair.server.datagrams_to_send(now=pair.now)
    assert pair.server._pacing_at is not None, "it may not send more now"
    pair.client.send_ping(1)
    for data, _ in pair.client.datagrams_to_send(now=pair.now):
        pair.server.take(data, CLIENT, pair.now)
    assert pair.server.datagrams_to_send(now=pair.now) == []
    timer = pair.server.get_timer()
    assert timer is not None
    assert timer > pair.now
