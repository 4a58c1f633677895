"""`/compute_pools/`: the pools of cells, as documented."""

import msgspec

from nano import wire
from nano.contracts.nano import v1
from nano.model.errors import Exists, Invalid, NotFound, Unsupported
from nano.model.ids import AddressPoolName, PoolName
from nano.model.pool import Pool
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book
from services.gateway.view import View


class ComputePool(msgspec.Struct):
    """A pool as it is answered."""

    name: str
    enabled: bool
    cells: int
    network: str
    """The address pool; empty: addresses come from the physical network."""
    storage: str
    """The storage pool; empty: local disks."""
    failover: bool


class ComputePoolConfig(msgspec.Struct):
    """Full replacement: a member left out is reset to its default."""

    storage: str = ""
    network: str = ""
    failover: bool = False


def shown(pool: Pool, view: View) -> ComputePool:
    return ComputePool(
        pool.name, pool.enabled, len(view.cells_of(pool.name)), pool.address_pool or "", "", failover=False
    )


async def query(call: Call[None]) -> Answer:
    pools = sorted(call.view.pools.values(), key=lambda pool: pool.name)
    return envelope.success([shown(pool, call.view) for pool in pools])


async def read(call: Call[None]) -> Answer:
    return envelope.success(shown(call.view.pool(call.params["pool"]), call.view))


async def create(call: Call[ComputePoolConfig]) -> Answer:
    name = PoolName(call.params["pool"])
    if name in call.view.pools:
        raise Exists(f"there is a compute pool {name!r} already", field="pool", subject=name)
    return await _put(call, Pool(name))


async def modify(call: Call[ComputePoolConfig]) -> Answer:
    return await _put(call, call.view.pool(call.params["pool"]))


async def _put(call: Call[ComputePoolConfig], pool: Pool) -> Answer:
    if call.body.storage:
        raise Unsupported("storage pools are not built yet: leave storage empty", field="storage")
    if call.body.failover:
        raise Invalid("failover", "failover needs a storage pool that the cells share")
    network = AddressPoolName(call.body.network) if call.body.network else None
    if network is not None and network not in call.view.address_pools:
        raise NotFound(f"there is no address pool {network!r:.200}", field="network", subject=network)
    wanted = Pool(pool.name, pool.enabled, network, pool.policy)
    reply = await call.services.scheduler.put_pool(wire.outgoing(wanted), timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


async def delete(call: Call[None]) -> Answer:
    message = v1.PoolRef(name=call.params["pool"])
    reply = await call.services.scheduler.delete_pool(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.SCHEDULER, reply.revision)


_READS = (Book.SCHEDULER,)
_WRITES = (Book.SCHEDULER, Book.ADDRESSPOOL)
"""A pool may name an address pool that there is."""
_ONE = "/compute_pools/{pool}"

ROUTES = (
    Route(
        "GET",
        "/compute_pools/",
        query,
        "List every compute pool of the zone, by name",
        answer=list[ComputePool],
        reads=_READS,
    ),
    Route("GET", _ONE, read, "Read the configuration of one compute pool", answer=ComputePool, reads=_READS),
    Route(
        "POST",
        _ONE,
        create,
        "Create a compute pool",
        body=ComputePoolConfig,
        reads=_WRITES,
        may_be_empty=True,
    ),
    Route(
        "PUT",
        _ONE,
        modify,
        "Replace the configuration of a compute pool",
        body=ComputePoolConfig,
        reads=_WRITES,
    ),
    Route("DELETE", _ONE, delete, "Delete a compute pool that has no cells"),
)
