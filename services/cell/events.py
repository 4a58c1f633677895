"""A driver's events, handed to everybody who listens."""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.cell.hypervisor import Event, Resync

BACKLOG = 1_024
"""Events that one consumer may fall behind before it is told to read everything again."""


class Events:
    """Hands each event to every consumer; one that is too slow is told to read everything again."""

    def __init__(self, backlog: int = BACKLOG) -> None:
        self._backlog = backlog
        self._consumers: set[asyncio.Queue[Event | None]] = set()

    def publish(self, event: Event) -> None:
        for consumer in self._consumers:
            behind = consumer.qsize() >= self._backlog
            if behind:
                _drain(consumer)
            consumer.put_nowait(Resync() if behind else event)

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.put_nowait(None)

    def subscribe(self) -> AsyncIterator[Event]:
        """Listens from this call on, not from the first `anext`: nothing between them is missed."""
        consumer: asyncio.Queue[Event | None] = asyncio.Queue()
        self._consumers.add(consumer)
        return _follow(consumer, lambda: self._consumers.discard(consumer))


async def _follow(
    consumer: asyncio.Queue[Event | None], unsubscribe: Callable[[], None]
) -> AsyncIterator[Event]:
    try:
        while (event := await consumer.get()) is not None:
            yield event
    finally:
        unsubscribe()


def _drain(consumer: asyncio.Queue[Event | None]) -> None:
    while not consumer.empty():
        consumer.get_nowait()
