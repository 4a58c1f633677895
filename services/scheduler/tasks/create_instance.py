"""From a request to an instance that is durable on its cell, or to nothing at all."""

from dataclasses import replace

import msgspec

from nano.model.action import BuildInstance, CreateVolumes, LeaseAddress, Leased, PinImage, Pinned, Reported
from nano.model.address import Binding, owner_of
from nano.model.errors import Internal
from nano.model.ids import AddressPoolName, CellId, InstanceId, TaskId
from nano.model.image import Content, ImageKind
from nano.model.instance import Instance, InstanceSpec, Wanted
from nano.model.peers import Peer, Role
from nano.model.pool import VirtType
from nano.saga.step import Changes, Moved, Saga, remote, step
from services.scheduler.inventory import InstancePut, Inventory
from services.scheduler.placement import place

FIRST_EPOCH = 1


class CreateInstance(msgspec.Struct, frozen=True):
    """The notes: ids are minted before the first step."""

    task: TaskId
    instance: InstanceId
    spec: InstanceSpec
    mac: str
    created_ms: int
    address_pool: AddressPoolName | None
    """The compute pool's, as it was when the task began."""
    cell: CellId = CellId("")
    content: Content | None = None
    binding: Binding | None = None


def cell_of(notes: CreateInstance) -> Peer:
    return Peer(Role.CELL, notes.cell)


@step
def reserve_room(notes: CreateInstance, book: Inventory) -> Moved[CreateInstance]:
    """Choose the cell; from here on the room counts as taken."""
    book.check_spec(notes.spec)
    pool = book.pool(notes.spec.pool)
    cell = book.cell(place(notes.spec, book.candidates(pool.name), pool.policy).cell)
    instance = Instance(
        id=notes.instance,
        spec=notes.spec,
        cell=cell.id,
        epoch=FIRST_EPOCH,
        mac=notes.mac,
        created_ms=notes.created_ms,
        task=notes.task,
        simulated=cell.capabilities is not None and cell.capabilities.virt_type is VirtType.SIMULATED,
    )
    return msgspec.structs.replace(notes, cell=cell.id), [InstancePut(instance)]


@reserve_room.undo
def free_room(notes: CreateInstance, book: Inventory) -> Changes:
    return book.forgotten(notes.instance)


@remote(Role.IMAGESTORE)
def pin_image(notes: CreateInstance) -> PinImage:
    """Hold the image's bytes until the task has ended: nobody deletes or replaces them under the copy."""
    if notes.spec.image is None:
        raise Internal(f"task for {notes.instance} pins an image that it does not have")
    return PinImage(notes.spec.image, ImageKind.DISK, notes.cell)


@pin_image.when
def from_image(notes: CreateInstance) -> bool:
    return notes.spec.image is not None


@pin_image.done
def note_content(notes: CreateInstance, result: Pinned, _book: Inventory) -> Moved[CreateInstance]:
    return msgspec.structs.replace(notes, content=result.content), ()


@remote(Role.ADDRESSPOOL)
def lease_address(notes: CreateInstance) -> LeaseAddress:
    if notes.address_pool is None:
        raise Internal(f"task for {notes.instance} leases an address from no pool")
    return LeaseAddress(notes.address_pool, owner_of(notes.instance), notes.instance)


@lease_address.when
def pool_has_addresses(notes: CreateInstance) -> bool:
    return notes.address_pool is not None


@lease_address.done
def note_binding(notes: CreateInstance, result: Leased, book: Inventory) -> Moved[CreateInstance]:
    bound = replace(book.instance(notes.instance), binding=result.binding)
    return msgspec.structs.replace(notes, binding=result.binding), [InstancePut(bound)]


@remote(cell_of)
def create_volumes(notes: CreateInstance) -> CreateVolumes:
    return CreateVolumes(notes.instance, FIRST_EPOCH, notes.spec, notes.spec.image, notes.content)


@remote(cell_of)
def build_instance(notes: CreateInstance) -> BuildInstance:
    return BuildInstance(notes.instance, FIRST_EPOCH, notes.spec, notes.mac, notes.binding)


@build_instance.done
def announce(notes: CreateInstance, result: Reported, book: Inventory) -> Moved[CreateInstance]:
    """It is there: the record stops being a reservation. Its cell starts it by itself if it shall be."""
    wanted = Wanted.RUNNING if notes.spec.auto_start else Wanted.STOPPED
    created = replace(book.instance(notes.instance), created=True, task=None, wanted=wanted)
    return notes, [InstancePut(created), *book.reported(notes.cell, result.status)]


@build_instance.abandoned
def may_be_built(notes: CreateInstance, book: Inventory) -> Changes:
    """Its cell may have it, and start it, under an address that is free for others in a moment."""
    return book.give_up(notes.instance, may_come=True)


CREATE_INSTANCE = Saga(
    "create_instance",
    CreateInstance,
    (reserve_room, pin_image, lease_address, create_volumes, build_instance),
    pivot=build_instance,
)
