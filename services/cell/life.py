"""One life of a cell: the order in which its parts come up, and that they end together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog

from nano.model.errors import Exhausted
from nano.saga.callee import Callee
from nano.shelf import Shelf
from services.cell.bindings import Bindings
from services.cell.disks import Disks
from services.cell.host import Host
from services.cell.hypervisor import Hypervisor
from services.cell.observer import Observer
from services.cell.orders import Orders
from services.cell.statuses import HOST_RESTARTED

_log = structlog.get_logger()


@contextlib.asynccontextmanager
async def live(
    shelf: Shelf[Host],
    hypervisor: Hypervisor,
    disks: Disks,
    bindings: Bindings,
    *,
    boot: str,
    now_ms: Callable[[], int],
) -> AsyncIterator[Callee]:
    """Alive while entered, and taking steps by the callee that it gives. `boot` is the kernel's boot id.

    What was cut off is swept and the book is true before a step is taken or a report leaves; then the
    steps that were open are run again, or back, and after a restart of the host its instances are started.
    """
    await disks.sweep()
    observer = Observer(shelf, hypervisor, now_ms)
    orders = Orders(shelf, hypervisor, disks, bindings, observer)
    restarted = shelf.book.boot not in {"", boot}
    await orders.remove_strays(await observer.read_all(HOST_RESTARTED if restarted else ""))
    try:
        shelf.commit(*shelf.book.booted(boot))
    except Exhausted as error:  # a full disk must not keep the cell from serving what runs
        _log.error("cell.boot_not_kept", error=error.message)
    callee = Callee(shelf)
    orders.register(callee)
    async with asyncio.TaskGroup() as jobs:
        running = [
            jobs.create_task(callee.run(), name="steps"),
            jobs.create_task(observer.run(), name="observer"),
            jobs.create_task(bindings.tell_all(), name="responder"),
            jobs.create_task(orders.start_due(), name="auto-start"),
        ]
        try:
            yield callee
        finally:
            for job in running:
                job.cancel()
