"""`/monitor_channels/`: an instance's screen in the browser (REST document, section 8).

The browser's websocket is relayed to one of the gateway's, opened with a ticket of its own at that moment.
"""

import asyncio

import msgspec
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from nano.model.errors import Conflict, Forbidden, NanoError
from nano.web import envelope
from nano.web.envelope import Answer
from services.portal.access import Menu
from services.portal.call import Call, Portal, Route, menus
from services.portal.callers import shown_session
from services.portal.channels import Channel
from services.portal.routes.forwarded import seen_guest
from services.portal.upstream import Request
from services.portal.visible import sees

BINARY = "binary"
LOST = 1011
"""Something on the way was lost, with a reason (RFC 6455, section 7.4)."""
NORMAL = 1000
ENDED = 4401
"""Log in again."""
LOOK_S = 5.0
"""How often an open console looks whether its session may still have it."""
_PASSED_BACK = frozenset({NORMAL, LOST, 1001, 1012})
_MENUS = menus(Menu.INSTANCE)


class MonitorRequest(msgspec.Struct):
    guest: str


class MonitorToken(msgspec.Struct):
    id: str
    protocol: str = "vnc"
    username: str = ""
    password: str = ""
    """The screen asks for none: the session, and this channel, are what lets in."""


async def create(call: Call[MonitorRequest]) -> Answer:
    wanted = call.body.guest
    await seen_guest(call, wanted)
    guest = await call.portal.upstream.data(Request("GET", f"/guests/{wanted}", call.by.session.label))
    if not guest["running"]:
        raise Conflict(
            f"guest {guest['name']} does not run, so it has no screen: start it",
            field="guest",
            subject=wanted,
        )
    by = call.by
    channel = call.portal.channels.open(wanted, by.session, call.now_s, by_cookie=by.by_cookie)
    return envelope.success(MonitorToken(channel))


async def serve(portal: Portal, websocket: WebSocket) -> None:
    """Raises what is wrong before the upgrade; from then on the end says it."""
    channel = _taken(portal, websocket)
    label = channel.session.label
    ticket = await portal.upstream.data(
        Request("POST", "/console_tickets/", label, body=msgspec.json.encode({"guest": channel.instance}))
    )
    console = await portal.upstream.websocket(Request("GET", f"/consoles/{ticket['id']}", label))
    try:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(BINARY if BINARY in offered else None)
        code, reason = await _relayed(portal, channel, websocket, console)
    finally:
        await console.close()
    if websocket.client_state is WebSocketState.CONNECTED:
        await websocket.close(code, reason)


def _taken(portal: Portal, websocket: WebSocket) -> Channel:
    """The channel of the path, for a session that may still use it."""
    now_s = portal.monotonic_s()
    try:
        shown = shown_session(portal, websocket)
    except NanoError:
        portal.channels.take(websocket.path_params["id"], None, now_s)  # consumed by any attempt
        raise
    session = shown[0] if shown is not None else None
    channel = portal.channels.take(websocket.path_params["id"], session, now_s)
    portal.sessions.find(channel.session.id, now_s)
    if not _allowed(portal, channel):
        raise Forbidden("this instance is not yours to look at any more", subject=channel.instance)
    return channel


async def _relayed(
    portal: Portal, channel: Channel, websocket: WebSocket, console: ClientConnection
) -> tuple[int, str]:
    """Bytes both ways until one side, or the session, ends; how that was, for the browser."""
    session_over = asyncio.ensure_future(_while_allowed(portal, channel))
    ways = (
        session_over,
        asyncio.ensure_future(_to_console(websocket, console)),
        asyncio.ensure_future(_to_browser(websocket, console)),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if session_over.done():
            return ENDED, "the session has ended, or may not see this instance any more"
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    code, reason = console.close_code, console.close_reason or ""
    if code is None:
        return NORMAL, ""
    return (code, reason) if code in _PASSED_BACK else (LOST, reason or "the gateway was lost")


async def _while_allowed(portal: Portal, channel: Channel) -> None:
    """Returns when the session has ended, or its user may not see the instance any more."""

    def is_over() -> bool:
        is_open = portal.sessions.is_open(channel.session.id, portal.monotonic_s())
        return not (is_open and _allowed(portal, channel))

    while not await portal.feed.bell.until(is_over, LOOK_S):
        pass


def _allowed(portal: Portal, channel: Channel) -> bool:
    who = portal.directory.who(channel.session.user)
    return who is not None and bool(who.menu & _MENUS) and sees(who, portal.owners.of(channel.instance))


async def _to_console(websocket: WebSocket, console: ClientConnection) -> None:
    """Text frames are ignored, as documented."""
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes"):
                await console.send(message["bytes"])
    except (ConnectionClosed, WebSocketDisconnect):
        return


async def _to_browser(websocket: WebSocket, console: ClientConnection) -> None:
    try:
        async for piece in console:
            if isinstance(piece, bytes):
                await websocket.send_bytes(piece)
    except (ConnectionClosed, WebSocketDisconnect, RuntimeError):
        return


ROUTES = (
    Route(
        "POST",
        "/monitor_channels/",
        create,
        "Open a console",
        _MENUS,
        MonitorRequest,
        lambda call: f"open the console of instance {_name(call)}",
    ),
)


def _name(call: Call[MonitorRequest]) -> str:
    thing = call.portal.owners.of(call.body.guest)
    return thing.name if thing is not None and sees(call.who, thing) else call.body.guest[:64]
