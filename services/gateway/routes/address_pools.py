"""`/address_pools/`: the addresses that instances get, their ranges, and who holds which."""

from collections.abc import Iterable
from ipaddress import IPv4Address

import msgspec

from nano import wire
from nano.contracts.nano import v1
from nano.model.address import AddressPool, Lease, Provider, Range
from nano.model.errors import Conflict, Invalid, NotFound, Unsupported
from nano.model.ids import AddressPoolName
from nano.web import envelope
from nano.web.envelope import Answer
from services.gateway import writes
from services.gateway.call import Call, Route
from services.gateway.cursor import Book
from services.gateway.view import View

MODES = ("", "internal", "external", "both")


class AllocatedAddress(msgspec.Struct):
    address: str
    instance: str


class RangeItem(msgspec.Struct):
    start: str
    end: str
    netmask: str


class AddressRange(msgspec.Struct):
    start: str
    end: str
    netmask: str
    capacity: int


class RangeStatus(msgspec.Struct, omit_defaults=True):
    start: str
    end: str
    netmask: str
    capacity: int
    allocated: list[AllocatedAddress] = []


class AddressPoolSummary(msgspec.Struct, omit_defaults=True):
    name: str
    gateway: str
    provider: str
    addresses: int
    allocated: int
    dns: list[str] = []


class AddressPoolDetail(msgspec.Struct, omit_defaults=True):
    name: str
    gateway: str
    provider: str
    dns: list[str] = []
    ranges: list[AddressRange] = []
    allocated: list[AllocatedAddress] = []


class AddressPoolConfig(msgspec.Struct, kw_only=True):
    gateway: str
    provider: str
    dns: list[str] = []
    mode: str = ""
    """Checked as documented; ours has no other addresses than internal ones."""


class RangeConfig(msgspec.Struct):
    end: str
    netmask: str


def _leases(view: View, pool: AddressPoolName) -> list[Lease]:
    held = (lease for lease in view.leases.values() if lease.pool == pool)
    return sorted(held, key=lambda lease: lease.address)


def _allocated(leases: Iterable[Lease]) -> list[AllocatedAddress]:
    return [AllocatedAddress(str(lease.address), lease.instance) for lease in leases]


def _range(one: Range) -> AddressRange:
    return AddressRange(str(one.start), str(one.end), str(one.netmask), one.capacity)


def _pool(call: Call[object]) -> AddressPool:
    name = AddressPoolName(call.params["pool"])
    found = call.view.address_pools.get(name)
    if found is None:
        raise NotFound(f"there is no address pool {name!r:.200}", field="pool", subject=name)
    return found


async def query(call: Call[None]) -> Answer:
    held: dict[AddressPoolName, int] = {}
    for lease in call.view.leases.values():
        held[lease.pool] = held.get(lease.pool, 0) + 1
    pools = sorted(call.view.address_pools.values(), key=lambda pool: pool.name)
    return envelope.success(
        [
            AddressPoolSummary(
                name=pool.name,
                gateway=str(pool.gateway),
                provider=pool.provider,
                addresses=sum(one.capacity for one in pool.ranges),
                allocated=held.get(pool.name, 0),
                dns=[str(server) for server in pool.dns],
            )
            for pool in pools
        ]
    )


async def read(call: Call[None]) -> Answer:
    pool = _pool(call)
    return envelope.success(
        AddressPoolDetail(
            name=pool.name,
            gateway=str(pool.gateway),
            provider=pool.provider,
            dns=[str(server) for server in pool.dns],
            ranges=[_range(one) for one in pool.ranges],
            allocated=_allocated(_leases(call.view, pool.name)),
        )
    )


def _configured(call: Call[AddressPoolConfig]) -> AddressPool:
    body = call.body
    if body.mode not in MODES:
        raise Invalid("mode", f"mode {body.mode!r:.40} is unknown: give internal, external or both")
    try:
        provider = Provider(body.provider)
    except ValueError:
        raise Invalid(
            "provider", f"provider {body.provider!r:.40} is unknown: give dhcp or cloudinit"
        ) from None
    return AddressPool(
        AddressPoolName(call.params["pool"]),
        _address("gateway", body.gateway),
        tuple(_address(f"dns[{index}]", server) for index, server in enumerate(body.dns)),
        provider,
    )


def _address(field: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise Invalid(field, f"{field} {text!r:.60} is not an IPv4 address") from None


async def create(call: Call[AddressPoolConfig]) -> Answer:
    message = wire.outgoing(_configured(call))
    reply = await call.services.addresspool.create_pool(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.ADDRESSPOOL, reply.revision)


async def modify(call: Call[AddressPoolConfig]) -> Answer:
    message = wire.outgoing(_configured(call))
    reply = await call.services.addresspool.modify_pool(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.ADDRESSPOOL, reply.revision)


async def delete(call: Call[None]) -> Answer:
    """The ledger refuses while addresses are held; that no compute pool names it is for us to see."""
    name = call.params["pool"]
    users = sorted(pool.name for pool in call.view.pools.values() if pool.address_pool == name)
    if users:
        raise Conflict(
            f"address pool {name} is used by compute pool {', '.join(users)}", field="pool", subject=name
        )
    message = v1.AddressPoolRef(name=name)
    reply = await call.services.addresspool.delete_pool(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.ADDRESSPOOL, reply.revision)


def _internal(call: Call[object]) -> None:
    if call.params["type"] != "internal":
        raise Unsupported(f"range type {call.params['type']!r:.40} is unknown: use internal", field="type")


async def query_ranges(call: Call[None]) -> Answer:
    _internal(call)
    return envelope.success(
        [RangeItem(str(one.start), str(one.end), str(one.netmask)) for one in _pool(call).ranges]
    )


async def read_range(call: Call[None]) -> Answer:
    _internal(call)
    pool = _pool(call)
    start = _address("start", call.params["start"])
    found = next((one for one in pool.ranges if one.start == start), None)
    if found is None:
        raise NotFound(f"address pool {pool.name} has no range that starts at {start}", field="start")
    held = [lease for lease in _leases(call.view, pool.name) if lease.address in found]
    plain = _range(found)
    return envelope.success(
        RangeStatus(plain.start, plain.end, plain.netmask, plain.capacity, _allocated(held))
    )


async def add_range(call: Call[RangeConfig]) -> Answer:
    _internal(call)
    span = Range(
        _address("start", call.params["start"]),
        _address("end", call.body.end),
        _address("netmask", call.body.netmask),
    )
    message = v1.RangeRequest(pool=call.params["pool"], range=wire.outgoing(span))
    reply = await call.services.addresspool.add_range(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.ADDRESSPOOL, reply.revision)


async def remove_range(call: Call[None]) -> Answer:
    _internal(call)
    start = _address("start", call.params["start"])
    message = v1.RangeRef(pool=call.params["pool"], start=str(start))
    reply = await call.services.addresspool.remove_range(message, timeout=writes.RPC_S)
    return await writes.done(call.gateway, Book.ADDRESSPOOL, reply.revision)


_READS = (Book.ADDRESSPOOL,)
_ONE = "/address_pools/{pool}"
_RANGES = "/address_pools/{pool}/{type}/ranges/"
_RANGE = _RANGES + "{start}"

ROUTES = (
    Route(
        "GET",
        "/address_pools/",
        query,
        "List address pools, by name",
        answer=list[AddressPoolSummary],
        reads=_READS,
    ),
    Route(
        "GET",
        _ONE,
        read,
        "Read an address pool with ranges and allocations",
        answer=AddressPoolDetail,
        reads=_READS,
    ),
    Route("POST", _ONE, create, "Create an address pool", body=AddressPoolConfig),
    Route("PUT", _ONE, modify, "Replace gateway, DNS and provider", body=AddressPoolConfig),
    Route("DELETE", _ONE, delete, "Delete an address pool that nobody uses", reads=(Book.SCHEDULER,)),
    Route(
        "GET",
        _RANGES,
        query_ranges,
        "List the ranges of an address pool, by start",
        answer=list[RangeItem],
        reads=_READS,
    ),
    Route("GET", _RANGE, read_range, "Read one range with its allocations", answer=RangeStatus, reads=_READS),
    Route("POST", _RANGE, add_range, "Add a range", body=RangeConfig),
    Route("DELETE", _RANGE, remove_range, "Remove a range that nobody holds an address of"),
)
