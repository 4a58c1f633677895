"""A bounded number of jobs, by the key of the step that each works on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from nano.model.ids import TaskId

Key: TypeAlias = tuple[TaskId, str]
"""Task and name of the step."""


class Jobs:
    """Runs `work(key)` for each key that was added; never two at once for the same key."""

    def __init__(self, work: Callable[[Key], Awaitable[None]], *, at_once: int) -> None:
        self._work = work
        self._at_once = at_once
        self._queue: dict[Key, None] = {}
        self._later: set[Key] = set()
        """Added while they ran: they come again when they have ended."""
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def add(self, key: Key) -> None:
        if key in self._running:
            self._later.add(key)
        else:
            self._queue[key] = None
        self._wake.set()

    def add_first(self, keys: Iterable[Key]) -> None:
        """Before all that waits."""
        self._queue = {**dict.fromkeys(keys), **self._queue}
        self._wake.set()

    def stop(self, key: Key) -> None:
        """Take it out of the row, or cancel it; what is added afterwards runs when that one has ended."""
        self._queue.pop(key, None)
        self._later.discard(key)
        if (job := self._running.get(key)) is not None:
            job.cancel()

    async def run(self) -> None:
        """Until cancelled, and the jobs with it."""
        async with asyncio.TaskGroup() as group:
            while True:
                while self._queue and len(self._running) < self._at_once:
                    key = next(iter(self._queue))
                    del self._queue[key]
                    self._running[key] = group.create_task(self._one(key), name=f"saga.job.{key[1]}")
                self._wake.clear()
                await self._wake.wait()

    async def _one(self, key: Key) -> None:
        try:
            await self._work(key)
        finally:
            del self._running[key]
            if key in self._later:
                self._later.discard(key)
                self._queue[key] = None
            self._wake.set()
