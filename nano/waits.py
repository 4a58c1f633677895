"""Waiting for whichever comes first."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, Any], within_s: float | None = None) -> None:
    """Returns when one of `waits` does, or the time is up; the others are cancelled. They must not raise."""
    async with asyncio.TaskGroup() as jobs:
        waiting = [jobs.create_task(each) for each in waits]
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
