"""`/compute_pool_cells/`: which cell is in which pool, and whether it takes new instances."""

import msgspec

from nano.contracts.nano import v1
from nano.model.pool import Cell, Presence, VirtType
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book


class CellInfo(msgspec.Struct, omit_defaults=True):
    """A cell as it is answered; the last members are ours."""

    name: str
    address: str
    enabled: bool
    alive: bool
    confirmed: bool
    """It has given its full account since either side's start; before that it takes no instance."""
    simulated: bool = False
    """It only pretends to run instances."""


class Enabling(msgspec.Struct):
    enable: bool = False


def shown(cell: Cell) -> CellInfo:
    can = cell.capabilities
    return CellInfo(
        cell.id,
        host_of(cell),
        cell.enabled,
        cell.presence is Presence.ONLINE,
        cell.confirmed,
        simulated=can is not None and can.virt_type is VirtType.SIMULATED,
    )


def host_of(cell: Cell) -> str:
    """The address of its host without a port."""
    return cell.address.rpartition(":")[0] if cell.address.count(":") == 1 else cell.address


async def query_free(call: Call[None]) -> Answer:
    return envelope.success([shown(cell) for cell in call.view.cells_of(None)])


async def query(call: Call[None]) -> Answer:
    pool = call.view.pool(call.params["pool"])
    return envelope.success([shown(cell) for cell in call.view.cells_of(pool.name)])


async def read(call: Call[None]) -> Answer:
    return envelope.success(shown(call.view.cell_in(call.params["pool"], call.params["cell"])))


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
