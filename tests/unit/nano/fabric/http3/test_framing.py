"""The head of a message: what is followed, what is refused."""

import struct

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.http3.framing import MESSAGE_LIMIT_BYTES, message_size


@given(st.integers(0, MESSAGE_LIMIT_BYTES))
def test_a_plain_head_gives_the_length(size: int) -> None:
    assert message_size(struct.pack(">BI", 0, size)) == size


def test_a_message_above_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(GRPCError) as found:
        message_size(struct.pack(">BI", 0, MESSAGE_LIMIT_BYTES + 1))
    assert found.value.status is Status.RESOURCE_EXHAUSTED


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(GRPCError) as found:
        message_size(b"\x01\x00\x00\x00\x05")
    assert found.value.status is Status.INTERNAL


@given(st.binary(max_size=12))
def test_any_head_gives_a_length_within_the_limit_or_a_status(head: bytes) -> None:
    try:
        size = message_size(head)
    except GRPCError:
        return
    assert 0 <= size <= MESSAGE_LIMIT_BYTES
