"""The stream of samples: the same documents as of old, as they are measured, and not too often."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from nano.model.pool import Usage
from services.gateway.routes import events, samples
from tests.support.consoles import running
from tests.support.zone import CELL, Zone, zone


@dataclass
class Stream:
    """Reads what is told, line by line."""

    answer: httpx.Response
    lines: AsyncIterator[str]

    async def next(self) -> tuple[str, Any]:
        """Subject and document of the next sample."""
        kind = ""
        async for line in self.lines:
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                assert kind == "sample"
                data = json.loads(value)
                return data["subject"], data["document"]
            else:
                assert name in {"", "retry", ":"}, line
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def followed(z: Zone, *subjects: str) -> AsyncIterator[Stream]:
    query = "&".join(f"subject={subject}" for subject in subjects)
    answer = await z.client.send(z.signed("GET", f"/api/v1/samples/?{query}"), stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream"), await answer.aread()
    assert answer.headers["cache-control"] == "no-store"
    try:
        yield Stream(answer, answer.aiter_lines())
    finally:
        await answer.aclose()


class Clock:
    """The gateway's own time, which stands until a test moves it."""

    def __init__(self, z: Zone) -> None:
        self.now_s = 1000.0
        z.gateway.monotonic_s = lambda: self.now_s

    def later(self, z: Zone, seconds: float) -> None:
        self.now_s += seconds
        z.gateway.sampled.ring()


def measured(z: Zone, subject: str, at_ms: int, percent: float) -> None:
    usage = Usage(subject, at_ms, percent, 2**28, 2**30, 0, 2**40, 0, 0, 0, 0)
    z.gateway.view.sample([usage])
    z.gateway.sampled.ring()


async def test_the_first_comes_at_once_and_is_what_the_routes_of_old_answer(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        guest = await running(z)
        measured(z, guest, 1, 12.5)
        async with followed(z, "zone", guest, "zone") as stream:
            told = dict([await stream.next(), await stream.next()])
        assert told == {
            "zone": await z.data("GET", "/compute_zone_status/"),
            guest: await z.data("GET", f"/instances/{guest}"),
        }
        assert told[guest]["cpu_usage"] == 12.5


async def test_what_is_measured_is_told_and_not_too_often(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        clock = Clock(z)
        guest = await running(z)
        async with followed(z, guest) as stream:
            assert (await stream.next())[1]["cpu_usage"] == 0
            measured(z, guest, 1, 10)
            measured(z, CELL, 1, 99)  # of no interest here
            measured(z, guest, 2, 20)
            clock.later(z, samples.INTERVAL_S)
            subject, document = await stream.next()
            assert (subject, document["cpu_usage"]) == (guest, 20)
            clock.later(z, samples.INTERVAL_S)  # without anything new
            measured(z, guest, 3, 30)
            assert (await stream.next())[1]["cpu_usage"] == 30


async def test_a_guest_that_goes_off_is_told_with_the_next_sample_of_anybody(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        clock = Clock(z)
        guest = await running(z)
        async with followed(z, guest) as stream:
            assert (await stream.next())[1]["running"] is True
            await z.data("DELETE", f"/instances/{guest}", {"force": True})
            clock.later(z, samples.INTERVAL_S)
            measured(z, CELL, 1, 5)
            assert (await stream.next())[1]["running"] is False


async def test_a_quiet_stream_says_that_it_lives_and_ends_with_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "ALIVE_S", 0.01)
    async with zone(tmp_path) as z, followed(z, "zone") as stream:
        await stream.next()
        async for line in stream.lines:
            if line == ":":
                break
        z.stop()
        async for line in stream.lines:
            assert line in {"", ":"}
        assert z.gateway.readers == 0


async def test_what_cannot_be_followed_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with zone(tmp_path) as z:
        assert await z.error("GET", "/samples/") == (
            400,
            "subject is missing: give zone or the id of an instance, once or more often",
        )
        number, text = await z.error("GET", "/samples/?subject=zone&subject=nobody")
        assert (number, "'nobody'" in text) == (404, True)
        many = "&".join(f"subject=s{number}" for number in range(samples.SUBJECTS + 1))
        assert (await z.error("GET", f"/samples/?{many}"))[0] == 400
        monkeypatch.setattr(events, "READERS", 0)
        assert (await z.error("GET", "/samples/?subject=zone"))[0] == 429
