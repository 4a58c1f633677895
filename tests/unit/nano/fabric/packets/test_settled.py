"""A connection that let go of its handshake: it goes on as before, and weighs little."""

import gc
import tracemalloc
from pathlib import Path

import pytest
from aioquic import tls
from aioquic.quic.events import DatagramFrameReceived

from nano.fabric.packets.quic import Windows
from nano.fabric.packets.settled import CONNECTION_IDS
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone
from tests.support.quic_pairs import CLIENT, SERVER, Pair

LIMIT_BYTES = 48 * 1024
"""Of one end in Python's own memory, without the link around it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zone")


def _settled(folder: Path) -> Pair:
    pair = Pair.connected(folder)
    pair.client.settle()
    pair.server.settle()
    return pair


def test_a_settled_pair_goes_on_talking(folder: Path) -> None:
    pair = _settled(folder)
    for update in (False, True, True):
        if update:
            pair.client.request_key_update()
        stream_id = pair.client.get_next_available_stream_id()
        pair.client.send_stream_data(stream_id, b"x" * 5000, True)
        pair.run()
        assert pair.server.offer_datagram(b"a sample")
        pair.run()
        assert pair.received(pair.server, stream_id) == b"x" * 5000
        assert any(isinstance(event, DatagramFrameReceived) for event in pair.events[pair.client])
        pair.events[pair.client].clear()
    assert pair.client.ended is None
    assert pair.server.ended is None


def test_loss_is_made_good_by_a_settled_pair(folder: Path) -> None:
    pair = _settled(folder)
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, bytes(100_000), True)
    pair.run(lambda number: number % 3 == 0)
    assert pair.received(pair.server, stream_id) == bytes(100_000)


class _Recorded(Pair):
    """Keeps what the client sent while it shook hands."""

    flights: list[bytes]

    def _pass_datagrams(self, drop: object) -> bool:
        del drop
        if not hasattr(self, "flights"):
            self.flights = []
        out = [] if not self.client.has_path else self.client.datagrams_to_send(now=self.now)
        self.flights += [data for data, _ in out]
        back = [] if not self.server.has_path else self.server.datagrams_to_send(now=self.now)
        self.now += 0.001
        for data, _ in out:
            self.server.take(data, CLIENT, self.now)
        for data, _ in back:
            self.client.take(data, SERVER, self.now)
        self._collect(self.client)
        self._collect(self.server)
        return bool(out or back)


def test_late_packets_of_the_handshake_open_nothing(folder: Path) -> None:
    pair = _Recorded.connected(folder)
    assert isinstance(pair, _Recorded)
    pair.server.settle()
    late = [data for data in pair.flights if data[0] & 0x80]
    assert late
    for data in late:
        assert not pair.server.take(data, CLIENT, pair.now)
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"still here", True)
    pair.run()
    assert pair.received(pair.server, stream_id) == b"still here"


def test_nothing_is_let_go_before_the_handshake_is_confirmed(folder: Path) -> None:
    zone = make_zone(folder)
    fresh = Pair((issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")), Windows(), 1200)
    fresh.client.connect(SERVER, now=fresh.now)
    fresh.client.settle()
    fresh.run()
    assert fresh.client.tls.state == tls.State.CLIENT_POST_HANDSHAKE


def test_a_settled_pair_closes_in_good_order(folder: Path) -> None:
    pair = _settled(folder)
    pair.client.close(reason_phrase="done")
    pair.run()
    assert pair.server.ended is not None
    assert pair.server.ended.reason_phrase == "done"


def test_an_end_weighs_little(folder: Path) -> None:
    kept = [_settled(folder)]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept += [_settled(folder) for _ in range(10)]
    for pair in kept:
        for events in pair.events.values():
            events.clear()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 20 < LIMIT_BYTES


def test_a_peer_has_few_ids_and_enough_to_move(folder: Path) -> None:
    pair = _settled(folder)
    assert len(pair.client._host_cids) == len(pair.server._host_cids) == CONNECTION_IDS
