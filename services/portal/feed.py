"""Follows the gateway: one stream of events for all browsers, and the owners of what there is."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from nano.bell import Bell
from nano.model.errors import NanoError
from nano.web.events import Event
from services.portal.ring import REREAD, Ring
from services.portal.upstream import Request, Upstream
from services.portal.visible import Owners, Thing, guest_thing, image_thing

RETRY_S = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Waits between attempts; the last one repeats."""
_PAGE = 1000

_log = structlog.get_logger("nano.portal")


class Feed:
    """What the gateway has told, and whether it can be heard now."""

    def __init__(self, upstream: Upstream, owners: Owners, monotonic_s: Callable[[], float]) -> None:
        self._upstream = upstream
        self._monotonic_s = monotonic_s
        self.owners = owners
        self.ring = Ring()
        self.bell = Bell()
        """Rings when there is news for browsers."""
        self.is_heard = False

    async def run(self) -> None:
        """Follows for ever; after each end it goes on behind the last event that it had."""
        attempt = 0
        while True:
            began_s = self._monotonic_s()
            try:
                await self._follow()
            except NanoError as error:
                if self.is_heard:
                    _log.warning("gateway.lost", code=error.code, error=error.message)
            if self.is_heard:
                attempt = 0
                self._heard(is_heard=False)
            wait_s = RETRY_S[min(attempt, len(RETRY_S) - 1)]
            attempt += 1
            await asyncio.sleep(max(0.0, wait_s - (self._monotonic_s() - began_s)))

    async def _follow(self) -> None:
        async for event in self._upstream.events(self.ring.cursor):
            match event.kind:
                case "hello":
                    await self._greeted(event)
                case "reread":
                    await self._read_all()
                    self._publish(event)
                case _:
                    self.owners.apply(event.kind, event.id, None if event.gone else event.document)
                    self._publish(event)

    async def _greeted(self, hello: Event) -> None:
        """The stream stands. A new one starts here: everybody must read again what may have changed."""
        if not self.ring.cursor:
            await self._read_all()
            self.ring.stands_at(hello.cursor)
            self._publish(Event(hello.cursor, REREAD, "", gone=False, document={}))
        self._heard(is_heard=True)

    async def _read_all(self) -> None:
        things: dict[str, Thing] = {}
        for guest in await self._guests():
            things[guest["id"]] = guest_thing(guest)
        for kind in ("disk", "media"):
            for image in await self._upstream.images(kind):
                things[image["id"]] = image_thing(kind, image)
        self.owners.start_over(things)

    async def _guests(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            body = b'{"all": true, "limit": %d, "offset": %d}' % (_PAGE, len(found))
            page = await self._upstream.data(Request("POST", "/search/guests/", body=body))
            found += page["result"] or []
            if len(found) >= page["total"]:
                return found

    def _publish(self, event: Event) -> None:
        self.ring.publish(event)
        self.bell.ring()

    def _heard(self, *, is_heard: bool) -> None:
        self.is_heard = is_heard
        self.bell.ring()
