"""uvicorn in our own event loop: it takes a socket that is bound already and no signals.

HTTP/1.1 and websockets. What is refused before a websocket is opened is answered as any request is.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from nano.ports import cannot_bind

BACKLOG = 512
CONNECTIONS = 2000
"""How many clients may be connected; one more is answered 503 at once."""
HEAD_S = 20.0
"""How long a client may take over the head of a request, from its connection or its first byte on."""
MESSAGE_BYTES = 256 * 1024
"""The longest message of a websocket that is taken; a client that sends more is closed with 1009."""
PING_S = 20.0
"""How often the client of a websocket is asked whether it lives."""
PONG_S = 20.0
"""How long it may take to answer; then it is cut off."""
CLOSE_S = 5.0
"""How long it may take to answer a close."""
STALL_S = 60.0
"""How long a client may take nothing of an answer that waits for it; then it is cut off."""
_TICK_S = 1.0  # the `Date` of answers
GRACE_S = 5
"""How long answers that are under way may take when the gateway stops."""


class Impatient(H11Protocol):
    """Closes a connection whose client takes too long over the head of a request, or takes nothing of an
    answer: uvicorn waits for ever."""

    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_S, transport.abort)  # close would wait for TLS

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_upgraded:
            return  # a websocket's own protocol hears the rest
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy:
            self._forget()
        elif self._late is None:  # the next request has begun
            self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def on_response_complete(self) -> None:
        self._forget()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._moves()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        self._moves()
        super().resume_writing()

    def _look_again(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(STALL_S, self._look, waiting)

    def _look(self, waiting: int) -> None:
        """`waiting` bytes were waiting a while ago: some must be gone since."""
        if self.transport.get_write_buffer_size() < waiting:
            self._look_again()
        else:
            self.transport.abort()

    def _moves(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _should_upgrade(self) -> bool:
        """Only a GET, and while there is room: all else is an ordinary request (RFC 9110, section 7.8)."""
        has_room = len(self.connections) < CONNECTIONS
        return self.scope["method"] == "GET" and has_room and super()._should_upgrade()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._forget()
        self._is_upgraded = True
        super().handle_websocket_upgrade(event)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


_QUIET = logging.getLogger("nano.web.websocket")
_QUIET.setLevel(logging.WARNING)
"""uvicorn and websockets write each path into their logs, and the path of a console is its ticket."""


class Websocket(WebSocketsSansIOProtocol):
    """Keeps paths out of logs, and does not wait for what a dead client has not taken."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = self.conn.logger = _QUIET
        self.conn.debug = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # `websockets` found a flaw in the head, and waits for ever
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()  # close would wait until the client has taken what waits for it

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # a refusal is an answer too; uvicorn would call it a defect
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(CLOSE_S, self.transport.abort)


class Server(uvicorn.Server):
    """Says when it is up, stops when it is told to, leaves signals to the service."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """uvicorn's own looks ten times a second whether it should stop."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stop.wait()


def bound(address: str, port: int) -> socket.socket:
    """A listening socket; Conflict when somebody has the port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named: 40 ms for each answer
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise cannot_bind("TCP", address, port, error, settings="listen and port") from error
    listener.setblocking(False)
    return listener


def server(app: ASGIApp, tls: ssl.SSLContext | None) -> Server:
    """HTTP/1.1 and websockets, without access log, lifespan and compression."""
    config = uvicorn.Config(
        app,
        http=Impatient,
        ws=Websocket,
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=CONNECTIONS,
    )
    config.load()
    config.ssl = tls
    return Server(config)
