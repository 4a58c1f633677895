"""Three connections to libvirtd that come back by themselves, each with a bounded crew of threads.

Calls to libvirt block, so they run on threads. libvirtd works on five requests of a connection at a time:
five calls to hung guest agents would hold up everything behind them, hence a connection for slow work, one
for statistics and one for all else (hypervisor-facts.md, section 3).

Events come from libvirt's own loop, on one daemon thread for the whole process, and are handed to the event
loop. `libvirtaio` is not used: libvirt calls it from whichever thread makes a request, and it then touches
the event loop from there (docs/decisions/0009).
"""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, TypeVar

import libvirt
import structlog

from nano.model.errors import (
    Conflict,
    Internal,
    Invalid,
    NanoError,
    NotFound,
    StorageFull,
    TimedOut,
    Unreachable,
    Unsupported,
)
from services.cell.threads import on_crew

T = TypeVar("T")
Call = Callable[[Any], T]
"""Takes a `libvirt.virConnect` and may block."""

_KEEPALIVE_S = 5
_KEEPALIVE_MISSES = 3
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between attempts to reach libvirtd; the last one repeats."""

_log = structlog.get_logger()


class Lane:
    """One connection and the threads that may use it."""

    def __init__(self, name: str, workers: int) -> None:
        self._name = name
        self._crew = ThreadPoolExecutor(workers, thread_name_prefix=f"libvirt-{name}")
        self._connection: Any = None
        self._releases: list[Callable[[], object]] = []

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def open(self, uri: str, lost: Callable[[], None]) -> None:
        """Connects; `lost` is called, on the event loop, when the connection has broken."""
        loop = asyncio.get_running_loop()

        def connect() -> Any:
            connection = libvirt.open(uri)
            connection.registerCloseCallback(lambda *_: hand_over(loop, lost), None)
            connection.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_MISSES)
            return connection

        self._connection = await loop.run_in_executor(self._crew, connect)

    async def call(self, work: Call[T], doing: str, subject: str = "", *, leave: bool = False) -> T:
        """Runs `work` on a thread; `doing` and `subject` make its error say what failed, and to whom.

        A caller that is cancelled waits for the thread, unless it may `leave`: then the work changes nothing
        that somebody else would undo.
        """
        connection = self._connection
        if connection is None:
            raise Unreachable(
                f"{doing}: libvirt is not there now; it is called again all the time", subject=subject
            )
        try:
            if leave:
                return await asyncio.get_running_loop().run_in_executor(self._crew, work, connection)
            return await on_crew(self._crew, partial(work, connection))
        except libvirt.libvirtError as error:
            raise explained(error, doing, subject) from error

    async def subscribe(self, kind: int, callback: Callable[..., None]) -> None:
        """Have `callback` called, on libvirt's thread, with each domain event of that kind."""
        connection = self._connection
        number = await self.call(
            lambda connection: connection.domainEventRegisterAny(None, kind, callback, None),
            "subscribing to events",
        )
        self._releases.append(partial(connection.domainEventDeregisterAny, number))

    async def drop(self) -> None:
        """Closes what is left of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            releases, self._releases = self._releases, []
            await on_crew(self._crew, partial(_close, connection, releases))

    def dismiss(self) -> None:
        self._crew.shutdown(wait=False, cancel_futures=True)


class Link:
    """The three lanes to one libvirtd.

    `back` is called after each return of the daemon, and again `settle_s` later: a libvirtd that has just
    started looks for its machines in the background, and tells nobody of those that it finds dead.
    """

    def __init__(
        self, uri: str, back: Callable[[], None], *, start_patience_s: float, settle_s: float
    ) -> None:
        self.query = Lane("query", 4)
        self.watch = Lane("watch", 1)
        self.slow = Lane("slow", 4)
        self._uri = uri
        self._start_patience_s = start_patience_s
        self._settle_s = settle_s
        self._lost = asyncio.Event()
        self._back = back
        self._subscriptions: list[tuple[int, Callable[..., None]]] = []

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return (self.watch, self.query, self.slow)

    def on_event(self, kind: int, callback: Callable[..., None]) -> None:
        """From the next connection on: see `Lane.subscribe`."""
        self._subscriptions.append((kind, callback))

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Connected while entered. `Unreachable` when the daemon is not there within the start's patience."""
        _run_events()
        try:
            await self._connect_first()
            self._settle()
            async with asyncio.TaskGroup() as jobs:
                keeper = jobs.create_task(self._keep(), name="libvirt link")
                try:
                    yield
                finally:
                    keeper.cancel()
        finally:
            await self._drop()
            for lane in self.lanes:
                lane.dismiss()

    async def _connect_first(self) -> None:
        """Host and cell start together, and libvirtd may be the slower one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._start_patience_s):
                return await self._reconnect()
        return await self._connect()

    async def _connect(self) -> None:
        self._lost.clear()
        try:
            for lane in self.lanes:
                await lane.open(self._uri, self._lost.set)
            for kind, callback in self._subscriptions:
                await self.watch.subscribe(kind, callback)
        except (libvirt.libvirtError, NanoError) as error:
            await self._drop()
            raise Unreachable(f"libvirt at {self._uri} does not answer: {error}") from error

    async def _keep(self) -> None:
        while True:
            await self._lost.wait()
            _log.warning("libvirt.lost", uri=self._uri)
            await self._drop()
            await self._reconnect()
            _log.info("libvirt.back", uri=self._uri)
            self._back()
            self._settle()

    def _settle(self) -> None:
        asyncio.get_running_loop().call_later(self._settle_s, self._back)

    async def _reconnect(self) -> None:
        for wait_s in itertools.chain(_RETRY_S, itertools.repeat(_RETRY_S[-1])):
            with contextlib.suppress(Unreachable):
                await self._connect()
                return
            await asyncio.sleep(wait_s)

    async def _drop(self) -> None:
        for lane in self.lanes:
            await lane.drop()


def hand_over(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """From libvirt's event thread to the loop; a loop that is closed already needs no events."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)


def explained(error: libvirt.libvirtError, doing: str, subject: str) -> NanoError:
    """libvirt's error as a fact of ours, its own words kept."""
    message = f"{doing}: libvirt says: {error.get_error_message() or error}"
    if error.get_error_domain() == libvirt.VIR_FROM_RPC:
        return Unreachable(message, subject=subject)
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_INTERNAL_ERROR and "No space left" in message:
        return StorageFull(message, subject=subject)
    if code in _INVALID:
        return Invalid("devices", message, subject=subject)
    return _KINDS.get(code, Internal)(message, subject=subject)


_INVALID = frozenset({libvirt.VIR_ERR_XML_INVALID_SCHEMA, libvirt.VIR_ERR_XML_ERROR})
_KINDS: dict[int, type[NanoError]] = {
    libvirt.VIR_ERR_NO_DOMAIN: NotFound,
    libvirt.VIR_ERR_OPERATION_INVALID: Conflict,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: TimedOut,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: Unreachable,
    libvirt.VIR_ERR_AGENT_UNSYNCED: Unreachable,
    libvirt.VIR_ERR_RPC: Unreachable,
    libvirt.VIR_ERR_NO_CONNECT: Unreachable,
    libvirt.VIR_ERR_NO_SUPPORT: Unsupported,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: Unsupported,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: Unsupported,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: Unsupported,
}


@cache
def _run_events() -> threading.Thread:
    """libvirt's event loop, once for the process. Must run before the first connection is opened."""
    libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised; libvirt need not print them too
    libvirt.virEventRegisterDefaultImpl()
    thread = threading.Thread(target=_events_forever, name="libvirt-events", daemon=True)
    thread.start()
    return thread


def _events_forever() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _close(connection: Any, releases: Sequence[Callable[[], object]]) -> None:
    """Everything that holds it must be let go, else it lives on and goes on telling its events.

    A connection whose daemon has died complains at each of these; there is nothing left to undo then.
    """
    for release in (*releases, connection.unregisterCloseCallback, connection.close):
        with contextlib.suppress(libvirt.libvirtError):
            release()
