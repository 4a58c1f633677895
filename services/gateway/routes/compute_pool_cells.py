"""`/compute_pool_cells/`: which cell is in which pool, and whether it takes new instances."""

from collections.abc import Iterable, Sequence

import msgspec

from nano.contracts.nano import v1
from nano.model.ids import CellId
from nano.model.instance import InstanceSpec
from nano.model.pool import Cell, Presence, VirtType
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book
from services.gateway.view import View


class CellInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A cell as it is answered; the last members are ours."""

    name: str
    address: str
    enabled: bool
    alive: bool
    confirmed: bool
    """It has given its full account since either side's start; before that it takes no instance."""
    simulated: bool = False
    """It only pretends to run instances."""
    state: str
    """`online`, `lost`, `left` or `removed`."""
    seen_ms: int
    """When its account came last; of one that is not there: since when nothing was heard of it."""
    instances: int
    cores: int
    """Of its host; 0: it has not told yet."""
    memory: int
    """Of its host, in bytes."""
    instance_cores: int
    """Of all its instances together, whether they run or not."""
    instance_memory: int


class Enabling(msgspec.Struct):
    enable: bool = False


def shown(cells: Iterable[Cell], view: View) -> list[CellInfo]:
    """With what their instances take, which is counted once for all of them."""
    held: dict[CellId, list[InstanceSpec]] = {cell.id: [] for cell in cells}
    for instance in view.instances.values():
        if instance.cell in held:
            held[instance.cell].append(instance.spec)
    return [_shown(view.cells[cell], specs) for cell, specs in held.items()]


def _shown(cell: Cell, specs: Sequence[InstanceSpec]) -> CellInfo:
    can = cell.capabilities
    return CellInfo(
        name=cell.id,
        address=host_of(cell),
        enabled=cell.enabled,
        alive=cell.presence is Presence.ONLINE,
        confirmed=cell.confirmed,
        simulated=can is not None and can.virt_type is VirtType.SIMULATED,
        state=cell.presence,
        seen_ms=cell.seen_ms,
        instances=len(specs),
        cores=can.cores if can else 0,
        memory=can.memory_bytes if can else 0,
        instance_cores=sum(spec.cores for spec in specs),
        instance_memory=sum(spec.memory_bytes for spec in specs),
    )


def host_of(cell: Cell) -> str:
    """The address of its host without a port."""
    return cell.address.rpartition(":")[0] if cell.address.count(":") == 1 else cell.address


async def query_free(call: Call[None]) -> Answer:
    return envelope.success(shown(call.view.cells_of(None), call.view))


async def query(call: Call[None]) -> Answer:
    pool = call.view.pool(call.params["pool"])
    return envelope.success(shown(call.view.cells_of(pool.name), call.view))


async def read(call: Call[None]) -> Answer:
    found = call.view.cell_in(call.params["pool"], call.params["cell"])
    return envelope.success(shown([found], call.view)[0])


def _named(call: Call[object]) -> v1.CellRequest:
    return v1.CellRequest(pool=call.params["pool"], cell=call.params["cell"])


async def add(call: Call[None]) -> Answer:
    reply = await call.services.scheduler.add_cell(_named(call), timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


async def remove(call: Call[None]) -> Answer:
    reply = await call.services.scheduler.remove_cell(_named(call), timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


async def enable(call: Call[Enabling]) -> Answer:
    message = v1.EnableCellRequest(
        pool=call.params["pool"], cell=call.params["cell"], enabled=call.body.enable
    )
    reply = await call.services.scheduler.enable_cell(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


_READS = (Book.SCHEDULER,)
_ONE = "/compute_pool_cells/{pool}/{cell}"

ROUTES = (
    Route(
        "GET",
        "/compute_pool_cells/",
        query_free,
        "List cells that belong to no pool",
        answer=list[CellInfo],
        reads=_READS,
    ),
    Route(
        "GET",
        "/compute_pool_cells/{pool}",
        query,
        "List the cells of a pool, by name",
        answer=list[CellInfo],
        reads=_READS,
    ),
    Route("GET", _ONE, read, "Read a cell", answer=CellInfo, reads=_READS),
    Route("POST", _ONE, add, "Put a cell that is in no pool into one"),
    Route("DELETE", _ONE, remove, "Take a cell without instances out of its pool"),
    Route("PUT", _ONE, enable, "Enable or disable a cell for new instances", body=Enabling),
)
