"""Blocking work on threads that no cancellation overtakes."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What `work` returns. A cancelled caller goes on only when the thread has ended.

    A thread cannot be stopped: were the caller let go at once, what undoes the work would run beside it.
    """
    return await on_crew(None, partial(work, *arguments, **named))


async def on_crew(crew: Executor | None, work: Callable[[], T]) -> T:
    """As `in_thread`, on threads of one's own."""
    job = asyncio.get_running_loop().run_in_executor(crew, work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait([job])
        if not job.cancelled():
            job.exception()  # read, so that nobody is told of an error that the cancellation has overtaken
        raise
