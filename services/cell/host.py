"""The cell's book: which instances this host holds, what was asked of them, and the outcomes of steps.

Pure. A method decides and returns the changes; the shelf commits them and calls `apply`. What was asked is
here; what is so (power, agent, addresses) is in `statuses.py`, what became of steps in `nano.saga.outcomes`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias

import msgspec

from nano.model.action import (
    BuildInstance,
    CreateVolumes,
    DeleteInstance,
    Progress,
    StartInstance,
    StopInstance,
)
from nano.model.address import Binding
from nano.model.errors import Conflict, Exists, NotFound
from nano.model.ids import InstanceId, TaskId
from nano.model.image import Content
from nano.model.instance import InstanceSpec, Power, Wanted
from nano.saga.claims import Claims
from nano.saga.outcomes import OutcomeChange, OutcomePut, Outcomes, OutcomesForgotten
from services.cell.hypervisor import Domain
from services.cell.statuses import StatusChange, Statuses, StatusGone, StatusPut

Order: TypeAlias = CreateVolumes | BuildInstance | StartInstance | StopInstance | DeleteInstance
"""The actions that are the cell's."""


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """An instance on this host, from its volumes on."""

    id: InstanceId
    epoch: int
    spec: InstanceSpec
    maker: TaskId = TaskId("")
    """The task that put it here; only that one takes it back."""
    base: str = ""
    """File name of the base that its system disk is an overlay on; never evicted as long as this stands."""
    built: bool = False
    """It has a domain and is reported; before that only its volumes are here."""
    mac: str = ""
    binding: Binding | None = None
    wanted: Wanted = Wanted.STOPPED
    due: bool = False
    """The cell is to start it by itself, and has not yet."""


class HeldPut(msgspec.Struct, frozen=True, tag="held_put"):
    """The instance is now like this."""

    held: Held


class HeldGone(msgspec.Struct, frozen=True, tag="held_gone"):
    """Nothing of it is on this host any more."""

    instance: InstanceId


class HostBooted(msgspec.Struct, frozen=True, tag="host_booted"):
    """The host runs under this boot id; what may start by itself is due."""

    boot: str


HostChange: TypeAlias = HeldPut | HeldGone | HostBooted | StatusChange | OutcomeChange


class Host:
    """`Book` of the cell."""

    changes: ClassVar[Any] = HostChange
    kinds: ClassVar[Mapping[str, Any]] = {"instances": Held, "boots": str, **Statuses.kinds, **Outcomes.kinds}
    schema: ClassVar[int] = 1

    def __init__(
        self,
        instances: Sequence[Held] = (),
        boot: str = "",
        statuses: Statuses | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        self.instances: dict[InstanceId, Held] = {held.id: held for held in instances}
        self.boot = boot
        self.statuses = Statuses() if statuses is None else statuses
        self.outcomes = Outcomes() if outcomes is None else outcomes  # one that is empty may remember
        self._claims = Claims()
        """Who works on which instance at this moment; a restart begins with none."""

    # The book

    def apply(self, change: HostChange) -> None:
        match change:
            case HeldPut(held):
                self.instances[held.id] = held
            case HeldGone(instance):
                self.instances.pop(instance, None)
            case HostBooted(boot):
                self.boot = boot
            case StatusPut() | StatusGone():
                self.statuses.apply(change)
            case OutcomePut() | OutcomesForgotten():
                self.outcomes.apply(change)

    def snapshot(self) -> dict[str, Sequence[Any]]:
        return {
            "instances": list(self.instances.values()),
            "boots": [self.boot] if self.boot else [],
            **self.statuses.snapshot(),
            **self.outcomes.snapshot(),
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Sequence[Any]]) -> "Host":
        boot = snapshot["boots"][0] if snapshot["boots"] else ""
        return cls(snapshot["instances"], boot, Statuses.restore(snapshot), Outcomes.restore(snapshot))

    # Reading

    def built(self, instance: InstanceId) -> Held:
        """`NotFound` when the instance is not, or not wholly, on this host."""
        held = self.instances.get(instance)
        if held is None or not held.built:
            raise NotFound(f"instance {instance} is not on this host", subject=instance)
        return held

    def binding(self, instance: InstanceId) -> Binding | None:
        held = self.instances.get(instance)
        return held.binding if held else None

    def bases(self) -> set[str]:
        """Those that volumes refer to, or will: volumes may be made and their record not yet."""
        asked = (record.action for record in self.outcomes if isinstance(record.action, CreateVolumes))
        return {held.base for held in self.instances.values() if held.base} | {
            base_name(order.content) for order in asked if order.content is not None
        }

    def bound(self) -> dict[str, tuple[Binding, str]]:
        """What the DHCP responder is to serve: binding and host name by MAC."""
        return {
            held.mac: (held.binding, held.spec.name)
            for held in self.instances.values()
            if held.built and held.binding is not None
        }

    def concerned(self) -> set[InstanceId]:
        """Instances that a step under way concerns, forward or back: nobody else may tidy after them."""
        open_steps = {Progress.BEGUN, Progress.UNDOING}
        return {
            record.action.instance
            for record in self.outcomes
            if record.progress in open_steps and isinstance(record.action, Order)
        }

    def due(self) -> list[Held]:
        """Those that the cell is to start by itself; what an open step concerns is left to that step."""
        concerned = self.concerned()
        return [held for held in self.instances.values() if held.due and held.id not in concerned]

    # Deciding

    def booted(self, boot: str) -> list[HostChange]:
        """After the host's start: what ran, or was to, and may start by itself becomes due.

        The first boot that the book hears of is the one in which it was made.
        """
        if self.boot == boot:
            return []
        again = [
            held
            for held in self.instances.values()
            if self.boot and held.built and held.wanted is Wanted.RUNNING and held.spec.auto_start
        ]
        return [*(HeldPut(msgspec.structs.replace(held, due=True)) for held in again), HostBooted(boot)]

    def admit(self, order: Order) -> None:
        """`Conflict` when the order is of an older ownership than the one that this host has."""
        held = self.instances.get(order.instance)
        if held is not None and order.epoch < held.epoch:
            raise Conflict(
                f"instance {order.instance} is held here under epoch {held.epoch}, the order is of epoch "
                f"{order.epoch}: it is too late",
                subject=order.instance,
            )

    @contextmanager
    def claimed(self, instance: InstanceId, holder: TaskId) -> Iterator[None]:
        """Held by one task, or by the cell's own work, while entered; `Busy` names who was first."""
        name = (f"instance/{instance}",)
        self._claims.check(name)
        self._claims.take(name, holder)
        try:
            yield
        finally:
            self._claims.release(name, holder)

    def check_new(self, order: CreateVolumes, task: TaskId) -> None:
        """`Exists` when another task has put the instance here."""
        held = self.instances.get(order.instance)
        if held is not None and held.maker != task:
            raise Exists(f"instance {order.instance} is on this host already", subject=order.instance)

    def is_anothers(self, instance: InstanceId, task: TaskId) -> bool:
        """What the task would take back is not of its making."""
        held = self.instances.get(instance)
        return held is not None and held.maker != task

    def volumes_made(self, order: CreateVolumes, task: TaskId) -> list[HostChange]:
        base = base_name(order.content) if order.content else ""
        return [HeldPut(Held(order.instance, order.epoch, order.spec, maker=task, base=base))]

    def volumes_removed(self, order: CreateVolumes) -> list[HostChange]:
        return self.deleted(order.instance)

    def build(self, order: BuildInstance) -> Held:
        """The instance as it is once it is built; `NotFound` when its volumes were never made here.

        One that shall start right after its creation is due: its cell sees to that, with the step done.
        """
        held = self.instances.get(order.instance)
        if held is None:
            raise NotFound(f"instance {order.instance} has no volumes on this host", subject=order.instance)
        return Held(
            held.id,
            order.epoch,
            order.spec,
            maker=held.maker,
            base=held.base,
            built=True,
            mac=order.mac,
            binding=order.binding,
            wanted=Wanted.RUNNING if order.spec.auto_start else Wanted.STOPPED,
            due=order.spec.auto_start,
        )

    def unbuild(self, order: BuildInstance) -> list[HostChange]:
        """Back to what it was before: volumes without a machine."""
        held = self.instances.get(order.instance)
        if held is None or not held.built:
            return []
        bare = Held(held.id, held.epoch, held.spec, maker=held.maker, base=held.base)
        return [HeldPut(bare), *self.statuses.gone(held.id)]

    def start(self, order: StartInstance) -> Held:
        """The instance as it is once it runs; a binding that comes along is the newest.

        `Conflict` when the order is of an ownership that this host was never given.
        """
        held = self.built(order.instance)
        if order.epoch > held.epoch:
            raise Conflict(
                f"instance {order.instance} is held here under epoch {held.epoch}, it cannot be started "
                f"under epoch {order.epoch}: it was not built here for that",
                subject=order.instance,
            )
        binding = order.binding or held.binding
        return msgspec.structs.replace(held, wanted=Wanted.RUNNING, binding=binding, due=False)

    def stopped(self, instance: InstanceId) -> list[HostChange]:
        held = self.instances.get(instance)
        if held is None:
            return []
        return _changed(held, msgspec.structs.replace(held, wanted=Wanted.STOPPED, due=False))

    def deleted(self, instance: InstanceId) -> list[HostChange]:
        gone = [HeldGone(instance)] if instance in self.instances else []
        return [*gone, *self.statuses.gone(instance)]

    def seen(
        self, held: Held, domain: Domain | None, *, now_ms: int, asked_off: bool, otherwise: str = ""
    ) -> list[HostChange]:
        """The instance as the hypervisor shows it now: see `Statuses.seen`."""
        return [
            *self.statuses.seen(
                held.id,
                held.epoch,
                domain,
                now_ms=now_ms,
                asked_off=asked_off or held.wanted is Wanted.STOPPED,
                otherwise=otherwise,
            )
        ]


def base_name(content: Content) -> str:
    """The file name of a base: what it holds, so that the same bytes are kept once."""
    return f"{content.blake3}.{content.format}"


def strays(book: Host, domains: Iterable[Domain], volumes: AbstractSet[InstanceId]) -> list[InstanceId]:
    """Domains of ours that are left of a creation that was killed: safe to undefine.

    One that runs, whose volumes are there, or that an open step concerns, is never among them: a book that
    was lost or restored from a backup must not cost anybody a machine.
    """
    spared = book.instances.keys() | book.concerned() | volumes
    return [each.instance for each in domains if each.power is Power.STOPPED and each.instance not in spared]


def _changed(before: Held, after: Held) -> list[HostChange]:
    return [] if before == after else [HeldPut(after)]
