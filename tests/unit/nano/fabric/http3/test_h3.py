"""HTTP/3: leaving, limits, and frames that are none."""

import itertools
from pathlib import Path

import pylsqpack
import pytest
from aioquic.h3.connection import ErrorCode, FrameType, Setting, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import StreamDataReceived
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano.fabric.http3.h3 import Http3, Malformed, Piece, _piece
from nano.fabric.http3.header_blocks import HEADERS_LIMIT_BYTES
from tests.support.quic_pairs import Pair

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"cell"),
    (b":path", b"/x"),
]


class _Web:
    """HTTP/3 on a pair."""

    def __init__(self, folder: Path) -> None:
        self.pair = Pair.connected(folder)
        self.client, self.server = Http3(self.pair.client), Http3(self.pair.server)
        self.run()

    def run(self) -> list[object]:
        """Let both talk; gives what the server was told."""
        self.pair.run()
        told: list[object] = []
        for quic, http in ((self.pair.client, self.client), (self.pair.server, self.server)):
            for event in self.pair.events[quic]:
                found = http.handle_event(event)
                told += found if http is self.server else []
            self.pair.events[quic].clear()
        self.pair.run()
        return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zone")


def test_a_peer_that_leaves_says_so(folder: Path) -> None:
    web = _Web(folder)
    assert not web.client.peer_leaves
    web.server.leave()
    web.run()
    assert web.client.peer_leaves
    assert not web.server.peer_leaves


def test_headers_use_no_dynamic_table(folder: Path) -> None:
    web = _Web(folder)
    settings_seen = web.server.received_settings
    assert settings_seen is not None
    assert settings_seen[Setting.QPACK_MAX_TABLE_CAPACITY] == 0
    assert settings_seen[Setting.QPACK_BLOCKED_STREAMS] == 0


def test_a_request_passes(folder: Path) -> None:
    web = _Web(folder)
    stream_id = web.pair.client.get_next_available_stream_id()
    web.client.send_headers(stream_id, REQUEST)
    web.client.send_data(stream_id, b"body", end_stream=True)
    told = web.run()
    assert [type(event) for event in told] == [HeadersReceived, DataReceived]


def test_a_header_block_that_would_fill_memory_ends_the_connection(folder: Path) -> None:
    web = _Web(folder)
    stream_id = web.pair.client.get_next_available_stream_id()
    frame = encode_frame(FrameType.HEADERS, bytes(HEADERS_LIMIT_BYTES + 1))
    web.pair.client.send_stream_data(stream_id, frame[:100])
    web.run()
    assert web.pair.server.ended is not None
    assert web.pair.server.ended.error_code == ErrorCode.H3_EXCESSIVE_LOAD


def test_a_malformed_request_ends_its_stream_only(folder: Path) -> None:
    web = _Web(folder)
    stream_id = web.pair.client.get_next_available_stream_id()
    web.client.send_headers(stream_id, REQUEST[:3], end_stream=True)
    with pytest.raises(Malformed, match="path") as found:
        web.run()
    assert (found.value.code, found.value.ended) == (ErrorCode.H3_MESSAGE_ERROR, True)
    assert web.pair.server.ended is None


@pytest.mark.parametrize("cut", range(1, 9))
def test_goaway_is_read_in_whatever_pieces_it_comes(folder: Path, cut: int) -> None:
    web = _Web(folder)
    frames = encode_frame(0x2F, b"grease") + encode_frame(FrameType.GOAWAY, b"\x00")
    web.pair.server.send_stream_data(3, frames[:cut])
    web.run()
    web.pair.server.send_stream_data(3, frames[cut:])
    web.run()
    assert web.client.peer_leaves
    assert web.pair.client.ended is None


def test_a_forgotten_stream_leaves_nothing_behind(folder: Path) -> None:
    web = _Web(folder)
    stream_id = web.pair.client.get_next_available_stream_id()
    web.client.send_headers(stream_id, REQUEST)
    assert web.client.knows(stream_id)
    web.client.forget(stream_id)
    web.client.forget(stream_id)
    assert not web.client.knows(stream_id)


_frames = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.builds(encode_frame, st.sampled_from([0, 1, 3, 4, 5, 7, 13, 33]), st.binary(max_size=100)),
    ),
    max_size=6,
).map(b"".join)


@given(
    stream=st.sampled_from(["request", "control", "encoder", "decoder", "new uni"]),
    data=_frames,
    cut=st.integers(0, 20),
    end=st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_frames_end_the_connection_at_most(
    folder: Path, stream: str, data: bytes, cut: int, end: bool
) -> None:
    """Nothing is raised: what is not understood is ignored, or ends the connection with a code of HTTP/3."""
    web = _Web(folder)
    stream_id = {
        "request": web.pair.client.get_next_available_stream_id(),
        "control": 2,
        "encoder": 6,
        "decoder": 10,
        "new uni": web.pair.client.get_next_available_stream_id(is_unidirectional=True),
    }[stream]
    for part, last in ((data[:cut], False), (data[cut:], end)):
        web.pair.client.send_stream_data(stream_id, part, last)
        web.run()
    ended = web.pair.server.ended
    assert ended is None or ErrorCode.H3_NO_ERROR < ended.error_code < 0x300


def _frame_of(headers: list[tuple[bytes, bytes]]) -> bytes:
    _, block = pylsqpack.Encoder().encode(0, headers)
    return encode_frame(FrameType.HEADERS, block)


PIECES = st.one_of(
    st.just(_frame_of(REQUEST)),
    st.just(_frame_of([(b"grpc-status", b"0")])),
    st.binary(max_size=80).map(lambda body: encode_frame(FrameType.DATA, body)),
    st.binary(max_size=8).map(lambda body: encode_frame(0x21, body)),
    st.binary(max_size=8),
)


@given(
    pieces=st.lists(PIECES, min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 300), max_size=3),
    end=st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_whole_is_what_aioquic_reads(
    folder: Path, pieces: list[bytes], cuts: list[int], end: bool
) -> None:
    """The same bytes in the same pieces, past aioquic's parser and through it."""
    data = b"".join(pieces)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [data[start:stop] for start, stop in itertools.pairwise(places)] or [b""]
    told: tuple[list[Piece], list[Piece]] = ([], [])
    codes: list[int | None] = []
    for found, read in zip(told, (Http3.read, _read_by_aioquic), strict=True):
        web = _Web(folder)
        stream_id = web.pair.client.get_next_available_stream_id()
        for number, part in enumerate(parts):
            web.pair.client.send_stream_data(stream_id, part, end and number == len(parts) - 1)
            web.pair.run()
            for event in web.pair.events[web.pair.server]:
                if isinstance(event, StreamDataReceived):
                    try:
                        found.extend(read(web.server, event))
                    except Malformed as flaw:
                        codes.append(flaw.code)
                        web.server.forget(stream_id)
            web.pair.events[web.pair.server].clear()
        codes.append(None if web.pair.server.ended is None else web.pair.server.ended.error_code)
    assert _joined(told[0]) == _joined(told[1])
    half = len(codes) // 2
    assert codes[:half] == codes[half:]


def _read_by_aioquic(http: Http3, event: StreamDataReceived) -> list[Piece]:
    return [_piece(told) for told in http.handle_event(event)]


def _joined(pieces: list[Piece]) -> list[object]:
    """Bodies may come in other pieces, the messages are the same."""
    found: list[object] = []
    for headers, body, ended in pieces:
        if headers is not None:
            found.append(headers)
        elif found and isinstance(found[-1], bytes):
            found[-1] += body
        elif body:
            found.append(body)
        if ended:
            found.append(True)
    return found
