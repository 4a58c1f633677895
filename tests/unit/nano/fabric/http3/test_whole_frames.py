"""Whole frames: what aioquic's encoder makes is read back, and nothing that is cut passes for whole."""

import pytest
from aioquic.h3.connection import FrameType, encode_frame
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.http3.whole_frames import DATA, data_frame_head, whole_frames

FRAMES = st.lists(st.tuples(st.sampled_from([FrameType.DATA, FrameType.HEADERS]), st.binary(max_size=200)))


@given(FRAMES)
def test_whole_frames_are_read_in_order(frames: list[tuple[FrameType, bytes]]) -> None:
    data = b"".join(encode_frame(kind, body) for kind, body in frames)
    assert whole_frames(data) == [(int(kind), body) for kind, body in frames]


@given(FRAMES.filter(bool), st.integers(min_value=1, max_value=200))
def test_a_cut_frame_is_not_whole(frames: list[tuple[FrameType, bytes]], missing: int) -> None:
    *before, (kind, body) = frames
    last = encode_frame(kind, body)
    cut = last[: max(1, len(last) - missing)]
    data = b"".join(encode_frame(*frame) for frame in before) + cut
    assert whole_frames(data) is None


@pytest.mark.parametrize("kind", [FrameType.PUSH_PROMISE, FrameType.SETTINGS, FrameType.GOAWAY, 0x21, 0x40])
def test_other_frames_are_somebody_elses(kind: int) -> None:
    assert whole_frames(encode_frame(FrameType.DATA, b"x") + encode_frame(kind, b"x")) is None


@pytest.mark.parametrize("size", [0, 63, 64, 16_383, 16_384, 70_000])
def test_lengths_of_every_form(size: int) -> None:
    body = bytes(size)
    assert data_frame_head(size) + body == encode_frame(FrameType.DATA, body)
    assert whole_frames(data_frame_head(size) + body) == [(DATA, body)]


@given(st.binary(max_size=40))
def test_any_bytes_are_frames_or_not(data: bytes) -> None:
    frames = whole_frames(data)
    assert frames is None or sum(len(body) for _, body in frames) <= len(data)
