"""The socket that REST is spoken on."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from nano.model.errors import Conflict
from nano.web import server as module
from nano.web.server import bound, server


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


@contextlib.asynccontextmanager
async def _served() -> AsyncIterator[int]:
    serving = server(cast("Any", _plain), None)
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
