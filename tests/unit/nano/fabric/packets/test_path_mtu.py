"""How large packets may be: found out, disproved, and forgotten when the path changes under us."""

from pathlib import Path

import pytest

from nano.fabric.packets.path_mtu import BASE_BYTES, LADDER, WORTH_BYTES, PathMtu
from nano.fabric.packets.quic import KIB, Windows
from tests.support.quic_pairs import MangledPair

WIDE = Windows(stream_bytes=1024 * KIB, connection_bytes=4096 * KIB)
PROBE_TIMEOUT_S = 0.05


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zone")


def _search(mtu: PathMtu, carries: int, now: float = 0.0) -> list[int]:
    """Answer probes as a path would that carries so much, until none is sent any more; their sizes."""
    tried = []
    while (size := mtu.probe(now)) is not None:
        tried.append(size)
        if size <= carries:
            mtu.probe_arrived(size, now)
        else:
            mtu.probe_lost(now)
    return tried


def _used(carries: int = 1500) -> PathMtu:
    mtu = PathMtu()
    mtu.sent(WORTH_BYTES)
    _search(mtu, carries)
    return mtu


@pytest.mark.parametrize(("carries", "found"), [(1200, 1200), (1472, 1452), (8972, 8952), (65_507, 16_000)])
def test_the_largest_size_that_arrives_is_found(carries: int, found: int) -> None:
    mtu = PathMtu()
    mtu.sent(WORTH_BYTES)
    tried = _search(mtu, carries)
    assert mtu.packet_bytes == found
    assert len(tried) <= len(LADDER) + 2, "a step up each, and three losses of the first that is too large"


def test_a_connection_of_few_small_calls_tries_nothing() -> None:
    mtu = PathMtu()
    mtu.sent(WORTH_BYTES - 1)
    assert mtu.probe(0) is None
    mtu.sent(1)
    assert mtu.probe(0) == LADDER[0]


def test_one_probe_is_under_way_at_a_time() -> None:
    mtu = PathMtu()
    mtu.sent(WORTH_BYTES)
    assert mtu.probe(0) == LADDER[0]
    assert mtu.probe(0) is None


def test_two_losses_prove_nothing_and_three_do_for_ever_longer() -> None:
    mtu, now = PathMtu(), 0.0
    mtu.sent(WORTH_BYTES)
    for pause_s in (10, 20, 40, 80, 160, 320, 600, 600):
        for _ in range(3):
            assert mtu.probe(now) == LADDER[0]
            mtu.probe_lost(now)
        assert mtu.probe(now + pause_s - 1) is None
        now += pause_s
    mtu.probe(now)
    mtu.probe_arrived(LADDER[0], now)
    _search(mtu, LADDER[0], now)
    assert mtu.probe(now + 10) == LADDER[1], "what was proven begins anew"


def test_full_packets_that_keep_being_lost_are_a_black_hole() -> None:
    mtu = _used()
    mtu.full_arrived(10.0)
    lost = [mtu.full_lost(10.0 + n * PROBE_TIMEOUT_S, PROBE_TIMEOUT_S) for n in range(1, 8)]
    assert lost == [False] * 5 + [True, False]
    assert mtu.packet_bytes == BASE_BYTES
    assert mtu.probe(11.0) is None, "not at once"


def test_many_losses_at_once_are_only_a_full_queue() -> None:
    mtu = _used()
    mtu.full_arrived(10.0)
    assert not any(mtu.full_lost(10.0 + PROBE_TIMEOUT_S, PROBE_TIMEOUT_S) for _ in range(100))
    mtu.full_arrived(10.1)
    assert not any(mtu.full_lost(10.2, PROBE_TIMEOUT_S) for _ in range(5))
    assert mtu.packet_bytes == LADDER[0]


def test_losses_at_the_smallest_size_change_nothing() -> None:
    mtu = PathMtu()
    assert not any(mtu.full_lost(float(n), PROBE_TIMEOUT_S) for n in range(100))


def test_another_path_is_looked_at_anew() -> None:
    mtu = _used(8972)
    mtu.moved()
    assert mtu.packet_bytes == BASE_BYTES
    _search(mtu, 1472)
    assert mtu.packet_bytes == 1452


@pytest.mark.parametrize(("carries", "found"), [(1200, 1200), (1472, 1452), (8972, 8952), (65_507, 16_000)])
def test_a_connection_finds_out_what_its_path_carries(folder: Path, carries: int, found: int) -> None:
    pair = MangledPair.connected(folder, WIDE)
    pair.carries_bytes = carries
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, bytes(600_000), end_stream=True)
    pair.run()
    assert len(pair.received(pair.server, stream_id)) == 600_000
    assert pair.client.datagram_room_bytes == found - 30
    assert pair.server.datagram_room_bytes == 1200 - 30, "it has sent next to nothing"


@pytest.mark.parametrize("burst", [600_000, 30_000, 500])
def test_a_path_that_shrinks_is_noticed_and_the_body_arrives(folder: Path, burst: int) -> None:
    """As when a tunnel comes up on the way. Whatever is under way then, much or a single packet."""
    pair = MangledPair.connected(folder, WIDE)
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, bytes(600_000))
    pair.run()
    assert pair.client.datagram_room_bytes == 16_000 - 30
    pair.carries_bytes = 1200
    pair.client.send_stream_data(stream_id, bytes(burst + 2000), end_stream=True)
    pair.run(seconds=60)
    assert len(pair.received(pair.server, stream_id)) == 602_000 + burst
    assert pair.client.datagram_room_bytes == 1200 - 30
    assert pair.client.ended is None


def test_datagrams_that_do_not_fit_any_more_do_not_block_the_others(folder: Path) -> None:
    pair = MangledPair.connected(folder, WIDE)
    pair.client.send_stream_data(pair.client.get_next_available_stream_id(), bytes(600_000))
    pair.run()
    assert pair.client.offer_datagram(bytes(9000))
    assert pair.client.offer_datagram(bytes(90))
    pair.client._use_packets_of(1200)
    assert [len(data) for data in pair.client._datagrams_pending] == [90]


def test_a_datagram_that_does_not_fit_is_a_reason_to_look(folder: Path) -> None:
    pair = MangledPair.connected(folder, WIDE)
    assert not pair.client.offer_datagram(bytes(1400))
    pair.client.send_ping(1)
    pair.run()
    assert pair.client.offer_datagram(bytes(1400))
