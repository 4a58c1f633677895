"""A fabric with an event loop of its own, in a thread: it goes on while the test's own loop is held up."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from nano.fabric.fabric import Fabric

T = TypeVar("T")


class Elsewhere:
    """Runs coroutines in the other loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fabric: Fabric) -> None:
        self._loop = loop
        self.fabric = fabric

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stall(self, for_s: float) -> None:
        """Hold the other loop up; returns at once."""
        self._loop.call_soon_threadsafe(time.sleep, for_s)


@contextlib.asynccontextmanager
async def elsewhere(
    join: Callable[[], AbstractAsyncContextManager[Fabric]], prepare: Callable[[Fabric], None]
) -> AsyncIterator[Elsewhere]:
    """What `join` makes, made ready by `prepare`, in another thread for the time of the context."""
    here: Future[Elsewhere] = Future()
    ending: Future[asyncio.Event] = Future()

    async def live() -> None:
        end = asyncio.Event()
        async with join() as fabric:
            prepare(fabric)
            ending.set_result(end)
            here.set_result(Elsewhere(asyncio.get_running_loop(), fabric))
            await end.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if not here.done():
                here.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="elsewhere")
    thread.start()
    try:
        other = await asyncio.wrap_future(here)
        try:
            yield other
        finally:
            other._loop.call_soon_threadsafe(ending.result().set)
    finally:
        await asyncio.to_thread(thread.join)
