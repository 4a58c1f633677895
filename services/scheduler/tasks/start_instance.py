"""Switch an instance on."""

from dataclasses import replace

import msgspec

from nano.model import action
from nano.model.action import Reported
from nano.model.address import Binding
from nano.model.ids import CellId, InstanceId
from nano.model.instance import Wanted
from nano.model.peers import Peer, Role
from nano.saga.step import Changes, Moved, Saga, remote, step
from services.scheduler.inventory import InstancePut, Inventory


class StartInstance(msgspec.Struct, frozen=True):
    instance: InstanceId
    cell: CellId
    epoch: int
    binding: Binding | None
    wanted_before: Wanted


def cell_of(notes: StartInstance) -> Peer:
    return Peer(Role.CELL, notes.cell)


@step
def want_running(notes: StartInstance, book: Inventory) -> Moved[StartInstance]:
    return notes, [InstancePut(replace(book.instance(notes.instance), wanted=Wanted.RUNNING))]


@want_running.undo
def want_as_before(notes: StartInstance, book: Inventory) -> Changes:
    return [InstancePut(replace(book.instance(notes.instance), wanted=notes.wanted_before))]


@remote(cell_of, no_undo="a start that is under way is waited for: what it came to stays")
def start_instance(notes: StartInstance) -> action.StartInstance:
    return action.StartInstance(notes.instance, notes.epoch, notes.binding)


@start_instance.done
def note_running(notes: StartInstance, result: Reported, book: Inventory) -> Moved[StartInstance]:
    return notes, book.reported(notes.cell, result.status)


START_INSTANCE = Saga("start_instance", StartInstance, (want_running, start_instance), pivot=start_instance)
