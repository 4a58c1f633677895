"""A small zone for tests of sagas: three real books, a piece of hardware, and a task that spans them all.

The front desk records instances and runs the tasks, the pool leases addresses in its book, the host makes
disks and domains on hardware that outlives its process.
"""

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, ClassVar, Self

import msgspec

from nano.model.action import (
    BuildInstance,
    CreateVolumes,
    DeleteInstance,
    LeaseAddress,
    Leased,
    Nothing,
    ReleaseAddress,
    StartInstance,
)
from nano.model.address import Binding, Provider, owner_of
from nano.model.errors import Conflict, Exhausted, NoAddress
from nano.model.ids import AddressPoolName, CellId, InstanceId
from nano.model.instance import InstanceSpec
from nano.model.peers import Peer, Role
from nano.saga.handlers import Did, Report
from nano.saga.outcomes import OutcomeChange, Outcomes
from nano.saga.record import TaskChange
from nano.saga.step import Changes, Moved, Saga, remote, step
from nano.saga.tasks import Tasks

POOL = AddressPoolName("lan")
HOST = Peer(Role.CELL, CellId("Cell_00163e000001"))
ADDRESSES = Peer(Role.ADDRESSPOOL, "addresspool")


class InstanceSet(msgspec.Struct, frozen=True, tag="instance_set"):
    instance: InstanceId
    state: str


class InstanceErased(msgspec.Struct, frozen=True, tag="instance_erased"):
    instance: InstanceId


class Desk:
    """What was asked for."""

    changes: ClassVar[Any] = InstanceSet | InstanceErased | TaskChange
    kinds: ClassVar[Mapping[str, Any]] = {"instances": InstanceSet, **Tasks.kinds}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.instances: dict[InstanceId, str] = {}
        self.tasks = Tasks()

    def apply(self, change: InstanceSet | InstanceErased | TaskChange) -> None:
        match change:
            case InstanceSet(instance, state):
                self.instances[instance] = state
            case InstanceErased(instance):
                del self.instances[instance]
            case _:
                self.tasks.apply(change)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        instances = [InstanceSet(*item) for item in self.instances.items()]
        return {"instances": instances, **self.tasks.snapshot()}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        desk = cls()
        for noun in snapshot["instances"]:
            desk.apply(noun)
        desk.tasks = Tasks.restore(snapshot)
        return desk


class LeaseSet(msgspec.Struct, frozen=True, tag="lease_set"):
    instance: InstanceId
    address: IPv4Address


class LeaseErased(msgspec.Struct, frozen=True, tag="lease_erased"):
    instance: InstanceId


class Ledger:
    """Who holds which address."""

    changes: ClassVar[Any] = LeaseSet | LeaseErased | OutcomeChange
    kinds: ClassVar[Mapping[str, Any]] = {"leases": LeaseSet, **Outcomes.kinds}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.leases: dict[InstanceId, IPv4Address] = {}
        self.outcomes = Outcomes()

    def apply(self, change: LeaseSet | LeaseErased | OutcomeChange) -> None:
        match change:
            case LeaseSet(instance, address):
                self.leases[instance] = address
            case LeaseErased(instance):
                del self.leases[instance]
            case _:
                self.outcomes.apply(change)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        leases = [LeaseSet(*item) for item in self.leases.items()]
        return {"leases": leases, **self.outcomes.snapshot()}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        ledger = cls()
        for noun in snapshot["leases"]:
            ledger.apply(noun)
        ledger.outcomes = Outcomes.restore(snapshot)
        return ledger


def lease_in(action: LeaseAddress, ledger: Ledger) -> Did:
    taken = set(ledger.leases.values())
    free = (IPv4Address("10.57.0.2") + number for number in range(100))
    address = next((one for one in free if one not in taken), None)
    if address is None:
        raise NoAddress(f"address pool {action.pool} is used up", subject=action.pool)
    binding = Binding(
        action.owner, address, IPv4Address("255.255.255.0"), IPv4Address("10.57.0.1"), (), Provider.DHCP
    )
    return [LeaseSet(action.instance, address)], Leased(binding)


def release_from(action: LeaseAddress, _result: Leased, _ledger: Ledger) -> Changes:
    return [LeaseErased(action.instance)]


def release_all(action: ReleaseAddress, ledger: Ledger) -> Did:
    held = action.instance in ledger.leases
    return [LeaseErased(action.instance)] if held else [], Nothing()


class DomainSet(msgspec.Struct, frozen=True, tag="domain_set"):
    instance: InstanceId
    state: str


class DomainErased(msgspec.Struct, frozen=True, tag="domain_erased"):
    instance: InstanceId


class Host:
    """What a host holds, as it has written it down."""

    changes: ClassVar[Any] = DomainSet | DomainErased | OutcomeChange
    kinds: ClassVar[Mapping[str, Any]] = {"domains": DomainSet, **Outcomes.kinds}
    schema: ClassVar[int] = 1

    def __init__(self) -> None:
        self.domains: dict[InstanceId, str] = {}
        self.outcomes = Outcomes()

    def apply(self, change: DomainSet | DomainErased | OutcomeChange) -> None:
        match change:
            case DomainSet(instance, state):
                self.domains[instance] = state
            case DomainErased(instance):
                self.domains.pop(instance, None)
            case _:
                self.outcomes.apply(change)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        domains = [DomainSet(*item) for item in self.domains.items()]
        return {"domains": domains, **self.outcomes.snapshot()}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        host = cls()
        for noun in snapshot["domains"]:
            host.apply(noun)
        host.outcomes = Outcomes.restore(snapshot)
        return host


class Hardware:
    """A host's disks and domains, which outlive its process. A move is made at once, then takes its time."""

    def __init__(self) -> None:
        self.volumes: set[tuple[InstanceId, int]] = set()
        self.domains: dict[InstanceId, str] = {}

    def holds(self, instance: InstanceId) -> bool:
        return instance in self.domains or any(owner == instance for owner, _ in self.volumes)

    async def create_volumes(self, action: CreateVolumes, report: Report) -> Did:
        sizes = action.spec.disks_bytes
        for number, _size in enumerate(sizes):
            self.volumes.add((action.instance, number))
            await asyncio.sleep(0.4)
            report((number + 1) * 100 // len(sizes))
        return [], Nothing()

    async def remove_volumes(self, action: CreateVolumes) -> Changes:
        for volume in [volume for volume in sorted(self.volumes) if volume[0] == action.instance]:
            self.volumes.discard(volume)
            await asyncio.sleep(0.1)
        return []

    async def build(self, action: BuildInstance, _report: Report) -> Did:
        self.domains.setdefault(action.instance, "stopped")
        await asyncio.sleep(0.4)
        return [DomainSet(action.instance, "stopped")], Nothing()

    async def demolish(self, action: BuildInstance) -> Changes:
        self.domains.pop(action.instance, None)
        await asyncio.sleep(0.1)
        return [DomainErased(action.instance)]

    async def start(self, action: StartInstance, _report: Report) -> Did:
        if action.instance not in self.domains:
            raise Conflict(f"instance {action.instance} is not here", subject=action.instance)
        self.domains[action.instance] = "running"
        await asyncio.sleep(0.2)
        return [DomainSet(action.instance, "running")], Nothing()

    async def delete(self, action: DeleteInstance, report: Report) -> Did:
        self.domains.pop(action.instance, None)
        await asyncio.sleep(0.2)
        report(50)
        for volume in [volume for volume in sorted(self.volumes) if volume[0] == action.instance]:
            await asyncio.sleep(0.2)
            self.volumes.discard(volume)
        return [DomainErased(action.instance)], Nothing()


class Create(msgspec.Struct, frozen=True):
    """The notes of both tasks below."""

    instance: InstanceId
    spec: InstanceSpec
    binding: Binding | None = None


@step
def reserve(notes: Create, desk: Desk) -> Moved[Create]:
    if notes.instance in desk.instances:
        raise Exhausted(f"instance {notes.instance} is there already")
    return notes, [InstanceSet(notes.instance, "reserved")]


@reserve.undo
def unreserve(notes: Create, _desk: Desk) -> Changes:
    return [InstanceErased(notes.instance)]


@remote(Role.ADDRESSPOOL)
def lease_address(notes: Create) -> LeaseAddress:
    return LeaseAddress(POOL, owner_of(notes.instance), notes.instance)


@lease_address.done
def note_binding(notes: Create, result: Leased, _desk: Desk) -> Moved[Create]:
    return msgspec.structs.replace(notes, binding=result.binding), ()


@remote(HOST)
def create_volumes(notes: Create) -> CreateVolumes:
    return CreateVolumes(notes.instance, 1, notes.spec, None, None)


@step
def note_volumes(notes: Create, _desk: Desk) -> Moved[Create]:
    return notes, [InstanceSet(notes.instance, "with volumes")]


@note_volumes.undo
def unnote_volumes(notes: Create, _desk: Desk) -> Changes:
    return [InstanceSet(notes.instance, "reserved")]


@remote(HOST)
def build_instance(notes: Create) -> BuildInstance:
    return BuildInstance(notes.instance, 1, notes.spec, "00:16:3e:00:00:01", notes.binding)


@build_instance.done
def note_built(notes: Create, _result: Nothing, _desk: Desk) -> Moved[Create]:
    return notes, [InstanceSet(notes.instance, "created")]


@remote(HOST, no_undo="behind the pivot")
def start_instance(notes: Create) -> StartInstance:
    return StartInstance(notes.instance, 1, notes.binding)


@step(no_undo="behind the pivot")
def announce(notes: Create, _desk: Desk) -> Moved[Create]:
    return notes, [InstanceSet(notes.instance, "running")]


CREATE = Saga(
    "create",
    Create,
    (reserve, lease_address, create_volumes, note_volumes, build_instance, start_instance, announce),
    pivot=build_instance,
)


@step
def mark_deleting(notes: Create, _desk: Desk) -> Moved[Create]:
    return notes, [InstanceSet(notes.instance, "deleting")]


@mark_deleting.undo
def keep(notes: Create, _desk: Desk) -> Changes:
    return [InstanceSet(notes.instance, "running")]


@remote(HOST, no_undo="it is the pivot, and refuses before it touches anything")
def delete_instance(notes: Create) -> DeleteInstance:
    return DeleteInstance(notes.instance, 1)


@remote(Role.ADDRESSPOOL, no_undo="behind the pivot")
def release_address(notes: Create) -> ReleaseAddress:
    return ReleaseAddress(notes.instance)


@step(no_undo="behind the pivot")
def erase(notes: Create, _desk: Desk) -> Moved[Create]:
    return notes, [InstanceErased(notes.instance)]


REMOVE = Saga(
    "remove", Create, (mark_deleting, delete_instance, release_address, erase), pivot=delete_instance
)
