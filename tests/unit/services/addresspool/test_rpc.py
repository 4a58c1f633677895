"""The calls on the address pool: what they commit, what they answer, and what a watcher is told."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from nano.contracts.nano import v1
from nano.model.address import Lease, owner_of
from nano.model.errors import Exists, Invalid
from nano.model.ids import AddressPoolName, InstanceId
from nano.saga.outcomes import OutcomesForgotten
from nano.shelf import Shelf
from services.addresspool.ledger import Ledger
from services.addresspool.rpc import ROLES, AddressPoolsRpc, told

SPAN = v1.Range(start="10.0.0.10", end="10.0.0.19", netmask="255.255.255.0")
POOL = v1.AddressPool(name="lan", gateway="10.0.0.1", dns=["10.0.0.53"], provider="dhcp")
VM = InstanceId("vm")


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf[Ledger]]:
    async with Shelf.open(tmp_path, Ledger) as opened:
        yield opened


@pytest.fixture
def rpc(shelf: Shelf[Ledger]) -> AddressPoolsRpc:
    return AddressPoolsRpc(shelf)


def leased(shelf: Shelf[Ledger]) -> Lease:
    lease, changes = shelf.book.lease(AddressPoolName("lan"), owner_of(VM), VM, 5)
    shelf.commit(*changes)
    return lease


def watching(rpc: AddressPoolsRpc, message: v1.WatchRequest) -> AsyncGenerator[v1.AddressPoolChange, None]:
    """A handler of a stream is a generator, which the contract's type does not say."""
    return cast("AsyncGenerator[v1.AddressPoolChange, None]", rpc.watch(message))


async def test_every_answer_is_durable_and_names_its_revision(
    shelf: Shelf[Ledger], rpc: AddressPoolsRpc
) -> None:
    changed = v1.AddressPool(name="lan", gateway="10.0.0.2", provider="cloudinit")
    replies = [
        await rpc.create_pool(POOL),
        await rpc.add_range(v1.RangeRequest(pool="lan", range=SPAN)),
        await rpc.modify_pool(changed),
        await rpc.remove_range(v1.RangeRef(pool="lan", start="10.0.0.10")),
        await rpc.delete_pool(v1.AddressPoolRef(name="lan")),
    ]
    assert [reply.revision for reply in replies] == [1, 2, 3, 4, 5]
    assert shelf.durable_revision == 5
    assert not shelf.book.pools


async def test_a_refusal_commits_nothing(shelf: Shelf[Ledger], rpc: AddressPoolsRpc) -> None:
    await rpc.create_pool(POOL)
    with pytest.raises(Exists):
        await rpc.create_pool(POOL)
    assert shelf.revision == 1


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (v1.AddressPool(name="lan", gateway="here", provider="dhcp"), "gateway"),
        (v1.AddressPool(name="lan", gateway="10.0.0.1", provider="magic"), "provider"),
        (v1.AddressPool(name="lan", gateway="10.0.0.1", provider="dhcp", dns=["x"]), "dns[0]"),
        (v1.AddressPool(gateway="10.0.0.1", provider="dhcp"), "name"),
    ],
)
async def test_the_field_that_cannot_be_meant_is_named(
    rpc: AddressPoolsRpc, message: v1.AddressPool, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await rpc.create_pool(message)
    assert refused.value.field == field


async def test_a_range_is_named_by_an_address(rpc: AddressPoolsRpc) -> None:
    await rpc.create_pool(POOL)
    for wrong in (v1.RangeRequest(pool="lan"), v1.RangeRequest(pool="lan", range=v1.Range(start="x"))):
        with pytest.raises(Invalid) as refused:
            await rpc.add_range(wrong)
        assert refused.value.field.startswith("range")
    with pytest.raises(Invalid) as refused:
        await rpc.remove_range(v1.RangeRef(pool="lan", start="x"))
    assert refused.value.field == "start"


async def test_a_watcher_gets_the_whole_and_then_each_change(
    shelf: Shelf[Ledger], rpc: AddressPoolsRpc
) -> None:
    await rpc.create_pool(POOL)
    changes = watching(rpc, v1.WatchRequest())
    first = await anext(changes)
    assert (first.whole, [pool.name for pool in first.pools]) == (True, ["lan"])
    await rpc.add_range(v1.RangeRequest(pool="lan", range=SPAN))
    second = await anext(changes)
    assert (second.whole, second.pools[0].ranges) == (False, [SPAN])
    leased(shelf)
    third = await anext(changes)
    assert [(lease.owner, lease.address) for lease in third.leases] == [("vm/0", "10.0.0.10")]
    shelf.commit(*shelf.book.release(VM))
    shelf.commit(*shelf.book.delete_pool(AddressPoolName("lan")))
    assert (await anext(changes)).gone == [v1.Gone(kind="lease", id="vm/0")]
    last = await anext(changes)
    assert last.gone == [v1.Gone(kind="address_pool", id="lan")]
    assert last.cursor == v1.Cursor(incarnation=shelf.incarnation, revision=shelf.revision)
    await changes.aclose()


async def test_a_watcher_resumes_where_it_was(shelf: Shelf[Ledger], rpc: AddressPoolsRpc) -> None:
    await rpc.create_pool(POOL)
    await rpc.add_range(v1.RangeRequest(pool="lan", range=SPAN))
    cursor = v1.Cursor(incarnation=shelf.incarnation, revision=1)
    changes = watching(rpc, v1.WatchRequest(since=cursor))
    resumed = await anext(changes)
    assert (resumed.whole, resumed.pools[0].ranges) == (False, [SPAN])
    await changes.aclose()


async def test_a_cursor_of_another_life_gets_the_whole_again(rpc: AddressPoolsRpc) -> None:
    await rpc.create_pool(POOL)
    changes = watching(rpc, v1.WatchRequest(since=v1.Cursor(incarnation="another", revision=1)))
    assert (await anext(changes)).whole
    await changes.aclose()


def test_bookkeeping_of_steps_is_not_told() -> None:
    assert told((OutcomesForgotten(()),)) is None


def test_every_call_has_its_row_in_the_table_of_roles(rpc: AddressPoolsRpc) -> None:
    assert ROLES.keys() == rpc.__mapping__().keys()
