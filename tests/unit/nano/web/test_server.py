"""The socket that REST and websockets are spoken on."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nano.model.errors import Conflict
from nano.web import server as module
from nano.web.server import Server, bound, server


def test_a_port_that_somebody_has_is_refused_with_advice() -> None:
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}"):
            bound("127.0.0.1", port)


def test_the_protocol_is_named_so_that_answers_are_not_held_back() -> None:
    with bound("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_ipv6_is_spoken_where_it_is_asked_for() -> None:
    if not socket.has_ipv6:
        pytest.skip("this host has no IPv6")
    with bound("::1", 0) as listener:
        assert listener.family == socket.AF_INET6


# ------------------------------------------------------------------ clients that take their time


async def _plain(_scope: Any, _receive: Any, send: Any) -> None:
    await asyncio.sleep(0.4)  # longer than a client may take over a head
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


SERVERS: list[Server] = []
"""Those that were started, for a test that stops the last one."""


@contextlib.asynccontextmanager
async def _served(app: Any = _plain) -> AsyncIterator[int]:
    serving = server(cast("Any", app), None)
    SERVERS.append(serving)
    with bound("127.0.0.1", 0) as listener:
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(serving.serve([listener]))
            await serving.up.wait()
            yield listener.getsockname()[1]
            serving.stop()


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_closes_the_connection(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.2)
    async with _served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_bytes_that_trickle_win_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.3)
    async with _served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\n")
        while not reader.at_eof() and time.monotonic() - began < 5:
            with contextlib.suppress(ConnectionError):
                writer.write(b"X: y\r\n")
                await writer.drain()
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(reader.read(1), 0.05)
        assert time.monotonic() - began < 3
        writer.close()


async def test_a_slow_answer_and_a_second_request_are_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.2)
    async with _served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 204")
        writer.close()


class Pouring:
    """An answer without an end, and whether its client was given up."""

    def __init__(self) -> None:
        self.is_given_up = asyncio.Event()

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        async def pour() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
                # Once a connection is lost, uvicorn's `send` returns at once: nobody else would have a turn.
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as jobs:
            pouring = jobs.create_task(pour())
            while (await receive())["type"] != "http.disconnect":
                pass
            pouring.cancel()
        self.is_given_up.set()


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.2)
    pouring = Pouring()
    async with _served(pouring) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            await pouring.is_given_up.wait()
        writer.close()


async def test_a_client_that_takes_a_little_at_a_time_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.5)
    pouring = Pouring()
    async with _served(pouring) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            assert await reader.read(1 << 18)
        assert not pouring.is_given_up.is_set()
        writer.close()


# ------------------------------------------------------------------ websockets


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SECRET = "/a-path-that-is-a-secret"


class Echo:
    """Answers each message of a websocket by the same, and tells how each ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[int] = asyncio.Queue()
        self.kinds: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.kinds.append(scope["type"])
        if scope["type"] != "websocket":
            await _plain(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        self.ended.put_nowait(message["code"])


@contextlib.asynccontextmanager
async def _echoing() -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo()
    async with _served(echo) as port:
        yield echo, port


@contextlib.asynccontextmanager
async def _raw(port: int, begun: bytes) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    try:
        yield reader
    finally:
        writer.close()


async def test_a_websocket_outlives_the_time_for_heads_and_is_not_compressed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.05)
    caplog.set_level(logging.DEBUG)
    async with _echoing() as (echo, port), connect(f"ws://127.0.0.1:{port}{SECRET}", proxy=None) as socket:
        assert socket.protocol.extensions == []
        with contextlib.suppress(TimeoutError):  # longer than a head may take
            await asyncio.wait_for(socket.recv(), 0.2)
        await socket.send(b"still here")
        assert await socket.recv() == b"still here"
        await socket.close()
        assert await echo.ended.get() == 1000
    ours = [record for record in caplog.records if not record.name.startswith("websockets.client")]
    assert [record for record in ours if SECRET in record.getMessage()] == []


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\n" + UPGRADE])
async def test_the_head_of_an_upgrade_must_come_in_time(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.1)
    async with _echoing() as (echo, port), _raw(port, begun) as reader:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert echo.kinds == []


async def test_a_dead_client_is_noticed_although_it_has_not_taken_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PING_S", 0.05)
    monkeypatch.setattr(module, "PONG_S", 0.05)

    async def flood(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
        except OSError:
            ended.set()

    ended = asyncio.Event()
    async with _served(flood) as port:
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n"
        async with _raw(port, head):  # a client that never reads nor answers a ping
            await asyncio.wait_for(ended.wait(), 10)


async def test_a_message_that_is_too_long_closes_with_its_code() -> None:
    async with _echoing() as (echo, port), connect(f"ws://127.0.0.1:{port}/", proxy=None) as socket:
        await socket.send(bytes(module.MESSAGE_BYTES))
        assert len(await socket.recv()) == module.MESSAGE_BYTES
        await socket.send(bytes(module.MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1009
        assert await echo.ended.get() == 1009


async def test_only_a_get_is_upgraded() -> None:
    async with _echoing() as (echo, port):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + UPGRADE + b"\r\n"
        async with _raw(port, head) as reader:
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 204")
        assert echo.kinds == ["http"]


async def test_more_clients_than_there_is_room_for_get_no_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    async with _echoing() as (_, port), connect(f"ws://127.0.0.1:{port}/", proxy=None):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{port}/", proxy=None)
        assert refused.value.response.status_code == 503


@pytest.mark.parametrize(
    "head",
    [
        UPGRADE.replace(b"13", b"12"),
        UPGRADE.replace(b"dGhl", b"x"),
        UPGRADE + b"".join(b"X-%d: y\r\n" % number for number in range(200)),
    ],
    ids=["version", "key", "more headers than websockets reads"],
)
async def test_a_flawed_opening_is_answered_and_the_connection_closed(head: bytes) -> None:
    async with _echoing() as (echo, port):
        async with _raw(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n") as reader:
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 400"), answer
        assert echo.kinds == []


async def test_a_server_that_stops_closes_its_websockets_and_says_so() -> None:
    echo = Echo()
    async with _served(echo) as port, connect(f"ws://127.0.0.1:{port}/", proxy=None) as socket:
        await socket.send(b"x")
        await socket.recv()
        SERVERS[-1].stop()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
        assert await echo.ended.get() == 1012
