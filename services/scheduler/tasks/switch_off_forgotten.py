"""Switch off an instance that was given up, and runs all the same: its server came back after all.

Its address is free, or another's by now: no two may have it. Its disks stay as they are.
"""

import msgspec

from nano.model import action
from nano.model.action import Reported, StopMode
from nano.model.ids import CellId, InstanceId
from nano.model.peers import Peer, Role
from nano.saga.step import Moved, Saga, remote
from services.scheduler.inventory import Inventory


class SwitchOffForgotten(msgspec.Struct, frozen=True):
    instance: InstanceId
    cell: CellId
    epoch: int
    """As its cell says: there is no record of it any more."""


def cell_of(notes: SwitchOffForgotten) -> Peer:
    return Peer(Role.CELL, notes.cell)


@remote(cell_of, no_undo="nobody wants it on")
def switch_off(notes: SwitchOffForgotten) -> action.StopInstance:
    return action.StopInstance(notes.instance, notes.epoch, StopMode.FORCE)


@switch_off.done
def note_off(notes: SwitchOffForgotten, result: Reported, book: Inventory) -> Moved[SwitchOffForgotten]:
    return notes, book.reported(notes.cell, result.status)


SWITCH_OFF_FORGOTTEN = Saga("switch_off_forgotten", SwitchOffForgotten, (switch_off,))
