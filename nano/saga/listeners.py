"""Outcomes on their way to those who listen; nobody who is slow holds up the one who acts."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from nano.model.action import Outcome, Progress

QUEUE_LIMIT = 4096
"""Outcomes that may wait for one listener. Beyond that its stream ends, and it asks for what is open."""


class Listener(AsyncIterator[Outcome]):
    """One stream, from the moment it was made."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[Outcome] = deque()
        self._news = asyncio.Event()
        self.ended = False

    def put(self, outcome: Outcome) -> None:
        """Mere progress is left out when the reader is behind: the next one says more."""
        if outcome.progress is Progress.BEGUN and len(self._queue) > self._limit // 2:
            return
        if len(self._queue) >= self._limit:
            self.end()
            return
        self._queue.append(outcome)
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self._news.set()

    async def __anext__(self) -> Outcome:
        while not self._queue:
            if self.ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._queue.popleft()


class Listeners:
    def __init__(self, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._queue_limit = queue_limit
        self._all: list[Listener] = []

    def listen(self) -> Listener:
        listener = Listener(self._queue_limit)
        self._all.append(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Its reader is gone."""
        listener.end()
        if listener in self._all:
            self._all.remove(listener)

    def put(self, outcome: Outcome) -> None:
        for listener in self._all:
            listener.put(outcome)
        self._all = [listener for listener in self._all if not listener.ended]

    def end(self) -> None:
        for listener in self._all:
            listener.end()
        self._all.clear()
