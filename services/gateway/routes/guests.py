"""`/guests/`: the documented word for instances. How one looks, and its life from creation to deletion."""

import msgspec

from nano import wire
from nano.contracts.nano import v1
from nano.model.errors import Cancelled, Conflict, Invalid, NotFound, Unsupported
from nano.model.ids import ImageId, InstanceId, PoolName, TemplateId
from nano.model.image import ImageKind
from nano.model.instance import CpuPriority, Instance, InstanceSpec, InstanceStatus, Power, Quality
from nano.model.pool import Presence
from nano.model.task import Task, TaskState, error_of
from nano.web import envelope
from nano.web.bodies import Count
from nano.web.envelope import Answer, local_time
from services.gateway import writes
from services.gateway.call import Call, Route, unfinished
from services.gateway.cursor import Book
from services.gateway.routes.compute_pool_cells import host_of
from services.gateway.routes.images import IdResult
from services.gateway.view import View

MODULES = ("qemu", "cloud-init")


class QoS(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Rates in bytes and operations a second; 0 is unlimited."""

    cpu_priority: str
    write_speed: Count = 0
    write_iops: Count = 0
    read_speed: Count = 0
    read_iops: Count = 0
    receive_speed: Count = 0
    send_speed: Count = 0


class AddressSet(msgspec.Struct, omit_defaults=True):
    network_address: str = ""
    """What the guest itself reports."""
    display_address: str = ""
    allocated_address: str = ""
    """What our DHCP gives it, with the prefix length."""


class Guest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An instance as it is answered; the last members are ours."""

    name: str
    id: str
    created: bool
    progress: int
    running: bool
    owner: str
    group: str
    cores: int
    memory: int
    total_disk: int
    disks: list[int]
    auto_start: bool
    internal: AddressSet
    external: AddressSet
    qos: QoS
    lost: bool = False
    pool: str = ""
    cell: str = ""
    host: str = ""
    """The address of its cell; in lists only."""
    system: str = ""
    ethernet_address: str = ""
    create_time: str = ""
    status: str
    """`stopped`, `running` or `paused`."""
    agent: bool
    """The guest agent is connected."""
    addresses: list[str]
    """All that the guest reports."""
    reason: str = ""
    """Why it is paused, or stopped when nobody asked for it."""
    simulated: bool = False
    """Its cell only pretends to run it."""


class CloudInit(msgspec.Struct):
    root_enabled: bool = False
    admin_name: str = ""
    admin_secret: str = ""
    data_path: str = "/opt/data"


class CreateGuest(msgspec.Struct, kw_only=True):
    name: str
    owner: str
    group: str
    pool: str
    cores: Count
    memory: Count
    disks: list[Count]
    """The system disk first."""
    template: str
    auto_start: bool = False
    from_image: str = ""
    modules: list[str] = []
    cloud_init: CloudInit | None = None
    """Read and left alone until cloud-init is built."""
    qos: QoS | None = None
    security_policy_group: str = ""


class Deletion(msgspec.Struct):
    force: bool = False
    """Without effect, as documented."""
    forget: bool = False
    """Ours: of a guest whose cell was removed from the zone. It goes off the record, nothing is erased."""


# ------------------------------------------------------------------ how one looks


def shown(instance: Instance, view: View, *, in_list: bool = False) -> Guest:
    spec = instance.spec
    status = view.statuses.get(instance.id) or InstanceStatus(instance.id, instance.epoch, 0)
    cell = view.cells.get(instance.cell)
    return Guest(
        name=spec.full_name,
        id=instance.id,
        created=instance.created,
        progress=0 if instance.created else progress_of(instance.id, view),
        running=status.power is Power.RUNNING,
        lost=cell is None or cell.presence is not Presence.ONLINE,
        owner=spec.owner,
        group=spec.group,
        pool=spec.pool,
        cell=instance.cell,
        host=host_of(cell) if in_list and cell is not None else "",
        cores=spec.cores,
        memory=spec.memory_bytes,
        total_disk=spec.disk_bytes,
        disks=list(spec.disks_bytes),
        auto_start=spec.auto_start,
        system=spec.devices.operating_system,
        ethernet_address=instance.mac,
        internal=_internal(instance, status),
        external=AddressSet(display_address=":0"),
        create_time=local_time(instance.created_ms),
        qos=limits(spec.quality),
        status=status.power,
        agent=status.agent,
        addresses=[str(address) for address in status.addresses],
        reason=status.reason,
        simulated=instance.simulated,
    )


def _internal(instance: Instance, status: InstanceStatus) -> AddressSet:
    binding = instance.binding
    return AddressSet(
        network_address=str(status.addresses[0]) if status.addresses else "",
        allocated_address=f"{binding.address}/{_prefix(int(binding.netmask))}" if binding else "",
    )


def _prefix(netmask: int) -> int:
    return netmask.bit_count()


def limits(quality: Quality) -> QoS:
    return QoS(
        cpu_priority=quality.cpu_priority,
        write_speed=quality.write_bytes_s,
        write_iops=quality.write_iops,
        read_speed=quality.read_bytes_s,
        read_iops=quality.read_iops,
        receive_speed=quality.receive_bytes_s,
        send_speed=quality.send_bytes_s,
    )


def progress_of(instance: InstanceId, view: View) -> int:
    creation = creation_of(instance, view)
    return creation.progress_percent if creation is not None else 0


def creation_of(instance: InstanceId, view: View) -> Task | None:
    """The task that makes or made it, as long as it is remembered."""
    return next((task for task in view.tasks_of(instance) if task.kind == "create_instance"), None)


# ------------------------------------------------------------------ handlers


async def read(call: Call[None]) -> Answer:
    """201 while it is being created; the error of its creation when that has failed or was cancelled."""
    wanted = InstanceId(call.params["id"])
    instance = call.view.instances.get(wanted)
    if instance is not None:
        return envelope.success(shown(instance, call.view), 200 if instance.created else 201)
    creation = creation_of(wanted, call.view)
    if creation is not None and creation.state is not TaskState.DONE:
        if creation.error is not None:
            raise error_of(creation.error)
        if creation.state.ended:
            raise Cancelled(f"the creation of guest {wanted} was cancelled", field="id", subject=wanted)
        raise unfinished(f"instance {wanted}")
    raise NotFound(f"there is no guest {wanted!r:.80}", field="id", subject=wanted)


async def create(call: Call[CreateGuest]) -> Answer:
    message = v1.CreateInstanceRequest(
        spec=wire.outgoing(_spec(call.body, call.view)), requester=writes.requester(call)
    )
    ref = await call.services.scheduler.create_instance(message, timeout=writes.RPC_S)
    return envelope.success(IdResult(ref.subject), 202, await writes.started(call.gateway, ref))


async def delete(call: Call[Deletion]) -> Answer:
    message = v1.InstanceRequest(instance=call.params["id"], requester=writes.requester(call))
    scheduler = call.services.scheduler
    end = scheduler.forget_instance if call.body.forget else scheduler.delete_instance
    ref = await end(message, timeout=writes.RPC_S)
    return await writes.ended(call.gateway, ref)


def _spec(body: CreateGuest, view: View) -> InstanceSpec:
    """What is asked for, with the devices of its template; the scheduler judges the rest."""
    template = view.templates.get(TemplateId(body.template))
    if not body.pool:
        raise Invalid("pool", "pool is missing")
    if template is None:
        raise NotFound(f"there is no template {body.template!r:.80}", field="template", subject=body.template)
    for index, module in enumerate(body.modules):
        if module not in MODULES:
            raise Invalid(f"modules[{index}]", f"module {module!r:.40} is unknown: give qemu or cloud-init")
    _check_promises(body)
    _check_image(body, view)
    return InstanceSpec(
        name=body.name,
        owner=body.owner,
        group=body.group,
        pool=PoolName(body.pool),
        cores=body.cores,
        memory_bytes=body.memory,
        disks_bytes=tuple(body.disks),
        template=template.id,
        devices=template.devices,
        image=ImageId(body.from_image) if body.from_image else None,
        auto_start=body.auto_start,
        modules=tuple(body.modules),
        quality=_quality(body.qos),
    )


def _check_promises(body: CreateGuest) -> None:
    """Nothing that was asked for is left out in silence."""
    for field, asked in (
        ("cloud_init", body.cloud_init is not None or "cloud-init" in body.modules),
        ("security_policy_group", bool(body.security_policy_group)),
    ):
        if asked:
            raise Unsupported(f"{field} is not offered yet: leave it out", field=field)


def _check_image(body: CreateGuest, view: View) -> None:
    """A first look, so that the client learns at once what the task would find out."""
    if not body.from_image:
        return
    image = view.images.get(ImageId(body.from_image))
    if image is None or image.kind is not ImageKind.DISK:
        raise NotFound(
            f"there is no disk image {body.from_image!r:.80}", field="from_image", subject=body.from_image
        )
    if image.content is None:
        raise Conflict(
            f"disk image {image.id} has no content yet: upload its file first",
            field="from_image",
            subject=image.id,
        )
    if body.disks and body.disks[0] < image.content.virtual_bytes:
        raise Invalid(
            "disks[0]",
            f"the system disk of {body.disks[0]} bytes is smaller than its image: give "
            f"{image.content.virtual_bytes} bytes or more",
        )


def _quality(qos: QoS | None) -> Quality:
    if qos is None:
        return Quality()
    try:
        priority = CpuPriority(qos.cpu_priority)
    except ValueError:
        raise Invalid(
            "qos.cpu_priority",
            f"qos.cpu_priority {qos.cpu_priority!r:.40} is unknown: give high, medium or low",
        ) from None
    return Quality(
        priority,
        qos.read_speed,
        qos.write_speed,
        qos.read_iops,
        qos.write_iops,
        qos.receive_speed,
        qos.send_speed,
    )


_ONE = "/guests/{id}"

ROUTES = (
    Route(
        "GET",
        _ONE,
        read,
        "Read a guest, and follow its creation",
        answer=Guest,
        reads=(Book.SCHEDULER,),
        statuses={200: "ready", 201: "still being created: see progress"},
    ),
    Route(
        "POST",
        "/guests/",
        create,
        "Create a guest",
        CreateGuest,
        IdResult,
        (Book.SCHEDULER, Book.IMAGESTORE),
        statuses={202: "accepted; follow it by GET /guests/{id} or the task in Nano-Task"},
    ),
    Route("DELETE", _ONE, delete, "Delete a stopped guest with its disks and address", Deletion),
)
