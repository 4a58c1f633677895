"""The scheduler's book: pools, cells, templates, instances, their last known status, tasks, and members.

Plain and synchronous. A method decides and returns the changes that follow; `apply` makes them so, for the
live book and for the replay alike. What a silent cell holds stays here, counted and protected.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeAlias

import msgspec

from nano.model import names
from nano.model.errors import Conflict, Exists, Forbidden, Invalid, NotFound
from nano.model.ids import CellId, InstanceId, PoolName, TemplateId
from nano.model.instance import Instance, InstanceSpec, InstanceStatus, Power
from nano.model.membership import Applicant
from nano.model.peers import Peer, Role
from nano.model.pool import Capabilities, Cell, Pool, Presence, Usage
from nano.model.template import Template
from nano.saga.record import About, PeerReadmitted, TaskChange
from nano.saga.tasks import Tasks
from services.scheduler.given_up import GivenUp, GivenUpChange, GivenUpPut, GivenUps
from services.scheduler.membership import Membership, MembershipChange
from services.scheduler.placement import Candidate, Load

DEFAULT_POOL = PoolName("default")
CORES_LIMIT = 256
MEMORY_LEAST_BYTES = 16 * 2**20
DISK_LEAST_BYTES = 2**20
DISKS_LIMIT = 16
_SHORT = 16
"""Digits of a fingerprint that a person is asked to type."""


class PoolPut(msgspec.Struct, frozen=True, tag="pool_put"):
    pool: Pool


class PoolGone(msgspec.Struct, frozen=True, tag="pool_gone"):
    name: PoolName


class CellPut(msgspec.Struct, frozen=True, tag="cell_put"):
    cell: Cell


class CellGone(msgspec.Struct, frozen=True, tag="cell_gone"):
    """It was shut out, and holds nothing any more."""

    id: CellId


class TemplatePut(msgspec.Struct, frozen=True, tag="template_put"):
    template: Template


class InstancePut(msgspec.Struct, frozen=True, tag="instance_put"):
    instance: Instance


class InstanceGone(msgspec.Struct, frozen=True, tag="instance_gone"):
    id: InstanceId


class StatusPut(msgspec.Struct, frozen=True, tag="status_put"):
    """What a cell reported."""

    status: InstanceStatus


NounChange: TypeAlias = (
    PoolPut | PoolGone | CellPut | CellGone | TemplatePut | InstancePut | InstanceGone | StatusPut
)
Change: TypeAlias = NounChange | MembershipChange | GivenUpChange | TaskChange


class Inventory:
    """What exists in the zone and where it runs."""

    changes: ClassVar[Any] = Change
    kinds: ClassVar[Mapping[str, Any]] = {
        "pools": Pool,
        "cells": Cell,
        "templates": Template,
        "instances": Instance,
        "statuses": InstanceStatus,
        **Membership.kinds,
        **GivenUps.kinds,
        **Tasks.kinds,
    }
    schema: ClassVar[int] = 2
    """2: members, applicants, join tokens, removals and authorities, and what was given up."""

    def __init__(self) -> None:
        self.pools: dict[PoolName, Pool] = {}
        self.cells: dict[CellId, Cell] = {}
        self.templates: dict[TemplateId, Template] = {}
        self.instances: dict[InstanceId, Instance] = {}
        self.statuses: dict[InstanceId, InstanceStatus] = {}
        self.membership = Membership()
        self.given_up = GivenUps()
        self.tasks = Tasks()
        self.usage: dict[str, Usage] = {}
        """The newest sample of each cell and instance: heard, ranked by, and never kept."""
        self._by_name: dict[tuple[PoolName, str], InstanceId] = {}
        self._by_cell: dict[CellId, set[InstanceId]] = {}
        self._loads: dict[CellId, Load] = {}

    # -------------------------------------------------------------- reading

    def pool(self, name: PoolName) -> Pool:
        if name not in self.pools:
            raise NotFound(f"there is no compute pool {name!r}", field="pool", subject=name)
        return self.pools[name]

    def cell(self, cell: CellId) -> Cell:
        if cell not in self.cells:
            raise NotFound(f"there is no cell {cell!r}", field="cell", subject=cell)
        return self.cells[cell]

    def instance(self, instance: InstanceId) -> Instance:
        if instance not in self.instances:
            raise NotFound(f"there is no instance {instance!r}", field="instance", subject=instance)
        return self.instances[instance]

    def status(self, instance: InstanceId) -> InstanceStatus | None:
        return self.statuses.get(instance)

    def on_cell(self, cell: CellId) -> list[Instance]:
        """What is recorded there, in order of id: creations under way included."""
        return [self.instances[one] for one in sorted(self._by_cell.get(cell, ()))]

    def load(self, cell: CellId) -> Load:
        return self._loads.get(cell, Load())

    def candidates(self, pool: PoolName) -> list[Candidate]:
        return [
            Candidate(cell, self.load(cell.id), self.usage.get(cell.id))
            for cell in self.cells.values()
            if cell.pool == pool
        ]

    def speaks_for(self, cell: CellId, subject: str) -> bool:
        """Whether `cell` may say how much `subject` uses: itself, or an instance that is recorded on it.

        A cell chooses its name, and an instance's id would do: then it is the instance that is meant.
        """
        instance = self.instances.get(InstanceId(subject))
        return subject == cell if instance is None else instance.cell == cell

    # -------------------------------------------------------------- instances

    def check_spec(self, spec: InstanceSpec) -> None:
        """Invalid, NotFound or Exists, naming the field, when such an instance cannot be."""
        for field, value in (("name", spec.name), ("owner", spec.owner), ("group", spec.group)):
            names.plain(field, value)
        pool = self.pool(spec.pool)
        if not pool.enabled:
            raise Conflict(f"compute pool {spec.pool} is disabled", field="pool", subject=spec.pool)
        if spec.template not in self.templates:
            raise NotFound(f"there is no template {spec.template!r}", field="template", subject=spec.template)
        _check_size(spec)
        taken = self._by_name.get((spec.pool, spec.full_name))
        if taken is not None:
            raise Exists(
                f"pool {spec.pool} has an instance {spec.full_name} already: {taken}",
                field="name",
                subject=taken,
            )

    def mac_is_free(self, mac: str) -> bool:
        return all(instance.mac != mac for instance in self.instances.values())

    def forgotten(self, instance: InstanceId) -> list[Change]:
        """It is on record no more; nor is its cell, if that was removed and held nothing else."""
        changes: list[Change] = [InstanceGone(instance)]
        record = self.instances.get(instance)
        cell = self.cells.get(record.cell) if record else None
        if cell is not None and cell.presence is Presence.REMOVED and self._by_cell[cell.id] == {instance}:
            changes.append(CellGone(cell.id))
        return changes

    def give_up(self, instance: InstanceId, *, may_come: bool = False) -> list[Change]:
        """Its record is about to go, and its cell cannot be asked what becomes of it there.

        `may_come`: the cell was making it, and never said whether it has.
        """
        record = self.instances.get(instance)
        if record is None:
            return []
        spec = record.spec
        one = GivenUp(
            instance,
            record.cell,
            About(spec.full_name, spec.owner, spec.group),
            may_come,
            at=record.cell if self._believed_on(instance) else CellId(""),
            epoch=record.epoch,
        )
        return [GivenUpPut(one)]

    # -------------------------------------------------------------- what cells report

    def cell_seen(self, cell: CellId, address: str, now_ms: int, first_pool: PoolName | None) -> list[Change]:
        """It is there; one never seen before enters `first_pool`, unless a person let it in and is to say
        where it goes. Unconfirmed until its account comes. One that was shut out, and speaks on until its
        link is closed, does not come back on record.
        """
        known = self.cells.get(cell)
        peer = Peer(Role.CELL, cell)
        is_known = known is not None and known.presence is not Presence.REMOVED
        if not is_known and self.membership.was_removed(peer):
            raise Forbidden(f"{peer} was removed from the zone", subject=str(peer))
        if known is None:
            by_itself = first_pool in self.pools and self.membership.enters_first_pool(peer)
            known = Cell(cell, first_pool if by_itself else None)
        changes: list[Change] = [
            CellPut(
                replace(known, presence=Presence.ONLINE, confirmed=False, address=address, seen_ms=now_ms)
            )
        ]
        if str(peer) in self.tasks.dead:  # it was removed, and let in again since
            changes.append(PeerReadmitted(str(peer)))
        return changes

    def cell_silent(self, cell: CellId, presence: Presence, now_ms: int) -> list[Change]:
        """It is there no more; nothing that it holds is forgotten. One that was removed stays so."""
        known = self.cells.get(cell)
        if known is None or known.presence is Presence.REMOVED:
            return []
        if known.presence is presence and not known.confirmed:
            return []
        return [CellPut(replace(known, presence=presence, confirmed=False, seen_ms=now_ms))]

    def nobody_is_confirmed(self, now_ms: int) -> list[Change]:
        """After our own restart: what cells last said may have changed since."""
        return [
            CellPut(replace(cell, presence=Presence.LOST, confirmed=False, seen_ms=now_ms))
            for cell in self.cells.values()
            if cell.confirmed or cell.presence is Presence.ONLINE
        ]

    def account(
        self,
        cell: CellId,
        incarnation: str,
        capabilities: Capabilities,
        statuses: Iterable[InstanceStatus],
        now_ms: int,
    ) -> list[Change]:
        """All that a cell holds. What we record on it and it does not name, it holds no more: off."""
        known = self.cell(cell)
        same_life = known.incarnation == incarnation
        changes: list[Change] = [
            CellPut(
                replace(
                    known,
                    presence=Presence.ONLINE,
                    confirmed=True,
                    capabilities=capabilities,
                    seen_ms=now_ms,
                    incarnation=incarnation,
                )
            )
        ]
        named = {status.instance: status for status in statuses}
        for status in named.values():
            changes += self._report(cell, status, same_life=same_life)
        for instance in self.on_cell(cell):
            if instance.id not in named and self._believed_on(instance.id):
                off = InstanceStatus(instance.id, instance.epoch, 0, reason="its cell does not hold it")
                changes.append(StatusPut(off))
        return [*changes, *self.given_up.account(cell, named)]

    def reported(self, cell: CellId, status: InstanceStatus) -> list[Change]:
        """One status; nothing follows from what is late, of a lower epoch, or of another cell's instance."""
        return [*self._report(cell, status, same_life=True), *self.given_up.reported(cell, status)]

    def _report(self, cell: CellId, status: InstanceStatus, *, same_life: bool) -> list[Change]:
        instance = self.instances.get(status.instance)
        if instance is None or instance.cell != cell or status.epoch < instance.epoch:
            return []
        last = self.statuses.get(status.instance)
        if last is not None and same_life and status.number <= last.number:
            return []
        return [StatusPut(status)]

    def _believed_on(self, instance: InstanceId) -> bool:
        status = self.status(instance)
        return status is not None and status.power is not Power.STOPPED

    # -------------------------------------------------------------- pools and cells

    def put_pool(self, pool: Pool) -> list[Change]:
        """Whose address pool changes must hold no address of the old one."""
        names.plain("name", pool.name)
        known = self.pools.get(pool.name)
        if known == pool:
            raise Conflict(f"compute pool {pool.name} is like that already", subject=pool.name)
        if known is not None and known.address_pool != pool.address_pool:
            self._check_no_address(known)
        return [PoolPut(pool)]

    def _check_no_address(self, pool: Pool) -> None:
        holder = next(
            (
                one
                for one in self.instances.values()
                if one.spec.pool == pool.name and one.binding is not None
            ),
            None,
        )
        if holder is not None:
            raise Conflict(
                f"instance {holder.id} of compute pool {pool.name} holds an address of {pool.address_pool}: "
                "its address pool can change only when no instance holds one",
                field="network",
                subject=pool.name,
            )

    def delete_pool(self, name: PoolName) -> list[Change]:
        self.pool(name)
        if held := sorted(cell.id for cell in self.cells.values() if cell.pool == name):
            raise Conflict(
                f"compute pool {name} has cells: take {', '.join(held)} out of it first",
                field="pool",
                subject=name,
            )
        return [PoolGone(name)]

    def add_cell(self, pool: PoolName, cell: CellId) -> list[Change]:
        """A member that was never seen yet may be put where it is to work; one that waits at the door not."""
        self.pool(pool)
        peer = Peer(Role.CELL, cell)
        known = self.cells.get(cell)
        if peer not in self.membership.members:
            if waiting := self.membership.claiming(peer):
                raise Conflict(_how_to_admit(cell, waiting), field="cell", subject=cell)
            known = self.cell(cell)
        known = known or Cell(cell, None)
        if known.pool is not None:
            way = "" if known.pool == pool else ": take it out of that one first"
            raise Conflict(f"cell {cell} is in pool {known.pool} already{way}", field="cell", subject=cell)
        return [CellPut(replace(known, pool=pool, enabled=True))]

    def add_first(self, pool: PoolName, cell: CellId, now_ms: int) -> list[Change]:
        """As `add_cell`; the only key that claims a name nobody ever had is let in by it."""
        peer = Peer(Role.CELL, cell)
        is_had = cell in self.cells or peer in self.membership.members
        if is_had or not self.membership.claiming(peer):
            return self.add_cell(pool, cell)
        self.pool(pool)
        return [*self.membership.admit_first(peer, now_ms), CellPut(Cell(cell, pool))]

    def remove_member(self, peer: Peer, now_ms: int) -> list[Change]:
        """Its key is refused from now on. A cell that holds instances stays on record with them.

        One that is on record without being a member (a zone of schema 1 kept none, a backup may be older
        than its coming) has no key that could be refused: it is given up as one that was removed is.
        """
        known = self.cells.get(CellId(peer.id)) if peer.role is Role.CELL else None
        changes: list[Change] = []
        if peer in self.membership.members or known is None or known.presence is Presence.REMOVED:
            changes += self.membership.remove(peer, now_ms)
        elif known.presence is Presence.ONLINE:
            raise Conflict(_how_to_part(known.id), field="id", subject=str(peer))
        if known is None:
            return changes
        if not self._by_cell.get(known.id):
            return [*changes, CellGone(known.id)]
        return [*changes, CellPut(replace(known, presence=Presence.REMOVED, confirmed=False))]

    def remove_cell(self, pool: PoolName, cell: CellId) -> list[Change]:
        known = self._in_pool(pool, cell)
        if held := len(self._by_cell.get(cell, ())):
            way = "have them forgotten" if known.presence is Presence.REMOVED else "delete or move them"
            raise Conflict(f"cell {cell} holds {held} instance(s): {way} first", field="cell", subject=cell)
        return [CellPut(replace(known, pool=None))]

    def enable_cell(self, pool: PoolName, cell: CellId, *, enabled: bool) -> list[Change]:
        known = self._in_pool(pool, cell)
        if known.enabled == enabled:
            word = "enabled" if enabled else "disabled"
            raise Conflict(f"cell {cell} is {word} already", field="enable", subject=cell)
        return [CellPut(replace(known, enabled=enabled))]

    def _in_pool(self, pool: PoolName, cell: CellId) -> Cell:
        known = self.cell(cell)
        if known.pool != pool:
            raise NotFound(f"cell {cell} is not in pool {pool}", field="cell", subject=cell)
        return known

    # -------------------------------------------------------------- one way in

    def apply(self, change: Change) -> None:
        if isinstance(change, NounChange):
            self._apply(change)
        elif isinstance(change, MembershipChange):
            self.membership.apply(change)
        elif isinstance(change, GivenUpChange):
            self.given_up.apply(change)
        else:
            self.tasks.apply(change)

    def _apply(self, change: NounChange) -> None:
        match change:
            case PoolPut(pool):
                self.pools[pool.name] = pool
            case PoolGone(name):
                self.pools.pop(name, None)
            case CellPut(cell):
                self.cells[cell.id] = cell
            case CellGone(cell_id):
                self.cells.pop(cell_id, None)
            case TemplatePut(template):
                self.templates[template.id] = template
            case InstancePut(instance):
                self._forget_indexed(instance.id)
                self.instances[instance.id] = instance
                self._by_name[instance.spec.pool, instance.spec.full_name] = instance.id
                self._by_cell.setdefault(instance.cell, set()).add(instance.id)
                self._loads[instance.cell] = self.load(instance.cell).plus(instance.spec)
            case InstanceGone(instance_id):
                self._forget_indexed(instance_id)
                self.instances.pop(instance_id, None)
                self.statuses.pop(instance_id, None)
            case StatusPut(status):
                self.statuses[status.instance] = status

    def _forget_indexed(self, instance_id: InstanceId) -> None:
        old = self.instances.get(instance_id)
        if old is None:
            return
        self._by_name.pop((old.spec.pool, old.spec.full_name), None)
        self._by_cell.get(old.cell, set()).discard(instance_id)
        self._loads[old.cell] = self.load(old.cell).minus(old.spec)

    def snapshot(self) -> Mapping[str, Sequence[Any]]:
        return {
            "pools": list(self.pools.values()),
            "cells": list(self.cells.values()),
            "templates": list(self.templates.values()),
            "instances": list(self.instances.values()),
            "statuses": list(self.statuses.values()),
            **self.membership.snapshot(),
            **self.given_up.snapshot(),
            **self.tasks.snapshot(),
        }

    @classmethod
    def upgrade(cls, snapshot: dict[str, list[Any]], from_schema: int) -> dict[str, list[Any]]:  # noqa: ARG003
        """A zone of schema 1 kept no members: they are taken in when they next enrol or renew."""
        return snapshot

    @classmethod
    def upgrade_change(cls, change: Any, from_schema: int) -> list[Any]:  # noqa: ARG003 - grew, no more
        return [change]

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> Self:
        book = cls()
        for pool in snapshot["pools"]:
            book.apply(PoolPut(pool))
        for cell in snapshot["cells"]:
            book.apply(CellPut(cell))
        for template in snapshot["templates"]:
            book.apply(TemplatePut(template))
        for instance in snapshot["instances"]:
            book.apply(InstancePut(instance))
        for status in snapshot["statuses"]:
            book.apply(StatusPut(status))
        book.membership = Membership.restore(snapshot)
        book.given_up = GivenUps.restore(snapshot)
        book.tasks = Tasks.restore(snapshot)
        return book


def _how_to_admit(cell: CellId, waiting: Sequence[Applicant]) -> str:
    if len(waiting) == 1:
        command = f"nanoctl cell admit {waiting[0].fingerprint[:_SHORT]}"
        return f"cell {cell} waits to be let in: compare the code that it shows, then run: {command}"
    keys = ", ".join(one.fingerprint[:_SHORT] for one in waiting)
    return (
        f"{len(waiting)} keys claim to be cell {cell} ({keys}): compare the codes that they show, then run: "
        "nanoctl cell admit FINGERPRINT"
    )


def _how_to_part(cell: CellId) -> str:
    return (
        f"cell {cell} is there, and the zone does not know by which key, which it learns when that server "
        "renews its certificate (within a week): remove it then, or stop that server first"
    )


def _check_size(spec: InstanceSpec) -> None:
    if not (spec.cores == 1 or (spec.cores % 2 == 0 and 0 < spec.cores <= CORES_LIMIT)):
        raise Invalid(
            "cores", f"cores {spec.cores} is not allowed: give 1 or an even number up to {CORES_LIMIT}"
        )
    if spec.memory_bytes < MEMORY_LEAST_BYTES:
        raise Invalid(
            "memory", f"memory {spec.memory_bytes} is too little: give {MEMORY_LEAST_BYTES} bytes or more"
        )
    if not 1 <= len(spec.disks_bytes) <= DISKS_LIMIT:
        raise Invalid("disks", f"{len(spec.disks_bytes)} disks are not allowed: give 1 to {DISKS_LIMIT}")
    for index, size in enumerate(spec.disks_bytes):
        if size < DISK_LEAST_BYTES:
            raise Invalid(
                f"disks[{index}]",
                f"disk {index} of {size} bytes is too small: give {DISK_LEAST_BYTES} or more",
            )
