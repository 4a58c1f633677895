"""`/compute_zone_status/` and its like: what the zone, its pools and its cells have and use.

Sums of the newest samples; what nobody has measured yet counts as nothing used of nothing there.
"""

from collections.abc import Iterable

import msgspec

from nano.model.ids import CellId
from nano.model.instance import Instance, Power
from nano.model.pool import Cell, Presence
from nano.web import envelope
from nano.web.envelope import Answer, local_time
from services.gateway.call import Call, Gateway, Route
from services.gateway.cursor import Book
from services.gateway.routes.compute_pool_cells import host_of
from services.gateway.view import View

ZONE = "default"


class Load(msgspec.Struct, kw_only=True):
    """What some cells have and use; speeds in bytes a second."""

    instances: list[int]
    """Stopped, running, lost, migrating."""
    cpu_usage: float
    max_cpu: int
    available_memory: int
    max_memory: int
    available_disk: int
    max_disk: int
    read_speed: int
    write_speed: int
    receive_speed: int
    send_speed: int


class ZoneStatus(Load, kw_only=True):
    name: str
    pools: list[int]
    """Disabled, enabled."""
    cells: list[int]
    """Offline, online."""
    start_time: str


class PoolStatus(Load, kw_only=True):
    name: str
    enabled: bool
    cells: list[int]


class CellStatus(Load, kw_only=True):
    name: str
    address: str
    enabled: bool
    alive: bool


def load_of(cells: Iterable[Cell], instances: Iterable[Instance], view: View, *, whole: bool) -> Load:
    """Their sum; the processors' share is weighted by cores, and cut to a whole number in lists."""
    members = list(cells)
    seen = [usage for cell in members if (usage := view.usage(cell.id)) is not None and _is_alive(cell)]
    rates = [view.rates(cell.id) for cell in members if _is_alive(cell)]
    cores = {cell.id: cell.capabilities.cores for cell in members if cell.capabilities is not None}
    measured = sum(cores.get(CellId(usage.subject), 0) for usage in seen)
    busy = sum(usage.cpu_percent * cores.get(CellId(usage.subject), 0) for usage in seen)
    percent = busy / measured if measured else 0.0
    return Load(
        instances=counts(instances, view),
        cpu_usage=float(int(percent)) if whole else round(percent, 2),
        max_cpu=sum(cores.values()),
        available_memory=sum(max(0, usage.memory_total_bytes - usage.memory_used_bytes) for usage in seen),
        max_memory=sum(usage.memory_total_bytes for usage in seen),
        available_disk=sum(max(0, usage.disk_total_bytes - usage.disk_used_bytes) for usage in seen),
        max_disk=sum(usage.disk_total_bytes for usage in seen),
        read_speed=sum(rate.read_bytes_s for rate in rates),
        write_speed=sum(rate.written_bytes_s for rate in rates),
        receive_speed=sum(rate.received_bytes_s for rate in rates),
        send_speed=sum(rate.sent_bytes_s for rate in rates),
    )


def counts(instances: Iterable[Instance], view: View) -> list[int]:
    """Stopped, running, lost, migrating; nothing migrates yet."""
    stopped = running = lost = 0
    for instance in instances:
        cell = view.cells.get(instance.cell)
        status = view.statuses.get(instance.id)
        if cell is None or not _is_alive(cell):
            lost += 1
        elif status is not None and status.power is Power.RUNNING:
            running += 1
        else:
            stopped += 1
    return [stopped, running, lost, 0]


def _is_alive(cell: Cell) -> bool:
    return cell.presence is Presence.ONLINE


def _split(flags: Iterable[bool]) -> list[int]:
    """How many are not so, and how many are."""
    known = list(flags)
    return [known.count(False), known.count(True)]


def zone_status(gateway: Gateway) -> ZoneStatus:
    view = gateway.view
    cells = [cell for cell in view.cells.values() if cell.pool is not None]
    load = load_of(cells, view.instances.values(), view, whole=False)
    return ZoneStatus(
        name=ZONE,
        pools=_split(pool.enabled for pool in view.pools.values()),
        cells=_split(_is_alive(cell) for cell in cells),
        start_time=local_time(gateway.started_ms),
        **msgspec.structs.asdict(load),
    )


async def zone(call: Call[None]) -> Answer:
    return envelope.success(zone_status(call.gateway))


def _pool_status(name: str, view: View, *, whole: bool) -> PoolStatus:
    pool = view.pool(name)
    cells = view.cells_of(pool.name)
    instances = (one for one in view.instances.values() if one.spec.pool == pool.name)
    load = load_of(cells, instances, view, whole=whole)
    return PoolStatus(
        name=pool.name,
        enabled=pool.enabled,
        cells=_split(_is_alive(cell) for cell in cells),
        **msgspec.structs.asdict(load),
    )


async def pools(call: Call[None]) -> Answer:
    return envelope.success([_pool_status(name, call.view, whole=True) for name in sorted(call.view.pools)])


async def pool(call: Call[None]) -> Answer:
    return envelope.success(_pool_status(call.params["pool"], call.view, whole=False))


def _cell_status(cell: Cell, view: View, *, whole: bool) -> CellStatus:
    instances = (one for one in view.instances.values() if one.cell == cell.id)
    load = load_of([cell], instances, view, whole=whole)
    return CellStatus(
        name=cell.id,
        address=host_of(cell),
        enabled=cell.enabled,
        alive=_is_alive(cell),
        **msgspec.structs.asdict(load),
    )


async def cells(call: Call[None]) -> Answer:
    members = call.view.cells_of(call.view.pool(call.params["pool"]).name)
    return envelope.success([_cell_status(cell, call.view, whole=True) for cell in members])


async def cell(call: Call[None]) -> Answer:
    found = call.view.cell_in(call.params["pool"], call.params["cell"])
    return envelope.success(_cell_status(found, call.view, whole=False))


_READS = (Book.SCHEDULER,)

ROUTES = (
    Route("GET", "/compute_zone_status/", zone, "Usage of the whole zone", answer=ZoneStatus, reads=_READS),
    Route(
        "GET",
        "/compute_pool_status/",
        pools,
        "Usage of every compute pool",
        answer=list[PoolStatus],
        reads=_READS,
    ),
    Route(
        "GET",
        "/compute_pool_status/{pool}",
        pool,
        "Usage of one compute pool",
        answer=PoolStatus,
        reads=_READS,
    ),
    Route(
        "GET",
        "/compute_cell_status/{pool}",
        cells,
        "Usage of every cell of a pool",
        answer=list[CellStatus],
        reads=_READS,
    ),
    Route(
        "GET",
        "/compute_cell_status/{pool}/{cell}",
        cell,
        "Usage of one cell",
        answer=CellStatus,
        reads=_READS,
    ),
)
