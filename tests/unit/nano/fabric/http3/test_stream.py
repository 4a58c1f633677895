"""The inbox of a stream: pieces in, messages out, and only what was taken counts as consumed."""

import asyncio
import itertools

import pytest
from grpclib.exceptions import StreamTerminatedError
from hypothesis import given, settings
from hypothesis import strategies as st

from nano.fabric.http3.framing import PREFIX_BYTES, framed, message_size
from nano.fabric.http3.stream import Inbox, Truncated


class _Counted(Inbox):
    def __init__(self) -> None:
        self.consumed = 0
        super().__init__(self._count)

    def _count(self, size: int) -> None:
        self.consumed += size


@given(
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=10),
    reads=st.lists(st.integers(0, 120), max_size=10),
)
@settings(deadline=None)
def test_pieces_of_any_size_are_read_in_any_size(data: bytes, cuts: list[int], reads: list[int]) -> None:
    async def read_all() -> None:
        inbox = _Counted()
        places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for start, stop in itertools.pairwise(places):
            if stop > start:
                inbox.add(data[start:stop])
        inbox.end()
        position = 0
        for size in reads:
            left = len(data) - position
            if size > left > 0:
                with pytest.raises(Truncated):
                    await inbox.read(size)
                assert inbox.consumed == len(data)
                return
            assert await inbox.read(size) == data[position : position + size]
            position += min(size, left)
            assert inbox.consumed == position

    asyncio.run(read_all())


async def test_a_reader_waits_for_what_is_missing() -> None:
    inbox = _Counted()
    inbox.add(b"ab")
    async with asyncio.TaskGroup() as jobs:
        reading = jobs.create_task(inbox.read(4))
        await asyncio.sleep(0)
        assert inbox.consumed == 2, "a message larger than the window must open it while it comes"
        inbox.add(b"cde")
    assert reading.result() == b"abcd"
    assert await inbox.some() == b"e"


async def test_a_broken_stream_is_told_after_what_had_come() -> None:
    inbox = _Counted()
    inbox.add(b"ab")
    inbox.fail(StreamTerminatedError("gone"))
    inbox.fail(StreamTerminatedError("again"))
    assert await inbox.some() == b"ab"
    with pytest.raises(StreamTerminatedError, match="gone"):
        await inbox.some()


async def test_a_waiting_reader_is_woken_by_the_end() -> None:
    inbox = _Counted()
    async with asyncio.TaskGroup() as jobs:
        reading = jobs.create_task(inbox.read(1))
        await asyncio.sleep(0)
        inbox.end()
    assert reading.result() == b""


def _framed(*messages: bytes) -> bytes:
    return b"".join(framed(message) for message in messages)


@given(st.lists(st.binary(max_size=60), max_size=5), st.lists(st.integers(0, 330), max_size=6))
@settings(deadline=None)
def test_messages_come_whole_in_whatever_pieces_they_came(messages: list[bytes], cuts: list[int]) -> None:
    async def read_all() -> None:
        inbox = _Counted()
        data = _framed(*messages)
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for start, stop in itertools.pairwise(places):
            inbox.add(data[start:stop])
        inbox.end()
        found = []
        while (message := inbox.message()) is not None or (prefix := await inbox.read(PREFIX_BYTES)):
            if message is None:
                message = await inbox.read(message_size(prefix))
            found.append(message)
        assert found == messages
        assert inbox.consumed == len(data)

    asyncio.run(read_all())


def test_a_piece_is_a_message_only_if_it_is_one_and_no_more() -> None:
    for piece in (_framed(b"abc")[:-1], _framed(b"abc") + b"x", _framed(b"abc", b"de"), b"", b"\x00\x00"):
        inbox = _Counted()
        if piece:
            inbox.add(piece)
        assert inbox.message() is None
        assert inbox.consumed == 0
