"""A websocket is a request until it is accepted, and then bytes and texts both ways."""

import asyncio
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from nano.web import websocket
from nano.web.websocket import Browser, Over, Socket, as_request, of


class Server:
    """What uvicorn is to an application: messages in, messages out, an OSError once the client is gone."""

    def __init__(self, *coming: Message, **scope: Any) -> None:
        self.scope: Scope = {
            "type": "websocket",
            "path": "/consoles/x",
            "raw_path": b"/consoles/x",
            "query_string": b"",
            "headers": [],
            "subprotocols": [],
            **scope,
        }
        self._coming = asyncio.Queue[Message]()
        for message in ({"type": "websocket.connect"}, *coming):
            self._coming.put_nowait(message)
        self.said: list[Message] = []
        self.is_gone = False

    async def receive(self) -> Message:
        return await self._coming.get()

    async def send(self, message: Message) -> None:
        if self.is_gone:
            raise OSError
        self.said.append(message)

    @property
    def parts(self) -> tuple[Scope, Receive, Send]:
        return self.scope, self.receive, self.send


def received(data: bytes | str) -> Message:
    """As ASGI allows it: the other member may be there and null, or not be there."""
    if isinstance(data, bytes):
        return {"type": "websocket.receive", "bytes": data, "text": None}
    return {"type": "websocket.receive", "text": data}


CLOSED: Message = {"type": "websocket.disconnect", "code": 1000}


async def test_an_application_of_http_sees_a_get_and_its_answer_is_an_ordinary_one() -> None:
    server = Server(CLOSED)
    scope, receive, send = as_request(*server.parts)
    request = Request(scope, receive)
    assert (request.method, request.url.path, await request.body()) == ("GET", "/consoles/x", b"")
    assert of(request) is not None
    await PlainTextResponse("no", 404)(scope, receive, send)
    start, body = server.said
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    assert (body["type"], body["body"]) == ("websocket.http.response.body", b"no")
    assert (await receive())["type"] == "http.disconnect"


async def test_a_request_that_is_none_has_no_socket() -> None:
    assert of(Request({"type": "http", "headers": []})) is None


async def test_messages_come_as_they_were_sent_until_the_client_closes() -> None:
    server = Server(received(b"bytes"), received("text"), received(b""), CLOSED)
    socket = Socket(*server.parts)
    await socket.accept()
    assert [await socket.receive() for _ in range(4)] == [b"bytes", "text", b"", None]
    assert await socket.receive() is None
    assert not await socket.send(b"too late")
    await socket.close(1000)
    assert [message["type"] for message in server.said] == ["websocket.accept"]


async def test_what_is_sent_is_binary_or_text() -> None:
    server = Server()
    socket = Socket(*server.parts)
    await socket.accept()
    assert await socket.send(b"bytes")
    assert await socket.send("text")
    assert server.said[1:] == [
        {"type": "websocket.send", "bytes": b"bytes"},
        {"type": "websocket.send", "text": "text"},
    ]
    server.is_gone = True
    assert not await socket.send(b"more")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [((), None), (("binary",), "binary"), (("x", "y"), None), (("x", "binary"), "binary")],
)
async def test_a_protocol_is_chosen_only_when_it_was_offered(offered: tuple[str, ...], chosen: str) -> None:
    server = Server(subprotocols=list(offered))
    socket = Socket(*server.parts)
    await socket.accept("binary")
    assert server.said[0]["subprotocol"] == chosen


async def test_a_client_that_went_before_it_was_let_in_is_told_of() -> None:
    server = Server()
    server.is_gone = True
    socket = Socket(*server.parts)
    with pytest.raises(ClientDisconnect):
        await socket.accept()
    assert not socket.is_accepted


async def test_a_reason_fits_into_its_frame() -> None:
    server = Server()
    socket = Socket(*server.parts)
    await socket.accept()
    await socket.close(websocket.BROKEN, "\u00e4" * 100)
    assert server.said[-1] == {"type": "websocket.close", "code": 1011, "reason": "\u00e4" * 61}


async def test_an_answer_behind_the_acceptance_is_a_close() -> None:
    server = Server()
    scope, receive, send = as_request(*server.parts)
    socket = of(Request(scope))
    assert socket is not None
    await socket.accept()
    await PlainTextResponse("a failure", 500)(scope, receive, send)
    assert [message["type"] for message in server.said] == ["websocket.accept", "websocket.close"]
    assert server.said[-1]["code"] == 1011
    assert not await socket.send(b"x")


async def test_nothing_is_said_of_what_is_over() -> None:
    server = Server()
    await Over()(*as_request(*server.parts))
    assert server.said == []


async def test_a_browser_is_its_binary_messages() -> None:
    server = Server(received("text"), received(b""), received(b"bytes"), CLOSED)
    socket = Socket(*server.parts)
    await socket.accept()
    browser = Browser(socket)
    assert [await browser.receive(), await browser.receive()] == [b"bytes", b""]
    assert not await browser.send(b"x")
