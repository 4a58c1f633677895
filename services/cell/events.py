"""A driver's events, handed to everybody who listens."""

import asyncio
import weakref
from typing import Self

from services.cell.hypervisor import Event, Resync

BACKLOG = 1_024
"""Events that one consumer may fall behind before it is told to read everything again."""


class Subscription:
    """What one consumer hears, from its making on; an iterator that may be waited for in parts."""

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def put(self, event: Event | None) -> None:
        if event is not None and self._queue.qsize() >= self._backlog:
            while not self._queue.empty():
                self._queue.get_nowait()
            event = Resync()
        self._queue.put_nowait(event)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)  # for whoever asks again
            raise StopAsyncIteration
        return event


class Events:
    """Hands each event to every consumer; one that is too slow is told to read everything again."""

    def __init__(self, backlog: int = BACKLOG) -> None:
        self._backlog = backlog
        self._consumers: weakref.WeakSet[Subscription] = weakref.WeakSet()
        """Whom nobody holds any more hears nothing any more."""

    def publish(self, event: Event) -> None:
        for consumer in self._consumers:
            consumer.put(event)

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.put(None)

    def subscribe(self) -> Subscription:
        """Listens from this call on, not from the first `anext`: nothing between them is missed."""
        consumer = Subscription(self._backlog)
        self._consumers.add(consumer)
        return consumer
