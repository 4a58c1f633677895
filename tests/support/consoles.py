"""A browser's part of a console: a websocket to the gateway of a test's zone, signed as documented."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.typing import Subprotocol

from nano.web.keys import Credential
from tests.support.rfb import RfbClient
from tests.support.zone import Zone

CONSOLES = "/api/v1/consoles/"
PROTOCOLS = (Subprotocol("binary"),)


async def running(z: Zone, name: str = "vm") -> str:
    """A guest that is on; gives its id."""
    guest = await z.guest(name)
    await z.data("POST", f"/instances/{guest}", {})
    return guest


async def ticket(
    z: Zone, guest: str, *, credential: Credential | None = None, session: str = "nanoctl"
) -> str:
    """Asked for as somebody; gives the ticket."""
    path, body = "/api/v1/console_tickets/", msgspec.json.encode({"guest": guest})
    headers = z.signature("POST", path, body, credential=credential, session=session)
    answer = (await z.client.post(path, content=body, headers=headers)).json()
    assert answer["error_code"] == 0, answer
    assert answer["data"]["timeout"] == 15
    return cast("str", answer["data"]["id"])


@asynccontextmanager
async def console(
    z: Zone,
    path: str,
    *,
    protocols: Sequence[Subprotocol] | None = PROTOCOLS,
    is_signed: bool = True,
    **signing: Any,
) -> AsyncIterator[ClientConnection]:
    """The websocket at a path. InvalidStatus when it is refused."""
    host = f"{z.client.base_url.host}:{z.client.base_url.port}"
    headers = z.signature("GET", path, headers={"host": host, **signing.pop("headers", {})}, **signing)
    del headers["host"]  # the library writes it itself
    async with connect(
        f"wss://{host}{path}",
        ssl=z.trust,
        additional_headers=headers if is_signed else {},
        subprotocols=protocols,
        compression=None,
        proxy=None,
        max_size=None,
    ) as socket:
        yield socket


async def refusal(z: Zone, path: str, **how: Any) -> Response:
    """The ordinary answer that refuses a websocket."""
    try:
        async with console(z, path, **how):
            raise AssertionError("the websocket was opened")
    except InvalidStatus as refused:
        return refused.response


async def refused_with(z: Zone, path: str, **how: Any) -> tuple[int, str]:
    """Number and text in the envelope of a refusal, which has the status 200 of old."""
    answer = await refusal(z, path, **how)
    assert answer.status_code == 200
    document = msgspec.json.decode(answer.body or b"")
    return document["error_code"], document["message"]


def rfb(socket: ClientConnection) -> RfbClient:
    """RFB over the websocket; what the gateway sends must be binary."""

    async def receive() -> bytes:
        message = await socket.recv()
        assert isinstance(message, bytes)
        return message

    return RfbClient(receive, socket.send)


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason of its close, when that has come."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code, socket.close_reason
