"""Waiting for the view: rung whenever it has changed, heard by whoever waits for something to be so."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Bell:
    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def heard(self) -> Coroutine[Any, Any, object]:
        """Returns at the next ring, counted from this call and not from when it is awaited."""
        return self._next.wait()

    async def until(self, condition: Callable[[], T], timeout_s: float) -> T:
        """What `condition` gives once that is true, or gave last when the time was up."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := condition()):
                    await self.heard()
        except TimeoutError:
            return condition()
        return found
