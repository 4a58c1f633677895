"""`/console_tickets/` and `/consoles/`: a guest's screen, keyboard and pointer, by a websocket.

The bytes of RFB (RFC 6143) in binary messages, both ways; texts mean nothing. A ticket says which guest: it
is good once, for 15 s, for the credential and the `Nano-Session` that asked for it. The socket is closed with
1000 when the guest's screen has ended, with 1011 and a reason when its cell is lost.
"""

import msgspec
import structlog
from fastapi import Response

from nano import signature
from nano.model.errors import Conflict, Exhausted, Internal, NanoError, NotFound, Unreachable, Unsupported
from nano.model.ids import InstanceId
from nano.model.instance import Instance, Power
from nano.model.pool import Presence
from nano.model.template import RemoteControl
from nano.relay import End, relay
from nano.web import envelope, websocket
from nano.web.envelope import Answer
from nano.web.websocket import Browser, Socket
from services.gateway.call import Call, Gateway, Route
from services.gateway.cursor import Book
from services.gateway.tickets import LIFE_S, Holder
from services.gateway.view import View

CONSOLES = 256
"""Open at once: each may hold some 700 KiB for a browser or a guest that does not read."""
PROTOCOL = "binary"

_log = structlog.get_logger("nano.gateway")


class Wanted(msgspec.Struct):
    guest: str = ""


class Ticket(msgspec.Struct):
    id: str
    timeout: int
    """Seconds for which it is good."""


async def issue(call: Call[Wanted]) -> Answer:
    gateway = call.gateway
    instance = watchable(call.body.guest, call.view)
    ticket = gateway.tickets.issue(instance.id, _holder(call), gateway.monotonic_s())
    return envelope.success(Ticket(ticket, int(LIFE_S)), headers={"Cache-Control": "no-store"})


def watchable(guest: str, view: View) -> Instance:
    """The instance, when there is anything to look at."""
    instance = view.instances.get(InstanceId(guest))
    if instance is None:
        raise NotFound(f"there is no guest {guest!r:.80}", field="guest", subject=guest[:80])
    cell = view.cells.get(instance.cell)
    if cell is None or cell.presence is not Presence.ONLINE:
        raise Unreachable(
            f"guest {guest} is on cell {instance.cell}, which is not reached now: try again later",
            subject=instance.cell,
            retry_after_s=5.0,
        )
    status = view.statuses.get(instance.id)
    if status is None or status.power is Power.STOPPED:
        raise Conflict(f"guest {guest} is off and shows nothing: start it", field="guest", subject=guest)
    if instance.spec.devices.control is not RemoteControl.VNC:
        raise Unsupported(
            f"the display of guest {guest} speaks {instance.spec.devices.control}, which is not carried: "
            "choose a template with vnc",
            field="guest",
            subject=guest,
        )
    return instance


async def look(call: Call[None]) -> Response:
    """Refuses as any route does, until the cell has opened the display; then there is a websocket."""
    gateway, socket = call.gateway, websocket.of(call.request)
    if socket is None:
        raise Internal("a console was asked for without a websocket")
    guest = gateway.tickets.redeem(call.params["ticket"], _holder(call), gateway.monotonic_s())
    instance = watchable(guest, call.view)
    if gateway.consoles >= CONSOLES:
        raise Exhausted(f"{CONSOLES} consoles are open here: close one, or try later", retry_after_s=5.0)
    gateway.consoles += 1
    try:
        code, reason = await _shown(gateway, instance, socket)
    finally:
        gateway.consoles -= 1
    await socket.close(code, reason)
    return websocket.Over()


async def _shown(gateway: Gateway, instance: Instance, socket: Socket) -> tuple[int, str]:
    """Carries the display until either side has enough; how to close the socket then.

    The display is closed when this returns, however slow the browser is to say good-bye.
    """
    try:
        async with gateway.services.displays.open(instance.cell, instance.id) as display:
            await socket.accept(PROTOCOL)
            _log.info("console.opened", instance=instance.id)
            return await _carried(socket, display)
    except NanoError as error:
        if not socket.is_accepted:
            raise
        return websocket.BROKEN, error.message
    finally:
        if socket.is_accepted:
            _log.info("console.closed", instance=instance.id)


async def _carried(socket: Socket, display: End) -> tuple[int, str]:
    ended = await relay(Browser(socket), display)
    return websocket.NORMAL, "the guest's screen has ended" if ended is display else ""


def _holder(call: Call[object]) -> Holder:
    credential = call.credential.id if call.credential is not None else ""
    return Holder(credential, call.request.headers.get(signature.SESSION, ""))


ROUTES = (
    Route(
        "POST",
        "/console_tickets/",
        issue,
        "Ask for a ticket to the screen of a running guest",
        Wanted,
        Ticket,
        (Book.SCHEDULER,),
    ),
    Route(
        "GET",
        "/consoles/{ticket}",
        look,
        "The screen, keyboard and pointer of a guest, as RFB in a websocket",
        reads=(Book.SCHEDULER,),
        statuses={101: "binary messages both ways until either side closes"},
        is_websocket=True,
    ),
)
