"""Header blocks: looked up or not, they mean what aioquic and pylsqpack say they mean."""

import pylsqpack
import pytest
from aioquic.h3.connection import FrameType, encode_frame
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.http3.header_blocks import (
    Headers,
    headers_frame,
    request_headers,
    response_headers,
    trailers,
)
from nano.fabric.http3.whole_frames import whole_frames

REQUEST: Headers = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/test.Echo/Repeat"),
    (":authority", "cell/c1"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=200)
NAMES = st.sampled_from(["nano-task", "nano-error-bin", "grpc-status", "grpc-message", "x"])


def _block(headers: Headers) -> bytes:
    ((_, block),) = whole_frames(headers_frame(headers)) or [(0, b"")]
    return block


def _stock(block: bytes) -> Headers:
    _, found = pylsqpack.Decoder(0, 0).feed_header(0, block)
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in found]


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.one_of(st.none(), VALUES))
def test_what_is_written_is_read_here_and_elsewhere(extra: Headers, timeout: str | None) -> None:
    headers = REQUEST + ([] if timeout is None else [("grpc-timeout", timeout)]) + extra
    block = _block(headers)
    assert sorted(_stock(block)) == sorted(headers)
    for _ in range(2):  # decoded, then looked up
        found = request_headers(block)
        assert found is None or found == _stock(block)
    if timeout is None:
        assert found is not None


def test_the_time_that_is_left_costs_no_place_in_the_memory() -> None:
    for left in ("4999m", "10S", "7u"):
        block = _block([*REQUEST, ("grpc-timeout", left)])
        assert request_headers(block) == [*REQUEST, ("grpc-timeout", left)]


def test_a_value_that_looks_like_the_line_of_a_timeout_is_a_value() -> None:
    line = "\x27\x05grpc-timeout\x035S1"
    _, block = pylsqpack.Encoder().encode(0, [(b":status", b"200"), (b"x", line.encode("latin-1"))])
    assert (response_headers(block) or _stock(block)) == _stock(block)


@pytest.mark.parametrize(
    "headers",
    [
        REQUEST[1:],  # no method
        [*REQUEST, (":path", "/again")],
        [*REQUEST, ("Upper", "case")],
        [*REQUEST, ("connection", "close")],
        [*REQUEST, ("x", "a\nb")],
    ],
)
def test_a_request_that_is_not_proper_is_left_to_aioquic(headers: Headers) -> None:
    assert request_headers(_block(headers)) is None


def test_an_answer_has_a_status_and_trailers_have_none() -> None:
    answer = _block([(":status", "200"), ("content-type", "application/grpc")])
    assert response_headers(answer) is not None
    assert trailers(answer) is None
    end = _block([("grpc-status", "0")])
    assert trailers(end) == [("grpc-status", "0")]
    assert response_headers(end) is None


def test_an_interim_answer_is_left_to_aioquic() -> None:
    assert response_headers(_block([(":status", "103")])) is None


def test_a_block_that_refers_to_a_dynamic_table_is_left_to_aioquic() -> None:
    assert request_headers(b"\x02\x00\x80") is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_or_not(data: bytes) -> None:
    for read in (request_headers, response_headers, trailers):
        read(b"\x00\x00" + data)
        read(data)


def test_a_frame_is_the_one_that_aioquic_would_write() -> None:
    _, block = pylsqpack.Encoder().encode(0, [(b"grpc-status", b"0")])
    assert headers_frame([("grpc-status", "0")]) == encode_frame(FrameType.HEADERS, block)
