"""`/monitor_channels/`: an instance's screen in the browser (REST document, section 8).

The browser's websocket is relayed to one of the gateway's, opened with a ticket of its own at that moment.
"""

import asyncio

import msgspec
from fastapi import Response
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from nano.model.errors import Conflict, Forbidden, Internal, NanoError, Untrusted
from nano.relay import relay
from nano.web import envelope, websocket
from nano.web.envelope import Answer
from nano.web.websocket import Browser, Socket
from services.portal.access import Menu
from services.portal.call import Call, Portal, Route, menus
from services.portal.callers import shown_session
from services.portal.channels import Channel
from services.portal.routes.forwarded import named, seen_guest
from services.portal.routes.live import ENDED, LOOK_S
from services.portal.upstream import Request
from services.portal.visible import sees

PROTOCOL = "binary"
_PASSED_BACK = frozenset({websocket.NORMAL, websocket.BROKEN, 1001, 1012})
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


async def look(call: Call[None]) -> Response:
    """Refuses as any route does until the gateway has opened the screen; then there is a websocket."""
    portal, socket = call.portal, websocket.of(call.request)
    if socket is None:
        raise Internal("a console was asked for without a websocket")
    channel = _taken(call)
    with portal.consoles.held(channel.session.user):
        code, reason = await _shown(portal, channel, socket)
    await socket.close(code, reason)
    return websocket.Over()


async def _shown(portal: Portal, channel: Channel, socket: Socket) -> tuple[int, str]:
    """Opens the gateway's screen and relays it; how to close the socket then."""
    label = channel.session.label
    ticket = await portal.upstream.data(
        Request("POST", "/console_tickets/", label, body=msgspec.json.encode({"guest": channel.instance}))
    )
    console = await portal.upstream.websocket(Request("GET", f"/consoles/{ticket['id']}", label))
    try:
        await socket.accept(PROTOCOL)
        return await _relayed(portal, channel, socket, _Console(console))
    finally:
        await console.close()


class _Console:
    """The gateway's websocket as an end of `nano.relay`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes:
        try:
            while not isinstance(piece := await self._connection.recv(), bytes):
                pass
        except ConnectionClosed:
            return b""
        return piece

    async def send(self, data: bytes) -> bool:
        try:
            await self._connection.send(data)
        except ConnectionClosed:
            return False
        return True

    @property
    def ended(self) -> tuple[int, str]:
        """How the gateway closed it, for the browser."""
        code, reason = self._connection.close_code, self._connection.close_reason or ""
        if code in _PASSED_BACK:
            return int(code or 0), reason
        return websocket.BROKEN, reason or "the gateway was lost"


def _taken(call: Call[None]) -> Channel:
    """The channel of the path, for a session that may still use it. Any attempt consumes it."""
    portal, now_s = call.portal, call.now_s
    try:
        shown = shown_session(portal, call.request)
    except NanoError:
        portal.channels.take(call.params["id"], None, now_s)
        raise
    session = shown[0] if shown is not None else None
    channel = portal.channels.take(call.params["id"], session, now_s)
    if not portal.sessions.is_open(channel.session.key, now_s):
        raise Untrusted("this session has ended: log in again", field="Nano-Session")
    if not _allowed(portal, channel):
        raise Forbidden("this instance is not yours to look at any more", subject=channel.instance)
    return channel


async def _relayed(portal: Portal, channel: Channel, socket: Socket, console: _Console) -> tuple[int, str]:
    """Bytes both ways until one side, or the session, ends; how that was, for the browser."""
    carrying = asyncio.ensure_future(relay(Browser(socket), console))
    watching = asyncio.ensure_future(_while_allowed(portal, channel))
    try:
        await asyncio.wait((carrying, watching), return_when=asyncio.FIRST_COMPLETED)
        if not carrying.done():
            return ENDED, "the session has ended, or may not see this instance any more"
        return console.ended if carrying.result() is console else (websocket.NORMAL, "")
    finally:
        for each in (carrying, watching):
            each.cancel()
        await asyncio.gather(carrying, watching, return_exceptions=True)


async def _while_allowed(portal: Portal, channel: Channel) -> None:
    """Returns when the session has ended, or its user may not see the instance any more."""

    while not await portal.feed.bell.until(lambda: not _allowed(portal, channel), LOOK_S):
        pass


def _allowed(portal: Portal, channel: Channel) -> bool:
    who = portal.who_of(channel.session)
    return who is not None and bool(who.menu & _MENUS) and sees(who, portal.owners.of(channel.instance))


ROUTES = (
    Route(
        "POST",
        "/monitor_channels/",
        create,
        "Open a console",
        _MENUS,
        MonitorRequest,
        lambda call: f"open the console of instance {named(call, call.body.guest[:64])}",
    ),
    Route(
        "GET",
        "/monitor_channels/{id}",
        look,
        "Look at a console: RFB in a websocket; the channel lets in, as documented",
        is_open=True,
        is_websocket=True,
    ),
)
