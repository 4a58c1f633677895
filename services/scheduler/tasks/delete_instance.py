"""Remove an instance and all that it held. It only goes forward: half an instance is of use to nobody.

The address is released after the cell has confirmed that nothing uses it any more, and the record goes last,
so that whatever is left over always has a name.
"""

from dataclasses import replace

import msgspec

from nano.model import action
from nano.model.action import ReleaseAddress
from nano.model.ids import CellId, InstanceId
from nano.model.peers import Peer, Role
from nano.saga.step import Changes, Moved, Saga, remote, step
from services.scheduler.inventory import InstancePut, Inventory


class DeleteInstance(msgspec.Struct, frozen=True):
    instance: InstanceId
    cell: CellId
    epoch: int
    has_address: bool


def cell_of(notes: DeleteInstance) -> Peer:
    return Peer(Role.CELL, notes.cell)


@step
def mark_deleting(notes: DeleteInstance, book: Inventory) -> Moved[DeleteInstance]:
    return notes, [InstancePut(replace(book.instance(notes.instance), deleting=True))]


@mark_deleting.undo
def keep(notes: DeleteInstance, book: Inventory) -> Changes:
    return [InstancePut(replace(book.instance(notes.instance), deleting=False))]


@remote(cell_of, no_undo="behind the pivot")
def delete_instance(notes: DeleteInstance) -> action.DeleteInstance:
    return action.DeleteInstance(notes.instance, notes.epoch)


@delete_instance.abandoned
def may_be_there(notes: DeleteInstance, book: Inventory) -> Changes:
    """Its cell was removed before it said that nothing is left."""
    return book.give_up(notes.instance)


@remote(Role.ADDRESSPOOL, no_undo="behind the pivot")
def release_address(notes: DeleteInstance) -> ReleaseAddress:
    return ReleaseAddress(notes.instance)


@release_address.when
def holds_one(notes: DeleteInstance) -> bool:
    return notes.has_address


@step(no_undo="behind the pivot")
def forget_instance(notes: DeleteInstance, book: Inventory) -> Moved[DeleteInstance]:
    return notes, book.forgotten(notes.instance)


DELETE_INSTANCE = Saga(
    "delete_instance",
    DeleteInstance,
    (mark_deleting, delete_instance, release_address, forget_instance),
    pivot=mark_deleting,
)
