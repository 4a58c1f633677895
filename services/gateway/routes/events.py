"""`/events/`: what changes, as it changes, as server-sent events (WHATWG HTML, section 9.2).

    id: <cursor>
    event: instance
    data: {"kind": "instance", "id": "...", "gone": false, "document": {...}}

The stream opens with `hello`, which carries the cursor of now. `Last-Event-ID` goes on behind a cursor; when
that is not possible any more, or a reader falls too far behind, the event `reread` says so.
"""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.responses import Response

from nano import codec
from nano.model.errors import Exhausted
from nano.web.streamed import Streamed
from services.gateway import cursor
from services.gateway.call import Call, Gateway, Route
from services.gateway.cursor import Book
from services.gateway.ring import REREAD, Event, Reader

MEDIA_TYPE = "text/event-stream"
ALIVE_S = 15.0
"""How often a stream without news says that it lives."""
BATCH = 256
"""Events that are written before the reader must have taken them."""
READERS = 512
"""Streams that may be open at once."""


class Told(msgspec.Struct):
    """The data of an event."""

    kind: str
    id: str
    gone: bool
    document: Any
    """The noun as it is now; null when it is gone."""


async def follow(call: Call[None]) -> Response:
    gateway = call.gateway
    last = call.request.headers.get("last-event-id", "")
    since = cursor.read(last, "Last-Event-ID") if last else None
    if gateway.readers >= READERS:
        raise Exhausted(f"{READERS} event streams are open here: close one, or try later", retry_after_s=5.0)
    hello = _hello(gateway, is_new=since is None)
    reader = Reader(gateway.view.ring, since)
    return Streamed(_stream(gateway, reader, hello), 200, MEDIA_TYPE, {"Cache-Control": "no-store"})


async def _stream(gateway: Gateway, reader: Reader, hello: bytes) -> AsyncGenerator[bytes, None]:
    gateway.readers += 1
    try:
        yield hello
        while not gateway.is_stopping:
            events = reader.take(BATCH, gateway.view.cursor)
            if events:
                yield b"".join(map(written, events))
            elif not await gateway.bell.until(lambda: _has_news(gateway, reader), ALIVE_S):
                yield b":\n\n"
    finally:
        gateway.readers -= 1


def _has_news(gateway: Gateway, reader: Reader) -> bool:
    return gateway.is_stopping or reader.has_news


def _hello(gateway: Gateway, *, is_new: bool) -> bytes:
    """Whoever resumes gets no id with it, and so skips nothing that is still to come."""
    now = cursor.written(gateway.view.cursor)
    mark = f"id: {now}\n" if is_new else ""
    data = codec.encode({"cursor": now})
    return f"retry: 1000\n{mark}event: hello\ndata: ".encode() + data + b"\n\n"


def written(event: Event) -> bytes:
    told = Told(event.kind, event.id, event.document is None and event.kind != REREAD, event.document)
    lines = (f"id: {cursor.written(event.cursor)}", f"event: {event.kind}", "data: ")
    return "\n".join(lines).encode() + codec.encode(told) + b"\n\n"


ROUTES = (
    Route(
        "GET",
        "/events/",
        follow,
        "Follow every change of the zone",
        answer=Told,
        reads=tuple(Book),
        media_type=MEDIA_TYPE,
        statuses={200: "events until either side closes"},
    ),
)
