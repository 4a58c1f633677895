"""What the scheduler's steps ask of a cell, done: each handler may be cut off anywhere and run again.

A step is journalled before its handler touches the world, and what the handler changes in the book is one
line with the step's outcome. So a cell that was killed finds its open steps, and runs them again or back;
nothing else has to be remembered.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import structlog

from nano.model.action import (
    BuildInstance,
    CreateVolumes,
    DeleteInstance,
    Nothing,
    Reported,
    StartInstance,
    StopInstance,
    StopMode,
)
from nano.model.errors import Busy, Exhausted, Invalid, NanoError, Stale, TimedOut, Unreachable
from nano.model.ids import InstanceId, TaskId
from nano.saga.callee import Callee
from nano.saga.handlers import Did, Report, errand
from nano.saga.outcomes import OutcomePut
from nano.saga.step import Changes
from nano.shelf import Shelf
from services.cell.bindings import Bindings
from services.cell.disks import Base, Disks
from services.cell.host import Held, HeldPut, Host, Order, strays
from services.cell.hypervisor import Domain, Hypervisor, Machine
from services.cell.observer import Observer

AUTO_START = TaskId("auto-start")
"""Holds an instance while the cell starts it by itself."""

_PASSING = (Unreachable, TimedOut, Busy, Exhausted)
"""What may be over in a moment."""

TRY_AGAIN_S = 5.0
"""After what may pass by itself stood in the way of an instance that is due."""

_log = structlog.get_logger()


class Orders:
    """The hands of the cell."""

    def __init__(
        self,
        shelf: Shelf[Host],
        hypervisor: Hypervisor,
        disks: Disks,
        bindings: Bindings,
        observer: Observer,
    ) -> None:
        self._shelf = shelf
        self._hypervisor = hypervisor
        self._disks = disks
        self._bindings = bindings
        self._observer = observer

    def register(self, callee: Callee) -> None:
        callee.job(CreateVolumes, run=self.create_volumes, undo=self.remove_volumes)
        callee.job(BuildInstance, run=self.build, undo=self.unbuild)
        callee.job(StartInstance, run=self.start)
        callee.job(StopInstance, run=self.stop, undo=self.stop_asking)
        callee.job(DeleteInstance, run=self.delete)

    @property
    def _book(self) -> Host:
        return self._shelf.book

    # Steps

    async def create_volumes(self, order: CreateVolumes, report: Report) -> Did:
        with self._admitted(order) as task:
            self._book.check_new(order, task)
            await self._disks.create(
                order.instance,
                order.spec.disks_bytes,
                _base(order),
                used_bases=self._book.bases,
                progress=report,
            )
            return self._book.volumes_made(order, task), Nothing()

    async def remove_volumes(self, order: CreateVolumes) -> Changes:
        with self._book.claimed(order.instance, errand.get().task):
            if self._book.is_anothers(order.instance, errand.get().task):
                return ()
            await self._disks.remove(order.instance)
            return self._book.volumes_removed(order)

    async def build(self, order: BuildInstance, _report: Report) -> Did:
        with self._admitted(order):
            held = self._book.build(order)
            if order.binding is not None:
                await self._bindings.bind(order.mac, order.binding, order.spec.name)
            await self._hypervisor.define(self._machine(held))
            seen, status = await self._observer.look(held)
            return [HeldPut(held), *seen], Reported(status)

    async def unbuild(self, order: BuildInstance) -> Changes:
        with self._book.claimed(order.instance, errand.get().task):
            if self._book.is_anothers(order.instance, errand.get().task):
                return ()
            await self._remove_machine(order.instance)
            await self._bindings.unbind(order.mac)
            return self._book.unbuild(order)

    async def start(self, order: StartInstance, _report: Report) -> Did:
        with self._admitted(order):
            return await self._start(self._book.start(order))

    async def stop_asking(self, _order: StopInstance) -> Changes:
        """The job has been given up by now. What its guest made of the request is so, and is reported."""
        return ()

    async def stop(self, order: StopInstance, _report: Report) -> Did:
        with self._admitted(order):
            held = self._book.built(order.instance)
            if order.mode in {StopMode.REBOOT, StopMode.RESET}:
                await self._hypervisor.stop(held.id, order.mode, order.patience_s)
                seen, status = await self._observer.look(held)
                return seen, Reported(status)
            with self._observer.expecting_off(held.id):
                await self._hypervisor.stop(held.id, order.mode, order.patience_s)
                seen, status = await self._observer.look(held)
                return [*self._book.stopped(held.id), *seen], Reported(status)

    async def delete(self, order: DeleteInstance, _report: Report) -> Did:
        with self._admitted(order):
            held = self._book.instances.get(order.instance)
            with self._observer.expecting_off(order.instance):
                await self._remove_machine(order.instance)
            if held is not None and held.mac:
                await self._bindings.unbind(held.mac)
            await self._disks.remove(order.instance)
            return self._book.deleted(order.instance), Nothing()

    # The cell's own work

    async def start_due(self) -> None:
        """Start, under a claim, what is due; until cancelled. Sleeps until the book changes."""
        changed = asyncio.Event()
        changed.set()
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._tell_changes(changed), name="due instances")
            while True:
                await changed.wait()
                changed.clear()
                for held in self._book.due():
                    if not await self._start_by_itself(held.id):
                        asyncio.get_running_loop().call_later(TRY_AGAIN_S, changed.set)

    async def _tell_changes(self, changed: asyncio.Event) -> None:
        """A step that ended may have left one due, or was all that an older one waited for."""
        while True:
            try:
                async for _, changes in self._shelf.follow(self._shelf.cursor):
                    if any(isinstance(change, OutcomePut | HeldPut) for change in changes):
                        changed.set()
            except Stale:
                changed.set()
            else:
                return  # the shelf is being closed

    async def _start_by_itself(self, instance: InstanceId) -> bool:
        """Whether it is settled; what stands in the way for a moment only is tried again."""
        await self._shelf.durable()
        try:
            with self._book.claimed(instance, AUTO_START):
                # Since it was found due somebody may have stopped it, or removed it.
                held = next((each for each in self._book.due() if each.id == instance), None)
                if held is not None:
                    self._shelf.commit(*await self._started_by_itself(held))
        except _PASSING as error:
            _log.warning("instance.auto_start_waits", instance=instance, code=error.code, error=error.message)
            return False
        return True

    async def _started_by_itself(self, held: Held) -> Changes:
        """Running; or off, with the reason why it cannot be started."""
        settled = msgspec.structs.replace(held, due=False)
        try:
            changes, _ = await self._start(settled)
        except _PASSING:
            raise
        except NanoError as error:
            _log.error("instance.not_auto_started", instance=held.id, code=error.code, error=error.message)
            why = f"it could not be started by itself: {error.message}"
            return [HeldPut(settled), *self._book.statuses.explained(held.id, why)]
        _log.info("instance.auto_started", instance=held.id)
        return changes

    async def remove_strays(self, domains: list[Domain]) -> None:
        """Undefine what is left of creations that were killed and never settled."""
        for instance in strays(self._book, domains, self._disks.instances()):
            await self._hypervisor.undefine(instance)
            _log.warning("domain.stray_removed", instance=instance)

    # Parts

    @contextmanager
    def _admitted(self, order: Order) -> Iterator[TaskId]:
        """Not too late, and the instance is this task's alone while entered."""
        self._book.admit(order)
        task = errand.get().task
        with self._book.claimed(order.instance, task):
            yield task

    async def _start(self, held: Held) -> Did:
        if held.binding is not None:
            await self._bindings.bind(held.mac, held.binding, held.spec.name)
        # Defining anew is cheap, gives the machine its newest shape, and mends a definition that was lost.
        await self._hypervisor.define(self._machine(held))
        await self._hypervisor.start(held.id)
        seen, status = await self._observer.look(held)
        return [HeldPut(held), *seen], Reported(status)

    async def _remove_machine(self, instance: InstanceId) -> None:
        await self._hypervisor.stop(instance, StopMode.FORCE, 0)
        await self._hypervisor.undefine(instance)

    def _machine(self, held: Held) -> Machine:
        volumes = self._disks.paths(held.id, len(held.spec.disks_bytes))
        return Machine(held.id, held.epoch, held.spec, held.mac, volumes)


def _base(order: CreateVolumes) -> Base | None:
    if order.image is None:
        return None
    if order.content is None:
        raise Invalid("content", f"image {order.image} is to be cloned and its content is not given")
    return Base(order.image, order.content)
