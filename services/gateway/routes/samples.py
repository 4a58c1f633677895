"""`/samples/`: what the zone and some of its guests use, as it is measured, as server-sent events.

    event: sample
    data: {"subject": "zone", "document": {...}}

A document is what the routes of old answer: that of `/compute_zone_status/` for `zone`, that of
`/instances/{id}` for an instance. There are no ids, since nothing of the past is told: whoever connects hears
the newest at once. Nothing is told of a subject more often than every two seconds, or without a newer sample.
"""

from collections.abc import AsyncGenerator, Hashable
from typing import Any

import msgspec
from starlette.responses import Response

from nano import codec
from nano.model.errors import Exhausted, Invalid
from nano.model.ids import InstanceId
from nano.web.streamed import Streamed
from services.gateway.call import Call, Gateway, Route
from services.gateway.cursor import Book
from services.gateway.pace import Pace
from services.gateway.routes import events
from services.gateway.routes.instances import runtime
from services.gateway.routes.usage import zone_status
from services.gateway.view import View

ZONE = "zone"
SUBJECTS = 64
"""In one stream: as many as a page shows."""
INTERVAL_S = 2.0
"""Cells measure as often."""
ALIVE_S = 15.0
"""How often a stream without news says that it lives."""


class Sample(msgspec.Struct):
    """The data of an event."""

    subject: str
    document: Any
    """A ZoneStatus or a Runtime."""


async def follow(call: Call[None]) -> Response:
    gateway = call.gateway
    subjects = list(dict.fromkeys(call.query.texts("subject")))
    if not subjects:
        raise Invalid(
            "subject", f"subject is missing: give {ZONE} or the id of an instance, once or more often"
        )
    if len(subjects) > SUBJECTS:
        raise Invalid("subject", f"{len(subjects)} subjects are more than {SUBJECTS}: open several streams")
    for subject in subjects:
        if subject != ZONE:
            gateway.view.instance(subject)
    if gateway.readers >= events.READERS:
        raise Exhausted(f"{events.READERS} streams are open here: close one, or try later", retry_after_s=5.0)
    pace = Pace(subjects, lambda subject: _mark(subject, gateway.view), INTERVAL_S)
    return Streamed(_stream(gateway, pace), 200, events.MEDIA_TYPE, {"Cache-Control": "no-store"})


async def _stream(gateway: Gateway, pace: Pace) -> AsyncGenerator[bytes, None]:
    gateway.readers += 1
    try:
        yield b"retry: 1000\n\n"
        while not gateway.is_stopping:
            due = pace.take(gateway.monotonic_s())
            if due:
                yield b"".join(_written(subject, gateway) for subject in due)
            elif not await _news(gateway, pace):
                yield b":\n\n"
    finally:
        gateway.readers -= 1


async def _news(gateway: Gateway, pace: Pace) -> bool:
    """Waits until something may be told; False when there was nothing for so long that a word is due."""

    def wait_s() -> float | None:
        return 0.0 if gateway.is_stopping else pace.wait_s(gateway.monotonic_s())

    first_s = wait_s()
    if first_s is None:
        return await gateway.sampled.until(lambda: wait_s() is not None, ALIVE_S)
    await gateway.sampled.until(lambda: wait_s() == 0.0, first_s)
    return True


def _mark(subject: str, view: View) -> Hashable | None:
    if subject == ZONE:
        return view.samples
    if subject not in view.instances:
        return None  # deleted since: there is no more to tell
    usage, status = view.usage(subject), view.statuses.get(InstanceId(subject))
    return (usage and usage.at_ms, status and status.power)


def _written(subject: str, gateway: Gateway) -> bytes:
    document = zone_status(gateway) if subject == ZONE else runtime(subject, gateway.view)
    return b"event: sample\ndata: " + codec.encode(Sample(subject, document)) + b"\n\n"


ROUTES = (
    Route(
        "GET",
        "/samples/",
        follow,
        "Follow what the zone and some guests use",
        answer=Sample,
        reads=(Book.SCHEDULER,),
        query={"subject": "`zone`, or the id of an instance; may be repeated"},
        media_type=events.MEDIA_TYPE,
        statuses={200: "events until either side closes"},
    ),
)
