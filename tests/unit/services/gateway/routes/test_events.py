"""The event stream: what is told, where it resumes, and when it says to read again."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from services.gateway.cursor import Book
from services.gateway.view import Change
from tests.support.zone import Zone, zone


class Events:
    """A consumer: reads `(id, event, data)` one by one."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, str, Any]:
        found: dict[str, str] = {}
        async for line in self._lines:
            if not line and "event" in found:
                return found.get("id", ""), found["event"], json.loads(found["data"])
            name, _, value = line.partition(": ")
            if name:
                found[name] = value
        raise AssertionError("the stream has ended")

    async def until(self, kind: str, key: str = "") -> tuple[str, str, Any]:
        while True:
            event = await self.next()
            if event[1] == kind and key in {"", event[2].get("id")}:
                return event


async def opened(z: Zone, last: str = "") -> Events:
    headers = {"last-event-id": last} if last else {}
    request = z.signed("GET", "/api/v1/events/", headers=headers)
    return Events(await z.client.send(request, stream=True))


async def test_a_stream_opens_with_hello_and_tells_what_changes(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        events = await opened(z)
        assert events.answer.headers["content-type"].startswith("text/event-stream")
        cursor, kind, data = await events.next()
        assert (kind, data) == ("hello", {"cursor": cursor})
        guest = await z.guest()
        _, _, told = await events.until("instance", guest)
        assert (told["kind"], told["gone"]) == ("instance", False)
        assert told["document"]["spec"]["name"] == "vm"
        await z.data("DELETE", f"/guests/{guest}", {})
        while not told["gone"]:
            _, _, told = await events.until("instance", guest)
        assert told == {"kind": "instance", "id": guest, "gone": True, "document": None}
        await events.answer.aclose()


async def test_a_stream_resumes_behind_the_last_event(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        first = await opened(z)
        await first.next()
        await z.data("POST", "/compute_pools/a")
        cursor, _, _ = await first.until("pool", "a")
        await first.answer.aclose()
        await z.data("POST", "/compute_pools/b")
        await z.data("POST", "/compute_pools/c")
        again = await opened(z, cursor)
        hello = await again.next()
        assert (hello[0], hello[1]) == ("", "hello")
        assert [(await again.next())[2]["id"] for _ in range(2)] == ["b", "c"]
        await again.answer.aclose()


async def test_a_cursor_of_another_life_is_told_to_read_again(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        stream = await opened(z)
        cursor, _, _ = await stream.next()
        await stream.answer.aclose()
        z.feeds[Book.ADDRESSPOOL].cancel()
        z.gateway.view.apply(Book.ADDRESSPOOL, Change("another", 1, whole=True))
        again = await opened(z, cursor)
        await again.next()
        assert (await again.next())[1] == "reread"
        await again.answer.aclose()


async def test_a_reader_hears_that_a_book_began_anew(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        stream = await opened(z)
        await stream.next()
        z.feeds[Book.ADDRESSPOOL].cancel()
        z.gateway.view.apply(Book.ADDRESSPOOL, Change("another", 1, whole=True))
        z.gateway.bell.ring()
        assert (await stream.next())[2]["id"] == "addresspool"
        await stream.answer.aclose()


async def test_what_is_no_cursor_is_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.ask("GET", "/events/", headers={"last-event-id": "nonsense"})
        assert "Last-Event-ID" in answer.json()["message"]


async def test_a_reader_that_goes_away_is_forgotten(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        stream = await opened(z)
        await stream.next()
        assert z.gateway.readers == 1
        await stream.answer.aclose()

        async def gone() -> AsyncIterator[None]:
            while z.gateway.readers:
                await z.data("GET", "/compute_pools/")
                yield

        async for _ in gone():
            pass
        assert z.gateway.readers == 0
