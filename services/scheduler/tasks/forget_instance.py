"""Take an instance off the record whose cell was removed. What lies on that server's disks stays there.

Nobody confirms that the address is out of use: whoever asks for this says so by it. The cell itself can say
nothing any more, since the zone takes no word from its key.
"""

from dataclasses import replace

import msgspec

from nano.model.action import ReleaseAddress
from nano.model.ids import InstanceId
from nano.model.peers import Role
from nano.saga.step import Changes, Moved, Saga, remote, step
from services.scheduler.given_up import GivenUpGone
from services.scheduler.inventory import InstancePut, Inventory


class ForgetInstance(msgspec.Struct, frozen=True):
    instance: InstanceId
    has_address: bool


@step
def mark_forgotten(notes: ForgetInstance, book: Inventory) -> Moved[ForgetInstance]:
    """Should its server come back while this waits for an address pool, it is switched off by then."""
    going = InstancePut(replace(book.instance(notes.instance), deleting=True))
    return notes, [going, *book.give_up(notes.instance)]


@mark_forgotten.undo
def keep(notes: ForgetInstance, book: Inventory) -> Changes:
    return [InstancePut(replace(book.instance(notes.instance), deleting=False)), GivenUpGone(notes.instance)]


@remote(Role.ADDRESSPOOL, no_undo="behind the pivot")
def release_address(notes: ForgetInstance) -> ReleaseAddress:
    return ReleaseAddress(notes.instance)


@release_address.when
def holds_one(notes: ForgetInstance) -> bool:
    return notes.has_address


@step(no_undo="behind the pivot")
def forget_instance(notes: ForgetInstance, book: Inventory) -> Moved[ForgetInstance]:
    return notes, book.forgotten(notes.instance)


FORGET_INSTANCE = Saga(
    "forget_instance",
    ForgetInstance,
    (mark_forgotten, release_address, forget_instance),
    pivot=mark_forgotten,
)
