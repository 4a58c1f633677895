"""Steps of tasks on the ledger: done once, taken back whole, kept over a restart."""

from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from nano.model.action import LeaseAddress, Leased, Nothing, Progress, ReleaseAddress
from nano.model.address import AddressPool, Provider, Range, owner_of
from nano.model.ids import AddressPoolName, InstanceId, TaskId
from nano.saga.callee import Callee
from nano.shelf import Shelf
from services.addresspool.ledger import Ledger
from services.addresspool.steps import offer

LAN = AddressPoolName("lan")
VM = InstanceId("vm")
TASK, OTHER_TASK = TaskId("task"), TaskId("other")
LEASE = LeaseAddress(LAN, owner_of(VM), VM)
POOL = AddressPool(
    LAN,
    IPv4Address("10.0.0.1"),
    (IPv4Address("10.0.0.53"),),
    Provider.DHCP,
    (Range(IPv4Address("10.0.0.10"), IPv4Address("10.0.0.10"), IPv4Address("255.255.255.0")),),
)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf[Ledger]]:
    async with Shelf.open(tmp_path, Ledger) as opened:
        opened.commit(*opened.book.create_pool(POOL))
        yield opened


@pytest.fixture
def callee(shelf: Shelf[Ledger]) -> Callee:
    return started(shelf)


def started(shelf: Shelf[Ledger]) -> Callee:
    callee = Callee(shelf)
    offer(callee, now_ms=lambda: 5)
    callee.settle()
    return callee


async def test_a_lease_brings_back_all_that_a_guest_is_told(shelf: Shelf[Ledger], callee: Callee) -> None:
    known = await callee.begin(TASK, "lease_address", LEASE)
    assert known.progress is Progress.DONE
    assert isinstance(known.result, Leased)
    binding = known.result.binding
    assert (binding.owner, binding.address, binding.dns) == (LEASE.owner, IPv4Address("10.0.0.10"), POOL.dns)
    assert shelf.book.leases[LEASE.owner].granted_ms == 5
    assert await callee.begin(TASK, "lease_address", LEASE) == known


async def test_a_step_taken_back_frees_the_address_and_stays_away(
    shelf: Shelf[Ledger], callee: Callee
) -> None:
    await callee.begin(TASK, "lease_address", LEASE)
    assert (await callee.undo(TASK, "lease_address")).progress is Progress.UNDONE
    assert not shelf.book.leases
    assert (await callee.begin(TASK, "lease_address", LEASE)).progress is Progress.UNDONE
    assert not shelf.book.leases


async def test_a_step_undone_before_it_came_never_leases(shelf: Shelf[Ledger], callee: Callee) -> None:
    await callee.undo(TASK, "lease_address")
    assert (await callee.begin(TASK, "lease_address", LEASE)).progress is Progress.UNDONE
    assert not shelf.book.leases


async def test_a_pool_that_is_used_up_fails_the_step_and_says_why(callee: Callee) -> None:
    await callee.begin(TASK, "lease_address", LEASE)
    second = LeaseAddress(LAN, "vm2/0", InstanceId("vm2"))
    failed = await callee.begin(OTHER_TASK, "lease_address", second)
    assert failed.progress is Progress.FAILED
    assert failed.fault is not None
    assert failed.fault.code == "no_address"


async def test_a_release_frees_all_and_nothing_held_is_success(shelf: Shelf[Ledger], callee: Callee) -> None:
    await callee.begin(TASK, "lease_address", LEASE)
    for task in (OTHER_TASK, TaskId("third")):
        known = await callee.begin(task, "release_address", ReleaseAddress(VM))
        assert (known.progress, known.result) == (Progress.DONE, Nothing())
    assert not shelf.book.leases


async def test_the_outcome_is_known_after_a_restart(tmp_path: Path) -> None:
    async with Shelf.open(tmp_path, Ledger) as shelf:
        shelf.commit(*shelf.book.create_pool(POOL))
        known = await started(shelf).begin(TASK, "lease_address", LEASE)
    async with Shelf.open(tmp_path, Ledger) as shelf:
        assert await started(shelf).ask(TASK, "lease_address") == known
        assert await started(shelf).begin(TASK, "lease_address", LEASE) == known
