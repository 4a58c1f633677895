"""Which addresses there are, and who holds which: the book of the address pool.

Plain and synchronous: a method decides and returns what changes, the shelf commits it, and `apply` makes it
so, on the live book and at every replay. No clock, no file, no socket. No address is ever held by two owners,
in whatever pools they are.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar, Self, TypeAlias

import msgspec

from nano.model import names
from nano.model.address import AddressPool, Binding, Lease, Range
from nano.model.errors import Conflict, Exists, Invalid, NoAddress, NotFound
from nano.model.ids import AddressPoolName, InstanceId
from nano.saga.outcomes import OutcomeChange, Outcomes

MOST_DNS = 8
"""What fits, with all else, into the shortest reply that every DHCP client takes (576 bytes)."""
_POINT_TO_POINT = 31
"""From this prefix on a subnet has neither a network nor a broadcast address (RFC 3021)."""


class PoolPut(msgspec.Struct, frozen=True, tag="pool_put"):
    """A pool is new, or has other settings or ranges."""

    pool: AddressPool


class PoolGone(msgspec.Struct, frozen=True, tag="pool_gone"):
    name: AddressPoolName


class LeasePut(msgspec.Struct, frozen=True, tag="lease_put"):
    lease: Lease


class LeaseGone(msgspec.Struct, frozen=True, tag="lease_gone"):
    owner: str


LedgerChange: TypeAlias = PoolPut | PoolGone | LeasePut | LeaseGone
Changes: TypeAlias = tuple[LedgerChange, ...]


class Ledger:
    """Pools by name, leases by owner, and the outcomes of other services' steps on them."""

    changes: ClassVar[Any] = LedgerChange | OutcomeChange
    kinds: ClassVar[Mapping[str, Any]] = {"pools": AddressPool, "leases": Lease, **Outcomes.kinds}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.pools: dict[AddressPoolName, AddressPool] = {}
        self.leases: dict[str, Lease] = {}
        self.outcomes = Outcomes()
        self._held: dict[int, str] = {}
        self._owners: dict[InstanceId, dict[str, None]] = {}
        self._vacancies: dict[AddressPoolName, dict[Range, _Vacancy]] = {}

    # -- pools -------------------------------------------------------------------------------------

    def pool(self, name: AddressPoolName) -> AddressPool:
        if name not in self.pools:
            raise NotFound(f"there is no address pool {name!r}: create it first", field="pool", subject=name)
        return self.pools[name]

    def create_pool(self, pool: AddressPool) -> Changes:
        """A new pool; `Exists` when the name is taken. Ranges may come with it."""
        names.free("name", pool.name)
        if pool.name in self.pools:
            raise Exists(f"there is an address pool {pool.name!r} already", field="name", subject=pool.name)
        _check_settings(pool)
        made = replace(pool, ranges=())
        for span in pool.ranges:
            self._check_range(made, span)
            made = _with_range(made, span)
        return (PoolPut(made),)

    def modify_pool(self, wanted: AddressPool) -> Changes:
        """Another gateway, other servers of names, another provider; the ranges stay as they are."""
        before = self.pool(wanted.name)
        after = replace(wanted, ranges=before.ranges)
        if after == before:
            raise Conflict(f"address pool {after.name!r} is like that already", subject=after.name)
        _check_settings(after)
        for span in after.ranges:
            _check_gateway(after, span)
        holder = self._held.get(int(after.gateway))
        if holder is not None:
            raise Conflict(
                f"{after.gateway} cannot be the gateway: {holder} holds it", field="gateway", subject=holder
            )
        return (PoolPut(after),)

    def delete_pool(self, name: AddressPoolName) -> Changes:
        """`Conflict` while an address of it is held."""
        self._check_unheld(self.pool(name).ranges, f"address pool {name!r}", name)
        return (PoolGone(name),)

    def add_range(self, name: AddressPoolName, span: Range) -> Changes:
        """A span that lies in one subnet together with the gateway, and overlaps no other of any pool."""
        pool = self.pool(name)
        self._check_range(pool, span)
        return (PoolPut(_with_range(pool, span)),)

    def remove_range(self, name: AddressPoolName, start: IPv4Address) -> Changes:
        """The span is named by its start. `Conflict` while an address of it is held."""
        pool = self.pool(name)
        gone = [span for span in pool.ranges if span.start == start]
        if not gone:
            raise NotFound(f"no range of {name!r} starts at {start}", field="start", subject=str(start))
        self._check_unheld(gone, f"the range at {start}", str(start))
        return (PoolPut(replace(pool, ranges=tuple(span for span in pool.ranges if span not in gone))),)

    # -- leases ------------------------------------------------------------------------------------

    def lease(
        self, name: AddressPoolName, owner: str, instance: InstanceId, now_ms: int
    ) -> tuple[Lease, Changes]:
        """The address of `owner`: the one it holds, else the lowest free one; `NoAddress` without one."""
        pool = self.pool(name)
        known = self.leases.get(owner)
        if known is None:
            lease = self._first_free(pool, owner, instance, now_ms)
            return lease, (LeasePut(lease),)
        if (known.pool, known.instance) != (name, instance):
            raise Conflict(
                f"{owner} holds {known.address} of {known.pool!r} already: release that first", subject=owner
            )
        return known, ()

    def release(self, instance: InstanceId) -> Changes:
        """Take back all that the instance holds; nothing held is nothing to do."""
        return tuple(LeaseGone(owner) for owner in self._owners.get(instance, ()))

    def release_owner(self, owner: str) -> Changes:
        """Take back what one interface holds."""
        return (LeaseGone(owner),) if owner in self.leases else ()

    def leases_of(self, name: AddressPoolName) -> Iterator[Lease]:
        return (lease for lease in self.leases.values() if lease.pool == name)

    def binding(self, lease: Lease) -> Binding:
        """All that the holder of a lease is told, as its pool has it now."""
        pool = self.pools[lease.pool]
        return Binding(lease.owner, lease.address, lease.netmask, pool.gateway, pool.dns, pool.provider)

    # -- the shelf's side --------------------------------------------------------------------------

    def apply(self, change: LedgerChange | OutcomeChange) -> None:
        match change:
            case PoolPut(pool):
                self._put_pool(pool)
            case PoolGone(name):
                del self.pools[name], self._vacancies[name]
            case LeasePut(lease):
                self.leases[lease.owner] = lease
                self._held[int(lease.address)] = lease.owner
                self._owners.setdefault(lease.instance, {})[lease.owner] = None
                self._vacancy(lease).take(int(lease.address))
            case LeaseGone(owner):
                self._forget(self.leases.pop(owner))
            case _:
                self.outcomes.apply(change)

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {
            "pools": list(self.pools.values()),
            "leases": list(self.leases.values()),
            **self.outcomes.snapshot(),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        ledger = cls()
        for pool in snapshot["pools"]:
            ledger.apply(PoolPut(pool))
        for lease in snapshot["leases"]:
            ledger.apply(LeasePut(lease))
        ledger.outcomes = Outcomes.restore(snapshot)
        return ledger

    def _put_pool(self, pool: AddressPool) -> None:
        before = self.pools.get(pool.name)
        kept = self._vacancies.get(pool.name, {}) if before and before.gateway == pool.gateway else {}
        self.pools[pool.name] = pool
        self._vacancies[pool.name] = {
            span: kept.get(span) or _Vacancy(span, _reserved(pool, span)) for span in pool.ranges
        }

    def _forget(self, lease: Lease) -> None:
        del self._held[int(lease.address)]
        owners = self._owners[lease.instance]
        del owners[lease.owner]
        if not owners:
            del self._owners[lease.instance]
        self._vacancy(lease).give_back(int(lease.address))

    def _vacancy(self, lease: Lease) -> "_Vacancy":
        return next(free for span, free in self._vacancies[lease.pool].items() if lease.address in span)

    # -- rules -------------------------------------------------------------------------------------

    def _first_free(self, pool: AddressPool, owner: str, instance: InstanceId, now_ms: int) -> Lease:
        if owner.partition("/")[0] != instance:
            raise Invalid("owner", f"{owner!r} is no interface of instance {instance}", subject=owner)
        for span, free in self._vacancies[pool.name].items():
            lowest = free.lowest(self._held)
            if lowest is not None:
                return Lease(owner, instance, pool.name, IPv4Address(lowest), span.netmask, now_ms)
        raise NoAddress(f"address pool {pool.name!r} has no free address: add a range", subject=pool.name)

    def _check_range(self, pool: AddressPool, span: Range) -> None:
        _check_span(span)
        _check_gateway(pool, span)
        for other in (pool, *self.pools.values()):
            for taken in other.ranges:
                if span.start <= taken.end and taken.start <= span.end:
                    raise Conflict(
                        f"{span.start} to {span.end} overlaps {taken.start} to {taken.end} of {other.name!r}",
                        field="range",
                        subject=other.name,
                    )
        if len(_reserved(pool, span)) == span.capacity:
            raise Invalid("range", f"{span.start} to {span.end} has no address that an instance could hold")

    def _check_unheld(self, spans: Sequence[Range], what: str, subject: str) -> None:
        held = [lease for lease in self.leases.values() if any(lease.address in span for span in spans)]
        if held:
            raise Conflict(
                f"{what} is in use: {len(held)} addresses are held, {held[0].address} by {held[0].owner}",
                subject=subject,
            )


class _Vacancy:
    """The free addresses of one range, lowest first, without a search.

    What is free below `_next` waits in a heap; what lies from `_next` on was never given away, or is skipped
    once, when it is reached.
    """

    def __init__(self, span: Range, reserved: Container[int]) -> None:
        self._reserved = reserved
        self._next, self._last = int(span.start), int(span.end)
        self._returned: list[int] = []

    def lowest(self, held: Container[int]) -> int | None:
        while self._returned and self._returned[0] in held:
            heappop(self._returned)
        if self._returned:
            return self._returned[0]
        while self._next <= self._last and (self._next in held or self._next in self._reserved):
            self._next += 1
        return self._next if self._next <= self._last else None

    def take(self, address: int) -> None:
        if self._returned and self._returned[0] == address:
            heappop(self._returned)

    def give_back(self, address: int) -> None:
        if address < self._next:
            heappush(self._returned, address)


def _with_range(pool: AddressPool, span: Range) -> AddressPool:
    return replace(pool, ranges=tuple(sorted((*pool.ranges, span))))


def _reserved(pool: AddressPool, span: Range) -> frozenset[int]:
    """The addresses of a range that no instance may hold: gateway, network and broadcast."""
    network = span.network
    special = {pool.gateway}
    if network.prefixlen < _POINT_TO_POINT:
        special |= {network.network_address, network.broadcast_address}
    return frozenset(int(address) for address in special if address in span)


def _check_settings(pool: AddressPool) -> None:
    for field, address in (("gateway", pool.gateway), *(("dns", server) for server in pool.dns)):
        if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_reserved:
            raise Invalid(field, f"{address} is no address of a host on a network", subject=pool.name)
    if len(pool.dns) > MOST_DNS:
        raise Invalid("dns", f"{len(pool.dns)} servers of names are too many: give at most {MOST_DNS}")


def _check_span(span: Range) -> None:
    mask = int(span.netmask)
    if mask == 0 or (mask ^ 0xFFFFFFFF) & ((mask ^ 0xFFFFFFFF) + 1):
        raise Invalid(
            "netmask", f"{span.netmask} is no netmask: give ones, then zeros, such as 255.255.255.0"
        )
    if span.end < span.start:
        raise Invalid("end", f"the range ends at {span.end}, before its start {span.start}")
    if span.end not in span.network:
        raise Invalid("end", f"{span.end} is not in {span.network}, the subnet of {span.start}")


def _check_gateway(pool: AddressPool, span: Range) -> None:
    """An instance reaches its gateway directly, so both are in one subnet."""
    network: IPv4Network = span.network
    if pool.gateway not in network:
        raise Invalid(
            "gateway",
            f"gateway {pool.gateway} is not in {network}, the subnet of {span.start}: "
            "correct the range, or the pool's gateway",
            subject=pool.name,
        )
