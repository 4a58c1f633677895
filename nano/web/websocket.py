"""Websockets as our doors see them: a GET that asks for more, found, believed and refused as any other.

`as_request` lets an application that speaks HTTP answer the opening of a websocket: until the socket is
accepted, whatever it answers goes back as an ordinary answer, by the extension `websocket.http.response` of
ASGI. The handler of a route that is a websocket finds the socket by `of` and accepts it.
"""

from typing import Any, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

NORMAL = 1000
BROKEN = 1011
"""Codes of a close (RFC 6455, section 7.4.1)."""

_REASON_BYTES = 123
"""The longest reason that fits into a control frame."""
_OURS = "nano.websocket"


class Socket:
    """One websocket, from its opening on."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.protocols: tuple[str, ...] = tuple(scope.get("subprotocols", ()))
        """What the client offers to speak."""
        self.is_accepted = False
        self._receive = receive
        self._send = send
        self._is_over = False
        self._was_asked = False

    async def accept(self, *protocols: str) -> None:
        """Open it, with the first of `protocols` that was offered. ClientDisconnect when nobody is there."""
        chosen = next((one for one in protocols if one in self.protocols), None)
        try:
            await self._send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
        except OSError:
            self._is_over = True
            raise ClientDisconnect from None
        self.is_accepted = True

    async def receive(self) -> bytes | str | None:
        """The next message, binary or text; None when the client has closed, or is gone."""
        while not self._is_over:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._is_over = True
            elif message["type"] == "websocket.receive":
                data = message.get("bytes")
                return cast("bytes | str", message["text"] if data is None else data)
        return None

    async def send(self, data: bytes | str) -> bool:
        """Send one message, when there is room; False when nobody takes it any more."""
        kind = "bytes" if isinstance(data, bytes) else "text"
        return await self._said({"type": "websocket.send", kind: data})

    async def close(self, code: int, reason: str = "") -> None:
        """Close an accepted socket, unless the client was first."""
        short = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        await self._said({"type": "websocket.close", "code": code, "reason": short})
        self._is_over = True

    async def _said(self, message: Message) -> bool:
        if self._is_over:
            return False
        try:
            await self._send(message)
        except OSError:  # as ASGI has it for whoever is gone
            self._is_over = True
        return not self._is_over

    # ------------------------------------------------------------------ before it is accepted

    async def request(self) -> Message:
        """What an application of HTTP receives: a request without a body, then the client's going."""
        if not self._was_asked:
            self._was_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while await self.receive() is not None:
            pass
        return {"type": "http.disconnect"}

    async def answer(self, message: Message) -> None:
        """What an application of HTTP sends. Behind the acceptance an answer can only be a close."""
        if not self.is_accepted:
            await self._said({**message, "type": "websocket." + message["type"]})
        elif message["type"] == "http.response.start":
            await self.close(BROKEN, "this is a defect of ours: see the log of this service")


class Browser:
    """The client as an end of `nano.relay`: binary messages are its bytes, texts mean nothing."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        while (message := await self._socket.receive()) is not None:
            if message and isinstance(message, bytes):
                return message
        return b""

    async def send(self, data: bytes) -> bool:
        return await self._socket.send(data)


class Over(Response):
    """What a handler answers whose websocket has been opened and closed: there is no more to say."""

    async def __call__(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        return


def as_request(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """The opening of a websocket for an application that speaks HTTP."""
    socket = Socket(scope, receive, send)
    request: dict[str, Any] = {**scope, "type": "http", "method": "GET", "extensions": {}, _OURS: socket}
    return request, socket.request, socket.answer


def of(request: Request) -> Socket | None:
    """The websocket that a request opens, if it does."""
    return cast("Socket | None", request.scope.get(_OURS))
