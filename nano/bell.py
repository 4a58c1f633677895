"""Waiting for the view: rung whenever it has changed, heard by whoever waits for something to be so."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Bell:
    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def heard(self) -> None:
        """Returns at the next ring."""
        await self._next.wait()

    async def until(self, condition: Callable[[], T], timeout_s: float) -> T:
        """What `condition` gives once that is true, or gave last when the time was up."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := condition()):
                    await self.heard()
        except TimeoutError:
            return condition()
        return found
