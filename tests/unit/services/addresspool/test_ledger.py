"""The ledger's rules: who gets which address, what is refused, and that no address ever has two owners."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nano import codec
from nano.model.address import AddressPool, Lease, Provider, Range, owner_of
from nano.model.errors import Conflict, Exists, Invalid, NanoError, NoAddress, NotFound
from nano.model.ids import AddressPoolName, InstanceId, new_instance_id
from services.addresspool.ledger import LeaseGone, LeasePut, Ledger, LedgerChange, PoolPut

MASK = IPv4Address("255.255.255.0")
LAN = AddressPoolName("lan")
OFFICE = AddressPoolName("office")
NOW_MS = 5


def ip(text: str) -> IPv4Address:
    return IPv4Address(text)


def span(start: str, end: str, netmask: str = "255.255.255.0") -> Range:
    return Range(ip(start), ip(end), ip(netmask))


def pool(name: AddressPoolName = LAN, gateway: str = "10.0.0.1", *ranges: Range) -> AddressPool:
    return AddressPool(name, ip(gateway), (ip("10.0.0.53"),), Provider.DHCP, ranges)


def put(ledger: Ledger, changes: Sequence[LedgerChange]) -> None:
    for change in changes:
        ledger.apply(change)


def ledger_with(*ranges: Range) -> Ledger:
    ledger = Ledger()
    put(ledger, ledger.create_pool(pool(LAN, "10.0.0.1", *ranges)))
    return ledger


def lease(ledger: Ledger, instance: InstanceId | None = None, name: AddressPoolName = LAN) -> Lease:
    instance = instance or new_instance_id()
    granted, changes = ledger.lease(name, owner_of(instance), instance, NOW_MS)
    put(ledger, changes)
    return granted


# -- pools -------------------------------------------------------------------------------------------


def test_a_pools_name_is_taken_once() -> None:
    with pytest.raises(Exists):
        ledger_with().create_pool(pool())


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 129])
def test_a_pool_needs_a_readable_name(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        Ledger().create_pool(pool(AddressPoolName(name)))
    assert refused.value.field == "name"


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_gateway_and_dns_are_addresses_of_hosts(address: str) -> None:
    with pytest.raises(Invalid) as refused:
        Ledger().create_pool(pool(gateway=address))
    assert refused.value.field == "gateway"
    with pytest.raises(Invalid) as refused:
        Ledger().create_pool(replace(pool(), dns=(ip(address),)))
    assert refused.value.field == "dns"


def test_servers_of_names_must_fit_into_a_reply() -> None:
    with pytest.raises(Invalid) as refused:
        Ledger().create_pool(replace(pool(), dns=(ip("10.0.0.53"),) * 9))
    assert refused.value.field == "dns"


def test_ranges_may_come_with_the_pool_and_are_checked_together() -> None:
    ledger = ledger_with(span("10.0.0.20", "10.0.0.29"), span("10.0.0.10", "10.0.0.19"))
    assert [str(each.start) for each in ledger.pool(LAN).ranges] == ["10.0.0.10", "10.0.0.20"]
    twice = (span("10.9.0.10", "10.9.0.19"), span("10.9.0.15", "10.9.0.29"))
    with pytest.raises(Conflict):
        ledger.create_pool(pool(OFFICE, "10.9.0.1", *twice))


def test_modifying_keeps_the_ranges_and_reaches_the_leases() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    held = lease(ledger)
    put(ledger, ledger.modify_pool(replace(pool(gateway="10.0.0.254"), provider=Provider.CLOUD_INIT)))
    assert ledger.pool(LAN).ranges == (span("10.0.0.10", "10.0.0.19"),)
    binding = ledger.binding(held)
    assert (binding.gateway, binding.provider) == (ip("10.0.0.254"), Provider.CLOUD_INIT)
    assert (binding.owner, binding.address, binding.netmask) == (held.owner, held.address, MASK)


def test_modifying_nothing_says_so() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    with pytest.raises(Conflict, match="already"):
        ledger.modify_pool(pool())


def test_a_gateway_moves_neither_out_of_its_subnet_nor_onto_a_held_address() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    with pytest.raises(Invalid, match="subnet"):
        ledger.modify_pool(pool(gateway="10.7.0.1"))
    held = lease(ledger)
    with pytest.raises(Conflict, match=held.owner):
        ledger.modify_pool(pool(gateway=str(held.address)))


def test_a_pool_in_use_is_not_deleted() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    held = lease(ledger)
    with pytest.raises(Conflict, match=held.owner):
        ledger.delete_pool(LAN)
    put(ledger, ledger.release(held.instance))
    put(ledger, ledger.delete_pool(LAN))
    assert not ledger.pools


def test_what_is_not_there_is_not_found() -> None:
    for attempt in (
        lambda: Ledger().modify_pool(pool()),
        lambda: Ledger().delete_pool(LAN),
        lambda: Ledger().add_range(LAN, span("10.0.0.10", "10.0.0.19")),
        lambda: ledger_with().remove_range(LAN, ip("10.0.0.10")),
        lambda: Ledger().lease(LAN, "vm/0", InstanceId("vm"), NOW_MS),
    ):
        with pytest.raises(NotFound):
            attempt()


# -- ranges ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param(span("10.0.0.9", "10.0.0.5"), "end", id="backwards"),
        pytest.param(span("10.0.0.9", "10.0.1.5"), "end", id="two subnets"),
        pytest.param(span("10.0.0.9", "10.0.0.12", "255.0.255.0"), "netmask", id="a mask with holes"),
        pytest.param(span("10.0.0.9", "10.0.0.12", "0.0.0.255"), "netmask", id="a wildcard for a mask"),
        pytest.param(span("10.0.0.9", "10.0.0.12", "0.0.0.0"), "netmask", id="no mask"),
        pytest.param(span("10.8.0.9", "10.8.0.12"), "gateway", id="away from the gateway"),
        pytest.param(span("10.0.0.0", "10.0.0.1"), "range", id="network and gateway only"),
    ],
)
def test_a_range_that_cannot_be_meant_is_refused(wrong: Range, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        ledger_with().add_range(LAN, wrong)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "other",
    [
        ("10.0.0.10", "10.0.0.19"),
        ("10.0.0.5", "10.0.0.10"),
        ("10.0.0.19", "10.0.0.25"),
        ("10.0.0.2", "10.0.0.200"),
        ("10.0.0.12", "10.0.0.13"),
    ],
)
def test_ranges_overlap_in_no_pool(other: tuple[str, str]) -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    put(ledger, ledger.create_pool(pool(OFFICE)))
    for name in (LAN, OFFICE):
        with pytest.raises(Conflict, match="lan"):
            ledger.add_range(name, span(*other))
    put(ledger, ledger.add_range(OFFICE, span("10.0.0.20", "10.0.0.29")))


def test_a_range_in_use_is_not_removed() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"), span("10.0.0.20", "10.0.0.29"))
    held = lease(ledger)
    with pytest.raises(Conflict, match=held.owner):
        ledger.remove_range(LAN, ip("10.0.0.10"))
    put(ledger, ledger.remove_range(LAN, ip("10.0.0.20")))
    assert ledger.pool(LAN).ranges == (span("10.0.0.10", "10.0.0.19"),)


# -- leases ------------------------------------------------------------------------------------------


def test_asking_twice_gives_the_same_address_and_changes_nothing() -> None:
    ledger, instance = ledger_with(span("10.0.0.10", "10.0.0.19")), new_instance_id()
    first = lease(ledger, instance)
    assert first == Lease(owner_of(instance), instance, LAN, ip("10.0.0.10"), MASK, NOW_MS)
    assert ledger.lease(LAN, owner_of(instance), instance, NOW_MS + 1) == (first, ())


def test_each_interface_of_an_instance_has_its_own_address_and_all_go_at_once() -> None:
    ledger, instance = ledger_with(span("10.0.0.10", "10.0.0.19")), new_instance_id()
    lease(ledger, instance)
    second, changes = ledger.lease(LAN, owner_of(instance, 1), instance, NOW_MS)
    put(ledger, changes)
    assert second.address == ip("10.0.0.11")
    put(ledger, ledger.release(instance))
    assert not ledger.leases
    assert ledger.release(instance) == ()


def test_one_interface_can_be_taken_back_alone() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    held = lease(ledger)
    assert ledger.release_owner(held.owner) == (LeaseGone(held.owner),)
    assert ledger.release_owner("nobody/0") == ()


def test_an_owner_holds_addresses_of_one_pool_only() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    put(ledger, ledger.create_pool(pool(OFFICE, "10.0.0.1", span("10.0.0.20", "10.0.0.29"))))
    held = lease(ledger)
    with pytest.raises(Conflict, match=held.owner):
        ledger.lease(OFFICE, held.owner, held.instance, NOW_MS)


def test_an_owner_is_an_interface_of_its_instance() -> None:
    with pytest.raises(Invalid) as refused:
        ledger_with(span("10.0.0.10", "10.0.0.19")).lease(LAN, "other/0", InstanceId("vm"), NOW_MS)
    assert refused.value.field == "owner"


def test_network_broadcast_and_gateway_are_never_leased() -> None:
    ledger = ledger_with(span("10.0.0.0", "10.0.0.3", "255.255.255.252"))
    assert lease(ledger).address == ip("10.0.0.2")
    with pytest.raises(NoAddress, match="lan"):
        lease(ledger)


def test_a_gateway_that_moves_gives_its_old_address_to_instances() -> None:
    ledger = ledger_with(span("10.0.0.1", "10.0.0.2"))
    assert lease(ledger).address == ip("10.0.0.2")
    put(ledger, ledger.modify_pool(pool(gateway="10.0.0.9")))
    assert lease(ledger).address == ip("10.0.0.1")


def test_a_link_of_two_addresses_has_no_broadcast() -> None:
    ledger = ledger_with(span("10.0.0.0", "10.0.0.0", "255.255.255.254"))
    assert lease(ledger).address == ip("10.0.0.0")


def test_the_lowest_free_address_is_leased_over_all_ranges() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.11"), span("10.0.0.20", "10.0.0.21"))
    held = [lease(ledger) for _ in range(4)]
    assert [str(each.address) for each in held] == ["10.0.0.10", "10.0.0.11", "10.0.0.20", "10.0.0.21"]
    for returned in (held[2], held[1]):
        put(ledger, ledger.release(returned.instance))
    assert [lease(ledger).address for _ in range(2)] == [held[1].address, held[2].address]


def test_a_large_range_is_used_up_without_a_search() -> None:
    ledger = ledger_with(span("10.0.0.0", "10.0.255.255", "255.255.0.0"))
    owners = [InstanceId(str(number)) for number in range(65_533)]
    for owner in owners:
        lease(ledger, owner)
    with pytest.raises(NoAddress):
        lease(ledger)
    for owner in owners:  # each lease that follows a release would walk 65 000 addresses if it had to search
        put(ledger, ledger.release(owner))
        lease(ledger, owner)


# -- the shelf's side --------------------------------------------------------------------------------


def test_changes_and_snapshots_come_back_from_json_as_they_were() -> None:
    ledger = ledger_with(span("10.0.0.10", "10.0.0.19"))
    held = lease(ledger)
    for change in (PoolPut(ledger.pool(LAN)), LeasePut(held), LeaseGone(held.owner)):
        assert codec.decode(codec.encode(change), Ledger.changes) == change
    nouns: dict[str, list[Any]] = {
        kind: [codec.decode(codec.encode(noun), Ledger.kinds[kind]) for noun in found]
        for kind, found in ledger.snapshot().items()
    }
    again = Ledger.restore(nouns)
    assert again.snapshot() == ledger.snapshot()
    assert lease(again).address == ip("10.0.0.11")


class TheLedger(RuleBasedStateMachine):
    """Whatever is asked in whatever order: each address has one owner, in a range, and a replay agrees."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.log: list[LedgerChange] = []
        self.numbers = count()
        self.asked(lambda: self.ledger.create_pool(pool(LAN)))
        self.asked(lambda: self.ledger.create_pool(pool(OFFICE)))

    def asked(self, ask: Callable[[], Sequence[LedgerChange]]) -> bool:
        try:
            changes = ask()
        except NanoError:
            return False
        put(self.ledger, changes)
        self.log += changes
        return True

    pools = st.sampled_from([LAN, OFFICE])
    instances = st.sampled_from([InstanceId(letter) for letter in "abcdef"])
    ends = st.integers(0, 12)

    @rule(name=pools, start=ends, length=st.integers(0, 4))
    def add_range(self, name: AddressPoolName, start: int, length: int) -> None:
        first = ip("10.0.0.0") + start
        self.asked(lambda: self.ledger.add_range(name, Range(first, first + length, MASK)))

    @rule(name=pools, start=ends)
    def remove_range(self, name: AddressPoolName, start: int) -> None:
        self.asked(lambda: self.ledger.remove_range(name, ip("10.0.0.0") + start))

    @rule(name=pools, last=ends)
    def move_gateway(self, name: AddressPoolName, last: int) -> None:
        self.asked(lambda: self.ledger.modify_pool(pool(name, f"10.0.0.{last}")))

    @rule(name=pools, instance=instances, index=st.integers(0, 1))
    def lease(self, name: AddressPoolName, instance: InstanceId, index: int) -> None:
        owner, known = owner_of(instance, index), self.ledger.leases.copy()
        had_room = self.free(name)
        granted = self.asked(lambda: self.ledger.lease(name, owner, instance, next(self.numbers))[1])
        if owner not in known:
            assert granted == bool(had_room)
            assert not granted or self.ledger.leases[owner].address == min(had_room)

    @rule(instance=instances)
    def release(self, instance: InstanceId) -> None:
        assert self.asked(lambda: self.ledger.release(instance))

    def free(self, name: AddressPoolName) -> set[IPv4Address]:
        """The slow and plain way to know what can be leased."""
        found = self.ledger.pool(name)
        network, broadcast = ip("10.0.0.0"), ip("10.0.0.255")
        every = {each.start + at for each in found.ranges for at in range(each.capacity)}
        held = {each.address for each in self.ledger.leases.values()}
        return every - held - {network, broadcast, found.gateway}

    @invariant()
    def no_address_is_held_twice(self) -> None:
        addresses = [each.address for each in self.ledger.leases.values()]
        assert len(addresses) == len(set(addresses))

    @invariant()
    def each_lease_lies_in_a_range_of_its_pool(self) -> None:
        for each in self.ledger.leases.values():
            assert any(each.address in known for known in self.ledger.pool(each.pool).ranges)

    @invariant()
    def a_replay_gives_the_same_book(self) -> None:
        again = Ledger()
        put(again, self.log)
        assert again.snapshot() == self.ledger.snapshot()


TestTheLedger = TheLedger.TestCase
TestTheLedger.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.integers(8, 30), st.integers(0, 2**24 - 1))
def test_every_true_netmask_is_taken(prefix: int, host: int) -> None:
    network = IPv4Network((0x0A000000 + host, prefix), strict=False)
    first = Range(network[2], network[2], network.netmask)
    ledger = Ledger()
    put(ledger, ledger.create_pool(pool(LAN, str(network[1]), first)))
    assert lease(ledger).address == network[2]
