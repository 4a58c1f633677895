"""Who calls the address pool, and what they get.

Each handler lets the ledger decide, commits, waits until that is durable, and answers with the revision.
Leases are given and taken by steps: see `steps.py`.
"""

from collections.abc import AsyncIterator, Sequence
from ipaddress import AddressValueError, IPv4Address

from nano import wire
from nano.contracts.nano import v1
from nano.model.address import AddressPool, Range
from nano.model.errors import Invalid
from nano.model.ids import AddressPoolName
from nano.model.peers import Role
from nano.saga.outcomes import OutcomeChange
from nano.shelf import Shelf
from nano.watching import watch
from services.addresspool.ledger import (
    Changes,
    LeaseGone,
    LeasePut,
    Ledger,
    LedgerChange,
    PoolGone,
    PoolPut,
)

_CHANGES_AND_READS = frozenset({Role.GATEWAY, Role.ADMIN})

ROLES = {
    f"/nano.v1.AddressPools/{method}": _CHANGES_AND_READS
    for method in ("CreatePool", "ModifyPool", "DeletePool", "AddRange", "RemoveRange", "Watch")
}
"""Who may call what; nobody may call what is not here."""


class AddressPoolsRpc(v1.AddressPoolsBase):
    """The service `nano.v1.AddressPools`."""

    def __init__(self, shelf: Shelf[Ledger]) -> None:
        self._shelf = shelf

    async def create_pool(self, message: v1.AddressPool) -> v1.AddressPoolReply:
        return await self._committed(self._shelf.book.create_pool(wire.incoming(message, AddressPool)))

    async def modify_pool(self, message: v1.AddressPool) -> v1.AddressPoolReply:
        return await self._committed(self._shelf.book.modify_pool(wire.incoming(message, AddressPool)))

    async def delete_pool(self, message: v1.AddressPoolRef) -> v1.AddressPoolReply:
        return await self._committed(self._shelf.book.delete_pool(AddressPoolName(message.name)))

    async def add_range(self, message: v1.RangeRequest) -> v1.AddressPoolReply:
        span = wire.incoming(message.range, Range, "range.")
        return await self._committed(self._shelf.book.add_range(AddressPoolName(message.pool), span))

    async def remove_range(self, message: v1.RangeRef) -> v1.AddressPoolReply:
        try:
            start = IPv4Address(message.start)
        except AddressValueError:
            raise Invalid("start", f"start {message.start!r:.80} is not an IPv4 address") from None
        return await self._committed(self._shelf.book.remove_range(AddressPoolName(message.pool), start))

    async def watch(self, message: v1.WatchRequest) -> AsyncIterator[v1.AddressPoolChange]:
        async for change in watch(self._shelf, message.since, lambda: whole(self._shelf.book), told):
            yield change

    async def _committed(self, changes: Changes) -> v1.AddressPoolReply:
        revision = self._shelf.commit(*changes)
        await self._shelf.durable(revision)
        return v1.AddressPoolReply(revision=revision)


def whole(ledger: Ledger) -> v1.AddressPoolChange:
    """The book as it is, for a watcher that knows nothing yet."""
    return v1.AddressPoolChange(
        pools=[wire.outgoing(pool) for pool in ledger.pools.values()],
        leases=[wire.outgoing(lease) for lease in ledger.leases.values()],
    )


def told(changes: Sequence[LedgerChange | OutcomeChange]) -> v1.AddressPoolChange | None:
    """What some changes show to a watcher; None when they show nothing."""
    message = v1.AddressPoolChange()
    for change in changes:
        match change:
            case PoolPut(pool):
                message.pools.append(wire.outgoing(pool))
            case PoolGone(name):
                message.gone.append(v1.Gone(kind="address_pool", id=name))
            case LeasePut(lease):
                message.leases.append(wire.outgoing(lease))
            case LeaseGone(owner):
                message.gone.append(v1.Gone(kind="lease", id=owner))
    return message if message.pools or message.leases or message.gone else None
