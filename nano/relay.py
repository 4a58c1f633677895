"""Bytes carried both ways between two ends, until either is over.

A console is three of these in a row: browser and gateway, gateway and cell, cell and emulator. Each waits for
its own sink, so a reader that stands still stops the source, and nothing piles up between.
"""

import asyncio
from typing import Protocol


class End(Protocol):
    """One of the two. Whoever makes it also closes it; the relay does neither."""

    async def receive(self) -> bytes:
        """The next bytes; empty when there are no more. A `NanoError` when it broke."""

    async def send(self, data: bytes) -> bool:
        """Takes all of them, when there is room; False when it takes none any more."""


async def relay(left: End, right: End) -> End:
    """The end that was over first. What an end raises is raised as it is; the other way is cut off."""
    pumps: list[asyncio.Task[End]] = []
    try:
        async with asyncio.TaskGroup() as jobs:
            pumps = [jobs.create_task(_pump(left, right)), jobs.create_task(_pump(right, left))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return next(pump.result() for pump in pumps if not pump.cancelled())


async def _pump(source: End, sink: End) -> End:
    while data := await source.receive():
        if not await sink.send(data):
            return sink
    return source
