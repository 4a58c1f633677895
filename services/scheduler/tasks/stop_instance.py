"""Switch an instance off, by its guest's own leave or by force; or restart it."""

from dataclasses import replace

import msgspec

from nano.model import action
from nano.model.action import Reported, StopMode
from nano.model.ids import CellId, InstanceId
from nano.model.instance import Wanted
from nano.model.peers import Peer, Role
from nano.saga.step import Changes, Moved, Saga, remote, step
from services.scheduler.inventory import InstancePut, Inventory


class StopInstance(msgspec.Struct, frozen=True):
    instance: InstanceId
    cell: CellId
    epoch: int
    mode: StopMode
    wanted_before: Wanted


def cell_of(notes: StopInstance) -> Peer:
    return Peer(Role.CELL, notes.cell)


@step
def want_stopped(notes: StopInstance, book: Inventory) -> Moved[StopInstance]:
    return notes, [InstancePut(replace(book.instance(notes.instance), wanted=Wanted.STOPPED))]


@want_stopped.when
def shall_stay_off(notes: StopInstance) -> bool:
    return notes.mode in {StopMode.GRACEFUL, StopMode.FORCE}


@want_stopped.undo
def want_as_before(notes: StopInstance, book: Inventory) -> Changes:
    return [InstancePut(replace(book.instance(notes.instance), wanted=notes.wanted_before))]


@remote(cell_of)
def stop_instance(notes: StopInstance) -> action.StopInstance:
    return action.StopInstance(notes.instance, notes.epoch, notes.mode)


@stop_instance.done
def note_status(notes: StopInstance, result: Reported, book: Inventory) -> Moved[StopInstance]:
    return notes, book.reported(notes.cell, result.status)


STOP_INSTANCE = Saga("stop_instance", StopInstance, (want_stopped, stop_instance), pivot=stop_instance)
REBOOT_INSTANCE = Saga("reboot_instance", StopInstance, (want_stopped, stop_instance), pivot=stop_instance)
"""The same story under the name that people know it by."""
