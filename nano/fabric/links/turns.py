"""Few at once, the newest first: how a process that has hundreds of peers to dial dials them.

All at once, their handshakes would share the processor until the first has waited longer than it is patient.
The newest comes first since somebody certainly waits for it. Whoever is not done soon waits for its peer and
not for our processor: it gives its turn on, so that peers that are gone do not hold up those that are there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """`limit` turns at a time; each is given on after `turn_s` seconds, finished or not."""

    def __init__(self, limit: int, turn_s: float) -> None:
        self._free = limit
        self._turn_s = turn_s
        self._waiting: list[asyncio.Future[None]] = []

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a turn, and has it for the context, or for as long as turns are."""
        await self._take()
        over = asyncio.Event()

        def give() -> None:
            if not over.is_set():
                over.set()
                self._give()

        timer = asyncio.get_running_loop().call_later(self._turn_s, give)
        try:
            yield
        finally:
            timer.cancel()
            give()

    async def _take(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled():
                self._give()  # it was given a turn and does not take it
            raise

    def _give(self) -> None:
        while self._waiting:
            waiter = self._waiting.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
