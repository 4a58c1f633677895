"""Bodies that come piece by piece: nothing is made that nobody takes, and nothing is left open."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from nano.model.errors import Unreachable
from nano.web.streamed import Streamed


class Client:
    """An ASGI server's side: takes what is sent without waiting, and leaves when it is told to."""

    def __init__(self, leaves_after: int = 1000) -> None:
        self.sent: list[dict[str, Any]] = []
        self._leaves_after = leaves_after
        self._left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == self._leaves_after:
            self._left.set()
        assert len(self.sent) < self._leaves_after + 10, "it does not hear that its client has left"

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def test_pieces_are_sent_in_order_and_the_body_ends() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b"b"

    client = Client()
    await Streamed(pieces(), 206, "x/y", {"One": "two"})({}, client.receive, client.send)
    assert client.sent[0]["status"] == 206
    assert (b"one", b"two") in client.sent[0]["headers"]
    assert client.body == b"ab"
    assert client.sent[-1]["more_body"] is False


async def test_a_client_that_leaves_closes_the_source() -> None:
    closed = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"more"
        finally:
            closed.set()

    client = Client(leaves_after=5)
    await Streamed(pieces(), 200, "x/y", {})({}, client.receive, client.send)
    assert closed.is_set()
    assert len(client.sent) < 10


async def test_a_client_that_leaves_while_nothing_comes_closes_the_source() -> None:
    closed = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            closed.set()

    client = Client(leaves_after=2)
    async with asyncio.timeout(10):
        await Streamed(pieces(), 200, "x/y", {})({}, client.receive, client.send)
    assert closed.is_set()


async def test_a_source_that_breaks_off_leaves_the_body_open() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise Unreachable("the store is gone")

    client = Client()
    with pytest.raises(Unreachable):
        await Streamed(pieces(), 200, "x/y", {})({}, client.receive, client.send)
    assert client.body == b"half"
    assert client.sent[-1]["more_body"] is True
